//! The checked-in code is what the .proto says, generated without protoc.

use std::path::Path;

use quotakeeper_wire::codec::METHOD;

const PROTO: &str = "quotakeeper/session/v1/session.proto";
const GENERATED: &str = "quotakeeper.session.v1.rs";

#[test]
fn the_checked_in_code_is_up_to_date() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile([PROTO], [house.join("proto")]).unwrap();
    let out = std::env::temp_dir().join(format!("quotakeeper-proto-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    prost_build::Config::new().out_dir(&out).compile_fds(descriptors).unwrap();
    let generated = std::fs::read_to_string(out.join(GENERATED)).unwrap();
    std::fs::remove_dir_all(&out).unwrap();

    let path = house.join("src/codec/generated").join(GENERATED);
    if std::env::var_os("UPDATE_PROTO").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(present == generated, "{GENERATED} is stale; run: make generate");
}

#[test]
fn the_method_is_the_one_of_the_proto() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([PROTO], [house.join("proto")]).unwrap().file;
    let file = files.iter().find(|file| file.name() == PROTO).unwrap();
    let [service] = &file.service[..] else { panic!("one service, not {}", file.service.len()) };
    let [method] = &service.method[..] else { panic!("one method, not {}", service.method.len()) };
    assert_eq!(METHOD, format!("/{}.{}/{}", file.package(), service.name(), method.name()));
    assert!(method.client_streaming() && method.server_streaming());
}
