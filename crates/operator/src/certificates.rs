//! The certificates that the operator makes: a CA for ten years, and a leaf of it for ninety days.
//!
//! Pure but for random keys: the entries of a Secret and the time of day in, the entries as they
//! should be out. A pod keeps the CA that it was injected with, so the next CA is
//! announced a year before anything is signed by it.
//!
//! | entry | holds |
//! |---|---|
//! | `tls.crt`, `tls.key` | the leaf |
//! | `ca.crt` | all CAs to be trusted, the signing one first |
//! | `ca.key` | the signing CA's key |
//! | `next-ca.crt`, `next-ca.key` | the CA that will follow, once it is announced |

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quotakeeper_api::names::FINGERPRINT_KEY;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use ring::hmac;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

const DAY: Duration = Duration::from_secs(86_400);
const CA_LIFE: Duration = Duration::from_secs(3652 * 86_400);
const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// A leaf with less life than this is renewed.
const LEAF_MARGIN: Duration = Duration::from_secs(30 * 86_400);
/// The next CA is announced when the present one has less life than this, …
const ANNOUNCE: Duration = Duration::from_secs(550 * 86_400);
/// … and signs when it has less than this.
const HAND_OVER: Duration = Duration::from_secs(183 * 86_400);
/// How long the API server goes on to trust the CAs of before, after a leaf was issued: time for
/// every replica to serve the new one.
const OVERLAP: Duration = Duration::from_secs(3600);
/// The most CAs that are trusted at a time.
const MOST_CAS: usize = 4;
/// Clocks of nodes may differ by a day.
const BACKDATED: Duration = DAY;

/// The entries of a Secret.
pub type Entries = BTreeMap<String, String>;

/// A certificate that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate can't be made: {0}; check that the namespace is a plain DNS label")]
pub struct CertificateError(#[from] rcgen::Error);

/// The entries as they should be at `now`, for a server of these names; none: they are well.
/// `present` that can't be used is replaced as far as needed.
///
/// # Errors
/// [`CertificateError`].
pub fn due(
    present: &Entries,
    names: &[String],
    now: SystemTime,
) -> Result<Option<Entries>, CertificateError> {
    let signing = Ca::read(present, "ca.crt", "ca.key", now).filter(|ca| ca.lasts(HAND_OVER, now));
    let mut next = Ca::read(present, "next-ca.crt", "next-ca.key", now);
    let signing = match signing.or_else(|| next.take()) {
        Some(ca) => ca,
        None => Ca::make(now)?,
    };
    if next.is_none() && !signing.lasts(ANNOUNCE, now) {
        next = Some(Ca::make(now)?);
    }
    let mut entries = match leaf_is_well(present, &signing, names, now) {
        true => ["tls.crt", "tls.key"].map(|name| (name.to_owned(), present[name].clone())).into(),
        false => leaf(&signing, names, now)?,
    };
    let announced = next.iter().map(|ca| ca.certificate.clone());
    let trusted = [signing.certificate.clone()].into_iter().chain(announced);
    entries.insert("ca.crt".to_owned(), union(trusted, present.get("ca.crt"), now));
    entries.insert("ca.key".to_owned(), signing.key.serialize_pem());
    if let Some(next) = next {
        entries.insert("next-ca.crt".to_owned(), next.certificate);
        entries.insert("next-ca.key".to_owned(), next.key.serialize_pem());
    }
    Ok((entries != *present).then_some(entries))
}

/// The entries of a server that is another process, in two Secrets: what the operator alone needs, and what the server
/// needs, with the key of credentials' fingerprints. That key is derived from the CA's, which is random for each
/// installation and stays for years.
pub fn apart(entries: &Entries) -> (Entries, Entries) {
    let keeps = |name: &str| name.starts_with("ca.") || name.starts_with("next-ca.");
    let own = entries.iter().filter(|(name, _)| keeps(name));
    let own: Entries = own.map(|(name, text)| (name.clone(), text.clone())).collect();
    let serves = ["tls.crt", "tls.key", "ca.crt"];
    let served = serves.iter().filter_map(|name| Some(((*name).to_owned(), entries.get(*name)?.clone())));
    let fingerprints = entries.get("ca.key").map(|key| (FINGERPRINT_KEY.to_owned(), fingerprint_key(key)));
    let served = served.chain(fingerprints).collect();
    (own, served)
}

fn fingerprint_key(ca_key: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, ca_key.as_bytes());
    let key = hmac::sign(&key, b"quotakeeper credential fingerprints");
    key.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the API server should trust, when it trusts `present` and the server's Secret is `entries`:
/// the Secret's CAs, and those of before for an hour after its leaf was issued.
pub fn bundle(present: &str, entries: &Entries, now: SystemTime) -> String {
    let trusted = blocks(entries.get("ca.crt").map_or("", String::as_str));
    let issued = entries.get("tls.crt").and_then(|pem| validity(pem)).map(|(from, _)| from + BACKDATED);
    let fresh = issued.is_some_and(|issued| now < issued + OVERLAP);
    union(trusted.into_iter(), fresh.then(|| present.to_owned()).as_ref(), now)
}

/// Whether a certificate of this Secret is known by `bundle`.
pub fn is_known(entries: &Entries, bundle: &str) -> bool {
    let known = blocks(bundle);
    let signed = |ca: &String| {
        let (Some(leaf), Some(ca)) = (entries.get("tls.crt").and_then(|it| der(it)), der(ca)) else {
            return false;
        };
        let (Ok((_, leaf)), Ok((_, ca))) = (parse(&leaf), parse(&ca)) else { return false };
        leaf.verify_signature(Some(ca.public_key())).is_ok()
    };
    known.iter().any(signed)
}

/// When the leaf ends.
pub fn ends(entries: &Entries) -> Option<SystemTime> {
    validity(entries.get("tls.crt")?).map(|(_, until)| until)
}

/// A CA and its key.
struct Ca {
    certificate: String,
    key: KeyPair,
    until: SystemTime,
}

impl Ca {
    fn make(now: SystemTime) -> Result<Ca, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + CA_LIFE).into();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Quotakeeper CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        let until = validity(&certificate).map_or(now, |(_, until)| until);
        Ok(Ca { certificate: blocks(&certificate).concat(), key, until })
    }

    /// The CA of two entries, if they are one and it is valid.
    fn read(entries: &Entries, certificate: &str, key: &str, now: SystemTime) -> Option<Ca> {
        let certificate = blocks(entries.get(certificate)?).into_iter().next()?;
        let key = KeyPair::from_pem(entries.get(key)?).ok()?;
        let (from, until) = validity(&certificate)?;
        let bytes = der(&certificate)?;
        let (_, read) = parse(&bytes).ok()?;
        let fits = read.is_ca() && read.public_key().raw == key.subject_public_key_info();
        (fits && from <= now && now < until).then_some(Ca { certificate, key, until })
    }

    fn lasts(&self, margin: Duration, now: SystemTime) -> bool {
        now + margin < self.until
    }
}

