//! The chain verifies for a quota's host and for no other name.
#![allow(clippy::unwrap_used)]

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};

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
