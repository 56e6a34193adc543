//! Trust stores of Java: read in the formats of the JDKs' own, written in the one that every JDK reads.
//!
//! JKS is written: JDK 8 and older read nothing else by default, newer ones recognize it by its first bytes whatever
//! type they expect (JEP 229), and it keeps certificates in the clear, so that a JVM needs no password.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls_pki_types::CertificateDer;

/// The beginning of a JKS file, and the versions that exist (OpenJDK, `sun.security.provider.JavaKeyStore`).
const MAGIC: u32 = 0xFEED_FEED;
const VERSIONS: [u32; 2] = [1, 2];
/// The tag of its entries that are trusted.
const TRUSTED_CERTIFICATE: u32 = 2;
/// What the closing digest covers besides the password and the file.
const SALT: &[u8] = b"Mighty Aphrodite";

/// The DER of the object identifier of X.509 certificates in PKCS #12 (RFC 7292 §4.2.3).
const X509_CERTIFICATE: [u8; 12] = [0x06, 0x0A, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x16, 0x01];
/// The beginning of the identifiers of its bags, and the ends of those that hold keys: plain and encrypted (§4.2).
const BAG: [u8; 12] = [0x06, 0x0B, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x0C, 0x0A, 0x01];
const KEY_BAGS: [u8; 2] = [1, 2];
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xA0;
const CONSTRUCTED: u8 = 0x20;
/// A certificate lies twelve levels deep in a PKCS #12 file.
const DEEPEST: u32 = 32;

/// The certificates of a trust store: of a JKS file, or of a PKCS #12 file that is not encrypted, as JDKs have
/// it since version 18. None if it is neither, holds no certificate, or holds keys.
pub(super) fn read(store: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found = if store.starts_with(&MAGIC.to_be_bytes()) {
        jks(&mut Reader(store))?
    } else {
        let mut found = Vec::new();
        pkcs12(store, DEEPEST, &mut found)?;
        found
    };
    (!found.is_empty()).then_some(found)
}

/// A JKS file that trusts the certificates. Readers that give no password don't check the digest.
pub(super) fn write(certificates: &[CertificateDer<'_>], password: &str) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let now = u64::try_from(now).unwrap_or_default();
    let mut store = Vec::new();
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSIONS[1].to_be_bytes());
    store.extend(length(certificates.len()).to_be_bytes());
    for (number, certificate) in (1..).zip(certificates) {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        text(&mut store, &format!("ca-{number}"));
        store.extend(now.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length(certificate.len()).to_be_bytes());
        store.extend_from_slice(certificate);
    }
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    password.encode_utf16().for_each(|letter| digest.update(&letter.to_be_bytes()));
    digest.update(SALT);
    digest.update(&store);
    store.extend_from_slice(digest.finish().as_ref());
    store
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

/// The trusted certificates of a JKS file; none where it breaks off, has a form that is not known, or holds keys.
fn jks(reader: &mut Reader<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let (_magic, version) = (reader.u32()?, reader.u32()?);
    let typed = version == VERSIONS[1];
    if !VERSIONS.contains(&version) {
        return None;
    }
    let mut trusted = Vec::new();
    for _ in 0..reader.u32()? {
        let tag = reader.u32()?;
        let (_alias, _date) = (reader.text()?, reader.take(8)?);
        match tag {
            TRUSTED_CERTIFICATE => trusted.push(reader.certificate(typed)?.to_vec().into()),
            _ => return None,
        }
    }
    Some(trusted)
}

/// Collects the certificates of DER-encoded values that may contain each other; none where one of them is a key.
fn pkcs12(der: &[u8], deeper: u32, found: &mut Vec<CertificateDer<'static>>) -> Option<()> {
    let mut reader = Reader(der);
    while let Some((tag, content)) = reader.value() {
        if content.strip_prefix(&BAG).and_then(<[u8]>::first).is_some_and(|end| KEY_BAGS.contains(end)) {
            return None;
        }
        if let Some(certificate) = content.strip_prefix(&X509_CERTIFICATE).and_then(wrapped) {
            found.push(certificate.to_vec().into());
        } else if deeper > 0 && (tag & CONSTRUCTED != 0 || contains_values(tag, content)) {
            pkcs12(content, deeper - 1, found)?;
        }
    }
    Some(())
}

/// Whether it is an OCTET STRING around other values.
fn contains_values(tag: u8, content: &[u8]) -> bool {
    tag == OCTET_STRING && content.first() == Some(&SEQUENCE)
}

/// The octets of `[0] EXPLICIT OCTET STRING`.
fn wrapped(der: &[u8]) -> Option<&[u8]> {
    let (tag, content) = Reader(der).value()?;
    let (inner, octets) = Reader(content).value()?;
    (tag == CONTEXT_0 && inner == OCTET_STRING).then_some(octets)
}

/// Bytes that are not read yet.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Bytes behind their number.
    fn counted(&mut self) -> Option<&'b [u8]> {
        let count = self.u32()?;
        self.take(usize::try_from(count).ok()?)
    }

    /// A text behind the number of its bytes.
    fn text(&mut self) -> Option<&'b [u8]> {
        let count: [u8; 2] = self.take(2)?.try_into().ok()?;
        self.take(usize::from(u16::from_be_bytes(count)))
    }

    fn certificate(&mut self, typed: bool) -> Option<&'b [u8]> {
        if typed {
            self.text()?;
        }
        self.counted()
    }

    /// The tag and content of a DER-encoded value (X.690 §8.1, definite lengths).
    fn value(&mut self) -> Option<(u8, &'b [u8])> {
        let tag = self.u8()?;
        let first = self.u8()?;
        let length = match first {
            0..=0x7F => usize::from(first),
            0x81..=0x84 => {
                let bytes = self.take(usize::from(first - 0x80))?;
                bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        Some((tag, self.take(length)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn certificates() -> Vec<CertificateDer<'static>> {
        [&b"one"[..], b"two"].map(|der| der.to_vec().into()).to_vec()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(&certificates(), "secret")), Some(certificates()));
        assert_eq!(read(&write(&[], "secret")), None);
        assert_eq!(read(b""), None);
        assert_eq!(read(b"-----BEGIN CERTIFICATE-----"), None);
    }

    /// Made as JDKs since 18 make their own: `keytool -importcert -storetype PKCS12` with
    /// `keystore.pkcs12.certProtectionAlgorithm` and `macAlgorithm` set to `NONE`.
    #[test]
    fn an_unencrypted_pkcs12_store_is_read() {
        let found = read(include_bytes!("unencrypted.p12")).unwrap();
        assert_eq!(found.len(), 1);
        rustls::RootCertStore::empty().add(found[0].clone()).unwrap();
    }

    proptest! {
        #[test]
        fn damaged_stores_never_panic(at in 0usize..200, byte: u8, cut in 0usize..200, random: Vec<u8>) {
            let mut store = write(&certificates(), "secret");
            let length = store.len();
            store[at % length] = byte;
            store.truncate(length - cut % length);
            let _ = read(&store);
            let _ = read(&random);
        }
    }
}