fn leaf(ca: &Ca, names: &[String], now: SystemTime) -> Result<Entries, CertificateError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + LEAF_LIFE).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Quotakeeper");
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key_again = KeyPair::from_pem(&ca.key.serialize_pem())?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, key_again)?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok([("tls.crt".to_owned(), blocks(&certificate).concat()), ("tls.key".to_owned(), key.serialize_pem())]
        .into())
}

fn leaf_is_well(entries: &Entries, ca: &Ca, names: &[String], now: SystemTime) -> bool {
    let well = || {
        let certificate = entries.get("tls.crt")?;
        let key = KeyPair::from_pem(entries.get("tls.key")?).ok()?;
        let (from, until) = validity(certificate)?;
        let (leaf, ca) = (der(certificate)?, der(&ca.certificate)?);
        let ((_, leaf), (_, ca)) = (parse(&leaf).ok()?, parse(&ca).ok()?);
        let mut found: Vec<String> = Vec::new();
        for name in &leaf.subject_alternative_name().ok()??.value.general_names {
            if let GeneralName::DNSName(name) = name {
                found.push((*name).to_owned());
            }
        }
        let lasts = from <= now && now + LEAF_MARGIN < until;
        let signed = leaf.verify_signature(Some(ca.public_key())).is_ok();
        Some(lasts && signed && found == names && leaf.public_key().raw == key.subject_public_key_info())
    };
    well().unwrap_or(false)
}

/// The certificates, and those of `more` that have not ended, without doubles, at most [`MOST_CAS`].
fn union(first: impl Iterator<Item = String>, more: Option<&String>, now: SystemTime) -> String {
    let mut all: Vec<String> = Vec::new();
    let more = more.map(|more| blocks(more)).unwrap_or_default();
    let valid = more.into_iter().filter(|pem| validity(pem).is_some_and(|(_, until)| now < until));
    for certificate in first.chain(valid) {
        if !all.contains(&certificate) && all.len() < MOST_CAS {
            all.push(certificate);
        }
    }
    all.concat()
}

/// The certificates of a PEM text (RFC 7468), each with its marks.
fn blocks(text: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let parts = text.split(BEGIN).skip(1);
    let bodies = parts.filter_map(|part| part.split_once(END).map(|(body, _)| body));
    bodies
        .map(|body| {
            let lines: Vec<&str> = body.split_whitespace().collect();
            format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
        })
        .collect()
}

fn der(pem: &str) -> Option<Vec<u8>> {
    parse_x509_pem(pem.as_bytes()).ok().map(|(_, pem)| pem.contents)
}

fn parse(
    der: &[u8],
) -> Result<(&[u8], X509Certificate<'_>), x509_parser::nom::Err<x509_parser::error::X509Error>> {
    x509_parser::parse_x509_certificate(der)
}

fn validity(pem: &str) -> Option<(SystemTime, SystemTime)> {
    let der = der(pem)?;
    let (_, certificate) = parse(&der).ok()?;
    let time = |seconds: i64| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?));
    let validity = certificate.validity();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests;
