//! Programs that know no base URL are served under their provider's own name: TLS by the proxy's CA, HTTP/1.1
//! and HTTP/2, the real address from an override (as from DNS) and never from the hosts file.

use std::io::Write;
use std::process::{Command, Output};

use counting_provider::{Protocol, Provider};
use http::Uri;
use quotakeeper_proxy::{HostsListeners, Proxy, StartError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::client::{self, Client};
use crate::{limiter, world};

const HOST: &str = "api.hubapi.com";
const CONTACTS: &str = "/crm/v3/objects/contacts?limit=1";

async fn intercepting() -> (Provider, Proxy) {
    let (provider, _) = world::provider().await;
    let quota = world::plenty();
    let mut settings = world::settings(vec![world::account("hubspot", None, quota.clone())]);
    settings.hosts = Some(HostsListeners { https: vec![world::free()], http: vec![world::free()] });
    settings.extra_cas = vec![provider.ca_pem().to_owned()];
    settings.resolve = vec![
        format!("{HOST}:443:{}", provider.https().unwrap()).parse().unwrap(),
        format!("{HOST}:80:{}", provider.http().unwrap()).parse().unwrap(),
    ];
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    (provider, proxy)
}

fn contacts(authority: &str, http2: bool) -> http::Request<client::Body> {
    let path = if http2 { format!("https://{authority}{CONTACTS}") } else { CONTACTS.to_owned() };
    let mut request = client::request("GET", &path, "");
    if http2 {
        request.headers_mut().remove("host");
    } else {
        request.headers_mut().insert("host", authority.parse().unwrap());
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_gets_the_protocol_of_the_client() {
    let (provider, proxy) = intercepting().await;
    assert_eq!(proxy.host_names(), [HOST, "api.hubspot.com"]);
    assert_eq!(proxy.host_names(), proxy.host_names_without_base_url());
    let address = proxy.https_addrs()[0];
    let root = proxy.root_pem().unwrap().to_owned();
    for http2 in [false, true] {
        let mut client = Client::tls(address, HOST, &root, http2).await.unwrap();
        for authority in [HOST.to_owned(), format!("{HOST}:{}", address.port())] {
            let got = client.send(contacts(&authority, http2)).await;
            assert_eq!(got.status, 200, "{}", got.text());
            assert!(got.header("x-hubspot-ratelimit-max").is_some());
        }
    }
    let log = provider.log("key");
    let protocols: Vec<_> = log.iter().map(|entry| entry.protocol).collect();
    assert_eq!(protocols, [Protocol::H1, Protocol::H1, Protocol::H2, Protocol::H2]);
    // Each protocol's two calls came on one connection.
    assert_eq!(log[0].connection, log[1].connection);
    assert_eq!(log[2].connection, log[3].connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_at_once_share_one_http2_connection() {
    let (provider, proxy) = intercepting().await;
    let root = proxy.root_pem().unwrap();
    let Client::Http2(sender) = Client::tls(proxy.https_addrs()[0], HOST, root, true).await.unwrap() else {
        panic!("HTTP/2 was asked for")
    };
    let calls: Vec<_> = (0..90)
        .map(|_| {
            let mut sender = sender.clone();
            tokio::spawn(async move { sender.send_request(contacts(HOST, true)).await.unwrap().status() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    let log = provider.log("key");
    assert_eq!(log.len(), 90);
    assert!(log.iter().all(|entry| entry.connection == log[0].connection));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_served_and_unknown_hosts_are_refused() {
    let (provider, proxy) = intercepting().await;
    let address = proxy.http_addrs()[0];
    let got = client::send(address, contacts(HOST, false)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(provider.log("key").len(), 1);
    let got = client::send(address, contacts("api.example.com", false)).await;
    assert_eq!(got.status, 421);
    assert!(got.text().contains("serves api.hubapi.com, api.hubspot.com here"), "{}", got.text());

    let root = proxy.root_pem().unwrap();
    let stranger = Client::tls(proxy.https_addrs()[0], "api.example.com", root, false).await;
    assert!(stranger.is_err());
    assert_eq!(provider.whole_log().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_no_resource_reaches_no_host() {
    let (provider, proxy) = intercepting().await;
    let root = proxy.root_pem().unwrap();
    for http2 in [false, true] {
        let mut client = Client::tls(proxy.https_addrs()[0], HOST, root, http2).await.unwrap();
        let mut request = client::request("OPTIONS", "*", "");
        request.headers_mut().insert("host", HOST.parse().unwrap());
        if http2 {
            request.headers_mut().remove("host");
            let uri = Uri::builder().scheme("https").authority(HOST).path_and_query("*");
            *request.uri_mut() = uri.build().unwrap();
        }
        let got = client.send(request).await;
        assert_eq!(got.status, 400, "HTTP/2: {http2}: {}", got.text());
        assert!(got.text().contains("it names no path"), "{}", got.text());
    }
    assert!(provider.whole_log().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_mode_without_hosts_does_not_start() {
    let mut account = world::account("hubspot", None, world::plenty());
    account.profile.hosts.clear();
    let mut settings = world::settings(vec![account]);
    settings.hosts = Some(HostsListeners::default());
    let (link, _peer) = quotakeeper_proxy::Link::pair();
    let error = Proxy::start(settings, link).await.unwrap_err();
    assert!(matches!(error, StartError::NoHosts), "{error}");
}

fn run(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("{program} can't be run here ({error})");
            None
        }
    }
}

/// The verifiers of other languages must agree: the chain is good for the quota's host and for no other.
#[tokio::test(flavor = "multi_thread")]
async fn pythons_ssl_and_openssl_accept_the_bundle_for_the_host_alone() {
    let (_provider, proxy) = intercepting().await;
    let mut bundle = tempfile::NamedTempFile::new().unwrap();
    bundle.write_all(proxy.ca_bundle_pem().as_bytes()).unwrap();
    let path = bundle.path().to_str().unwrap().to_owned();
    let address = proxy.https_addrs()[0];
    let port = address.port().to_string();

    let script = r"
import socket, ssl, sys
bundle, port = sys.argv[1], int(sys.argv[2])
context = ssl.create_default_context(cafile=bundle)
context.verify_flags |= getattr(ssl, 'VERIFY_X509_STRICT', 0)
def ask(host):
    with socket.create_connection(('127.0.0.1', port)) as plain:
        with context.wrap_socket(plain, server_hostname=host) as tls:
            names = [name for kind, name in tls.getpeercert()['subjectAltName']]
            tls.sendall(b'GET /crm/v3/objects/contacts HTTP/1.1\r\nhost: ' + host.encode()
                + b'\r\nauthorization: Bearer key\r\nconnection: close\r\n\r\n')
            return names, tls.recv(65536).split(b'\r\n')[0].decode()
print(ask('api.hubapi.com'))
try:
    print(ask('api.example.com'))
except ssl.SSLError as error:
    print('refused')
";
    let (bundle_path, port_text) = (path.clone(), port.clone());
    let python =
        tokio::task::spawn_blocking(move || run("python3", &["-c", script, &bundle_path, &port_text]));
    if let Some(output) = python.await.unwrap() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, "(['api.hubapi.com'], 'HTTP/1.1 200 OK')\nrefused\n", "{wrong}");
    }

    let connect = format!("127.0.0.1:{port}");
    let openssl = tokio::task::spawn_blocking(move || {
        let verify = ["-verify_return_error", "-x509_strict", "-verify_hostname", HOST];
        let fixed = ["s_client", "-connect", &connect, "-servername", HOST, "-CAfile", &path];
        run("openssl", &[&fixed[..], &verify[..]].concat())
    });
    if let Some(output) = openssl.await.unwrap() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
}

/// Whose own CAs are missing has at least the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_holds_the_applications_own_cas_once() {
    let folder = tempfile::tempdir().unwrap();
    let own = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap().pem()
    };
    let (one, other) = (own("one.example"), own("other.example"));
    let write = |name: &str, text: String| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let files = [
        folder.path().join("missing.pem"),
        write("no.pem", "nothing\n".to_owned()),
        write("one.pem", one.clone()),
        write("both.pem", format!("# a remark\n{other}{one}")),
    ];
    let mut settings = world::settings(vec![world::account("hubspot", None, world::plenty())]);
    settings.hosts = Some(HostsListeners { https: vec![world::free()], http: vec![world::free()] });
    settings.bundle = Some(folder.path().join("bundle.pem"));
    settings.java_store = Some(folder.path().join("cacerts.jks"));
    settings.own_ca_files = files.to_vec();
    let (proxy, _peer) = world::start(settings).await;

    let bundle = std::fs::read_to_string(folder.path().join("bundle.pem")).unwrap();
    let certificates = |text: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().unwrap()
    };
    let found = certificates(&bundle);
    let java = std::fs::read(folder.path().join("cacerts.jks")).unwrap();
    for expected in [one.as_str(), &other, proxy.root_pem().unwrap()] {
        let expected = &certificates(expected)[0];
        assert_eq!(found.iter().filter(|found| *found == expected).count(), 1);
        assert!(java.windows(expected.len()).any(|bytes| bytes == expected.as_ref()), "Java lacks it");
    }
}

/// Clients that connect and say nothing.
async fn silent(address: std::net::SocketAddr, count: usize) -> Vec<tokio::net::TcpStream> {
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    silent
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_hang_hold_no_other_client() {
    let (_provider, proxy) = intercepting().await;
    let address = proxy.https_addrs()[0];
    let hanging = silent(address, 100).await;
    let served = async {
        let mut client = Client::tls(address, HOST, proxy.root_pem().unwrap(), false).await.unwrap();
        client.send(contacts(HOST, false)).await.status
    };
    let status = tokio::time::timeout(std::time::Duration::from_secs(30), served).await;
    assert_eq!(status.expect("another client is held"), 200);
    drop(hanging);
}

/// The time is the runtime's, which goes on to the next timer whenever nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_hangs_is_ended_after_a_minute() {
    let (_provider, proxy) = intercepting().await;
    let begun = tokio::time::Instant::now();
    let mut hanging = silent(proxy.https_addrs()[0], 1).await;
    let mut buffer = [0];
    let read = tokio::io::AsyncReadExt::read(&mut hanging[0], &mut buffer);
    let read = tokio::time::timeout(std::time::Duration::from_secs(600), read).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "it is still open: {read:?}");
    let took = begun.elapsed().as_secs();
    assert!((59..120).contains(&took), "{took} s");
}
