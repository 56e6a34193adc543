//! A CA in a folder: one file with the hosts, both certificates and the intermediate's key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Authority, AuthorityError, HostPattern};
use crate::trust::pem;

const FILE: &str = "authority.pem";

/// The CA of these hosts; none: there is none, or what is there is of no use.
pub(super) fn read(folder: &Path, hosts: &[HostPattern]) -> Result<Option<Authority>, AuthorityError> {
    let text = match fs::read_to_string(folder.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(AuthorityError::Folder { folder: folder.to_owned(), source }),
    };
    let Some(rest) = text.strip_prefix(&names(hosts)) else {
        tracing::warn!("the stored CA is for other hosts; a new one is created");
        return Ok(None);
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(rest.as_bytes()).collect();
    let (Ok(certificates), Ok(key)) = (certificates, KeyPair::from_pem(key_of(rest))) else {
        tracing::warn!("the stored CA can't be read; a new one is created");
        return Ok(None);
    };
    let Ok([root, intermediate]) = <[CertificateDer<'static>; 2]>::try_from(certificates) else {
        return Ok(None);
    };
    Authority::of(root, intermediate, key, hosts).map(Some)
}

/// Stores a CA, readable by its owner only.
pub(super) fn write(folder: &Path, authority: &Authority) -> Result<(), AuthorityError> {
    let write = || {
        let unfinished = folder.join("unfinished");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(names(&authority.hosts).as_bytes())?;
        file.write_all(pem(&authority.root).as_bytes())?;
        file.write_all(pem(&authority.intermediate).as_bytes())?;
        file.write_all(authority.issuer.key().serialize_pem().as_bytes())?;
        fs::rename(&unfinished, folder.join(FILE))
    };
    write().map_err(|source| AuthorityError::Folder { folder: folder.to_owned(), source })
}

/// The first line: whose CA it is.
fn names(hosts: &[HostPattern]) -> String {
    let names: Vec<String> = hosts.iter().map(HostPattern::to_string).collect();
    format!("{}\n", names.join(" "))
}

/// The part of a PEM text that holds the key.
fn key_of(text: &str) -> &str {
    text.find("-----BEGIN PRIVATE KEY-----").and_then(|at| text.get(at..)).unwrap_or_default()
}
