//! Whom the proxy trusts: the system's roots and the extra CAs, as a store for upstream TLS and as the PEM
//! bundle that applications get.
//!
//! CA variables such as `SSL_CERT_FILE` replace a client's own trust store, so the bundle must hold every
//! root; one with the interception CA alone would break all other TLS of the application.

mod java;
mod verifier;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use verifier::Verifier;

/// The most of a file of CAs that is read, in bytes; all roots of a system are 250 kB.
const LARGEST: u64 = 4 * 1024 * 1024;

/// The roots that upstream certificates are checked against.
#[derive(Clone)]
pub struct Trust {
    store: Arc<RootCertStore>,
    verifier: Option<Arc<dyn ServerCertVerifier>>,
    bundle: Arc<str>,
}

/// A trust store that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// An extra CA is no PEM.
    #[error("extra CA number {index} can't be read ({source}); give certificates in PEM")]
    Unreadable {
        /// Which one, from 1.
        index: usize,
        /// The PEM reader's error.
        source: rustls_pki_types::pem::Error,
    },
    /// An extra CA holds no certificate.
    #[error("extra CA number {0} holds no certificate; give certificates in PEM")]
    Empty(usize),
    /// An extra CA can't be a trust anchor.
    #[error("extra CA number {index} can't be trusted ({source}); give X.509 v3 CA certificates")]
    Unusable {
        /// Which one, from 1.
        index: usize,
        /// The TLS library's error.
        source: rustls::Error,
    },
}

impl Trust {
    /// The system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others) and `extra`, each a PEM text of
    /// one or more certificates. A system root that can't be read is left out, with a warning.
    ///
    /// # Errors
    /// When an extra CA is unusable: it was given on purpose.
    pub fn load(extra: &[String]) -> Result<Self, TrustError> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a system root can't be read");
        }
        let mut store = RootCertStore::empty();
        let mut bundle = String::new();
        for certificate in system.certs {
            if store.add(certificate.clone()).is_ok() {
                bundle.push_str(&pem(&certificate));
            }
        }
        let mut named = HashSet::new();
        for (index, text) in (1..).zip(extra) {
            let before = store.len();
            for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                let certificate = certificate.map_err(|source| TrustError::Unreadable { index, source })?;
                bundle.push_str(&pem(&certificate));
                named.insert(certificate.clone());
                store.add(certificate).map_err(|source| TrustError::Unusable { index, source })?;
            }
            if store.len() == before {
                return Err(TrustError::Empty(index));
            }
        }
        if store.is_empty() {
            tracing::warn!("no trusted root was found: calls to https upstreams will fail");
        }
        let store = Arc::new(store);
        // It can't be had for an empty store.
        let verifier = Verifier::new(Arc::clone(&store), named).ok();
        let verifier = verifier.map(|verifier| Arc::new(verifier) as Arc<dyn ServerCertVerifier>);
        Ok(Self { store, verifier, bundle: bundle.into() })
    }

    /// The roots, for a TLS client.
    pub fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }

    /// What checks the certificates of upstreams: by the roots, but a certificate among the extra CAs may be a server's
    /// own. None if there are no roots.
    pub(crate) fn verifier(&self) -> Option<Arc<dyn ServerCertVerifier>> {
        self.verifier.clone()
    }

    /// The same roots as PEM.
    pub fn bundle_pem(&self) -> &str {
        &self.bundle
    }
}

/// The password of every JDK's own trust store.
pub const JAVA_PASSWORD: &str = "changeit";

/// A Java trust store of the certificates in a PEM text, in a format that every JDK reads. Readers that give a password
/// have to give this one.
pub fn java_store(pem: &str, password: &str) -> Vec<u8> {
    java::write(&CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect::<Vec<_>>(), password)
}

/// A Java trust store with the certificates of `store` and those in a PEM text; none if `store` can't be read without a
/// password, holds no certificate, or holds keys, which would be lost.
pub fn java_store_with(store: &[u8], pem: &str, password: &str) -> Option<Vec<u8>> {
    let mut certificates = java::read(store)?;
    certificates.extend(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    Some(java::write(&certificates, password))
}

/// The certificates of `files` (or of all files in a folder) that `bundle` lacks, as PEM. What can't be read is left out and logged: without it an
/// application may miss a CA, without the proxy it would have nothing.
pub(crate) fn others(files: &[PathBuf], bundle: &str) -> String {
    let mut others = String::new();
    let mut known: HashSet<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).flatten().collect();
    for file in files {
        match certificates(file) {
            Ok(certificates) => {
                for certificate in certificates {
                    let text = pem(&certificate);
                    if known.insert(certificate) {
                        others.push_str(&text);
                    }
                }
            }
            Err(error) => {
                let file = file.display();
                tracing::warn!(%file, %error, "an application's own CAs can't be read, and are not in the bundle");
            }
        }
    }
    others
}

/// The certificates of a file, or of those files of a folder that hold some.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, io::Error> {
    let found = match path.is_dir() {
        false => in_file(path)?,
        true => {
            let files = fs::read_dir(path)?.filter_map(|entry| Some(entry.ok()?.path()));
            files.filter(|file| file.is_file()).flat_map(|file| in_file(&file).unwrap_or_default()).collect()
        }
    };
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no certificate in PEM"));
    }
    Ok(found)
}

fn in_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, io::Error> {
    let mut text = Vec::new();
    File::open(file)?.take(LARGEST).read_to_end(&mut text)?;
    let read = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// A certificate as PEM.
pub(crate) fn pem(certificate: &CertificateDer<'_>) -> String {
    pem::encode_config(
        &pem::Pem::new("CERTIFICATE", certificate.as_ref()),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_invalid_certificate_is_refused_by_its_number() {
        let error = Trust::load(&["nothing".to_owned()]).err().unwrap();
        assert_eq!(error.to_string(), "extra CA number 1 holds no certificate; give certificates in PEM");
    }
}
