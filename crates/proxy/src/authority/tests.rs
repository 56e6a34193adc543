//! The chain verifies for a quota's host and for no other name.
#![allow(clippy::unwrap_used)]

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};

use std::io::Write;
use std::process::Command;

use super::*;

fn authority() -> Authority {
    Authority::new(&[HostPattern::new("api.hubapi.com"), HostPattern::new("*.my.salesforce.com")]).unwrap()
}

fn verify(authority: &Authority, host: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let key = authority.issue(host, SystemTime::now()).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let (leaf, chain) = key.cert.split_first().unwrap();
    verifier.verify_server_cert(leaf, chain, &name, &[], UnixTime::now()).map(drop)
}

#[test]
fn a_quotas_host_verifies_and_any_other_name_fails() {
    let authority = authority();
    assert_eq!(verify(&authority, "api.hubapi.com"), Ok(()));
    assert_eq!(verify(&authority, "acme.my.salesforce.com"), Ok(()));
    for stranger in ["api.openai.com", "hubapi.com", "salesforce.com"] {
        let error = verify(&authority, stranger).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{stranger}: {error}");
    }
}

#[test]
fn below_its_cas_a_certificate_is_good_for_servers_alone() {
    let authority = authority();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName("api.hubapi.com".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&authority.leaf_key, &authority.issuer).unwrap();
    let chain = [authority.intermediate.clone()];
    let error = verifier.verify_client_cert(leaf.der(), &chain, UnixTime::now()).unwrap_err();
    assert!(error.to_string().contains("extended key usage for client authentication"), "{error}");
}

#[test]
fn no_certificate_is_made_for_a_stranger() {
    let authority = authority();
    assert!(authority.leaf("API.hubapi.com").is_some());
    assert!(authority.leaf("acme.my.salesforce.com").is_some());
    for stranger in ["evil.com", "evil-api.hubapi.com", "my.salesforce.com", ".my.salesforce.com", ""] {
        assert!(authority.leaf(stranger).is_none(), "{stranger}");
    }
}

#[test]
fn one_host_gets_one_certificate() {
    let authority = authority();
    let (one, two) = (authority.leaf("api.hubapi.com").unwrap(), authority.leaf("API.HUBAPI.COM").unwrap());
    assert!(Arc::ptr_eq(&one, &two));
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A whole handshake inside Python's ssl, with a certificate for argv[4] that the intermediate has signed.
const HANDSHAKE: &str = r"
import ssl, sys
root, chain, key, host = sys.argv[1:]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(chain, key)
client = ssl.create_default_context(cafile=root)
client.verify_flags |= getattr(ssl, 'VERIFY_X509_STRICT', 0)
to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
ends = [client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True)]
try:
    for _ in range(5):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    print('accepted')
except ssl.SSLCertVerificationError as error:
    print(error.verify_message)
";

#[test]
fn openssl_and_python_hold_the_constraint_against_our_own_signature() {
    let authority = authority();
    let root = file(&authority.root_pem());
    let key = file(&authority.leaf_key.serialize_pem());
    for (host, openssl_says, python_says) in [
        ("api.hubapi.com", "OK", "accepted"),
        ("acme.my.salesforce.com", "OK", "accepted"),
        ("api.openai.com", "permitted subtree violation", "permitted subtree violation"),
    ] {
        let signed = authority.issue(host, SystemTime::now()).unwrap();
        let pems: Vec<_> = signed.cert.iter().map(pem).collect();
        let (leaf, intermediate) = (file(&pems[0]), file(&pems[1]));
        let chain = file(&pems.concat());
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-x509_strict", "-CAfile"]).arg(root.path());
        openssl.arg("-untrusted").arg(intermediate.path()).arg(leaf.path());
        let mut python = Command::new("python3");
        python.args(["-c", HANDSHAKE]).arg(root.path()).arg(chain.path()).arg(key.path()).arg(host);
        for (mut verifier, says) in [(openssl, openssl_says), (python, python_says)] {
            let output = match verifier.output() {
                Ok(output) => output,
                Err(error) => {
                    eprintln!("{verifier:?} can't be run here ({error})");
                    continue;
                }
            };
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(said.contains(says), "{host}: {said}");
        }
    }
}

#[test]
fn a_kept_ca_is_the_same_for_who_starts_anew_and_another_for_other_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = [HostPattern::new("api.hubapi.com"), HostPattern::new("*.my.salesforce.com")];
    let made = Authority::load_or_create(folder.path(), &hosts).unwrap();
    let again = Authority::load_or_create(folder.path(), &hosts).unwrap();
    assert_eq!(made.root_pem(), again.root_pem());
    assert_eq!(verify(&again, "api.hubapi.com"), Ok(()));
    let leaf = again.leaf("api.hubapi.com").unwrap();
    assert_eq!(leaf.cert[1], made.intermediate);
    let mode = std::fs::metadata(folder.path().join("authority.pem")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    let other = Authority::load_or_create(folder.path(), &hosts[..1]).unwrap();
    assert_ne!(made.root_pem(), other.root_pem());
    std::fs::write(folder.path().join("authority.pem"), "api.hubapi.com\nnonsense").unwrap();
    assert_ne!(other.root_pem(), Authority::load_or_create(folder.path(), &hosts[..1]).unwrap().root_pem());
}
