//! Both ends' TLS: version 1.3, HTTP/2, ring. The client trusts the limiter's CA and no other.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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
}

/// TLS of the limiter: its chain, leaf first, and the leaf's key, both in PEM.
///
/// # Errors
/// [`TlsError`]; if the certificate comes from a renewed Secret, go on with the old one.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates("the limiter's certificate", chain_pem)?;
    let unreadable = |source| TlsError::Unreadable { what: "the limiter's key", source };
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(unreadable)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![H2.to_vec()];
    // A proxy connects rarely: storing its TLS sessions would cost more than a handshake.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// TLS of a proxy that trusts the CAs of `ca_pem` and no other.
///
/// # Errors
/// [`TlsError`].
pub fn client_config(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the limiter's CA", ca_pem)? {
        roots.add(certificate)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
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
