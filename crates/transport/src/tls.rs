//! Both ends' TLS: version 1.3, HTTP/2, ring. The client trusts the limiter's CA and no other. A limiter shows its
//! certificate to another one as its client, too.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::VerifierBuilderError;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    version,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};

/// HTTP/2, by its name in TLS (RFC 9113, section 3.2).
const H2: &[u8] = b"h2";

/// TLS that can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Something is no PEM.
    #[error("{what} can't be read ({source}); give it in PEM")]
    Unreadable {
        what: &'static str,
        /// The PEM reader's error.
        source: pem::Error,
    },
    /// A PEM text without a certificate.
    #[error("{0} holds no certificate; give at least one in PEM")]
    Empty(&'static str),
    /// It reads, but it can't be used.
    #[error("the certificate can't be used ({0}); give an X.509 v3 certificate and its own key")]
    Unusable(#[from] rustls::Error),
    /// A CA that nothing can be verified by.
    #[error("the limiter's CA can't be used ({0}); give an X.509 v3 certificate")]
    UnusableCa(#[from] VerifierBuilderError),
    /// A name that no certificate can have.
    #[error("the limiter's name can't be used ({0})")]
    Name(#[from] InvalidDnsNameError),
}

/// A limiter's certificate: chain, leaf first, and the leaf's key, both in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The chain.
    pub chain_pem: &'a str,
    /// The key.
    pub key_pem: &'a str,
}

impl Identity<'_> {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates("the limiter's certificate", self.chain_pem)?;
        let unreadable = |source| TlsError::Unreadable { what: "the limiter's key", source };
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(unreadable)?;
        Ok((chain, key))
    }
}

/// TLS of the limiter: its chain, leaf first, and the leaf's key, both in PEM.
///
/// # Errors
/// [`TlsError`]; if the certificate comes from a renewed Secret, go on with the old one.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = Identity { chain_pem, key_pem }.read()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(served(config))
}

/// TLS of a limiter beside others: a client that shows a certificate of these CAs for a limiter of this name is one. Other
/// clients show none.
///
/// # Errors
/// [`TlsError`].
pub fn server_config_beside_others(
    own: Identity<'_>,
    ca_pem: &str,
    name: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = own.read()?;
    let by = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider()).build()?;
    let limiters = OtherLimiters { by, name: ServerName::try_from(name.to_owned())? };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(limiters))
        .with_single_cert(chain, key)?;
    Ok(served(config))
}

fn served(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![H2.to_vec()];
    // A proxy connects rarely: storing its TLS sessions would cost more than a handshake.
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// Verifies that a client is a limiter: by its certificate, which is that of a server.
#[derive(Debug)]
struct OtherLimiters {
    by: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ClientCertVerifier for OtherLimiters {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.by.verify_server_cert(end_entity, intermediates, &self.name, &[], now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by.supported_verify_schemes()
    }
}

/// TLS of a proxy that trusts the CAs of `ca_pem` and no other.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots(ca_pem)?)
        .with_no_client_auth();
    Ok(connecting(config))
}

/// TLS of a limiter that connects to another one, and shows that it is one too.
///
/// # Errors
/// [`TlsError`].
pub fn client_config_of_a_limiter(own: Identity<'_>, ca_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let (chain, key) = own.read()?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_auth_cert(chain, key)?;
    Ok(connecting(config))
}

fn connecting(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the limiter's CA", ca_pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(what: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let certificates = read.map_err(|source| TlsError::Unreadable { what, source })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(what));
    }
    Ok(certificates)
}
