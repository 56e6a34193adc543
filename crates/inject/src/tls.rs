//! The serving certificate, as a configuration that connections to come are made with.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

/// Why a certificate can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain does not read.
    #[error("the certificate is not PEM: {0}; check tls.crt of its Secret")]
    Certificate(#[source] pem::Error),
    /// The key does not read.
    #[error("the key is not PEM: {0}; check tls.key of its Secret")]
    Key(#[source] pem::Error),
    /// They do not fit.
    #[error("certificate and key can't be served: {0}; delete their Secret, and they are made anew")]
    Pair(#[from] rustls::Error),
}

/// What serves a certificate chain (the leaf first) and its key, both PEM, over HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`], a sentence with the remedy.
pub fn server_config(chain: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = chain.map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
