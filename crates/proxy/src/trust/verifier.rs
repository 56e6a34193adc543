//! Checks upstream certificates against the trusted roots, and takes a server's own certificate where a person trusts
//! exactly that one.
//!
//! Tools that make a self-signed certificate in one step (`openssl req -x509`, many appliances) mark it as a CA. WebPKI
//! refuses such a one as a server's, whoever trusts it; OpenSSL, and with it the program that worked before, does not.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// A verifier of servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    chains: Arc<WebPkiServerVerifier>,
    /// Certificates that a person has named.
    named: HashSet<CertificateDer<'static>>,
}

impl Verifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        named: HashSet<CertificateDer<'static>>,
    ) -> Result<Self, VerifierBuilderError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chains = WebPkiServerVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { chains, named })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(server, intermediates, name, ocsp, now) {
            Err(error) if is_ca(&error) && self.named.contains(server) => {
                verify_server_name(&ParsedCertificate::try_from(server)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether a certificate was refused because it is a CA's. Its dates have been checked before.
fn is_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// As `openssl req -x509` makes it.
    fn self_signed(until: SystemTime) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["crm.internal".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = (SystemTime::now() - 10 * DAY).into();
        params.not_after = until.into();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verified(trusted: &CertificateDer<'static>, shown: &CertificateDer<'_>, name: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let verifier = Verifier::new(Arc::new(roots), HashSet::from([trusted.clone()])).unwrap();
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn a_self_signed_ca_that_is_named_may_be_a_server() {
        let certificate = self_signed(SystemTime::now() + DAY);
        assert!(verified(&certificate, &certificate, "crm.internal"));
        assert!(!verified(&certificate, &certificate, "other.internal"), "it is good for its names alone");
        let another = self_signed(SystemTime::now() + DAY);
        assert!(!verified(&certificate, &another, "crm.internal"), "nobody trusts it");
        let old = self_signed(SystemTime::now() - DAY);
        assert!(!verified(&old, &old, "crm.internal"), "it has expired");
    }
}
