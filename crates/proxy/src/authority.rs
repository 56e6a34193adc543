//! The proxy's own CA for hosts mode: its certificates are valid for the quotas' hosts only.
//!
//! Made at the start, and kept in memory or in a folder of the proxy's own, so that one that starts anew beside the
//! same applications is still trusted. The root signs one intermediate and its key is dropped at once; both
//! certificates carry critical name constraints (RFC 5280 §4.2.1.10), so even a stolen intermediate key
//! could not forge another host or any IP address.

mod certificate_cache;

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::trust::pem;

const DAY: Duration = Duration::from_secs(86_400);
/// The CA outlives any pod; clocks of pod and node may differ by a day.
const CA_LIFE: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Some verifiers accept no leaf that lives longer than 398 days.
const LEAF_LIFE: Duration = Duration::from_secs(397 * 86_400);
/// Names under a wildcard host are without number: past this many leaves all are made anew.
const MOST_LEAVES: usize = 1024;

/// A CA that was made at start.
pub struct Authority {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    leaf_key: KeyPair,
    /// What the certificates may name: `example.com`, or `.example.com` for the names below it.
    hosts: Vec<HostPattern>,
    leaves: Mutex<HashMap<String, Leaf>>,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

/// A CA that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A certificate.
    #[error("the interception CA can't be made: {0}; check that the quotas' hosts are plain DNS names")]
    Certificate(#[from] rcgen::Error),
    /// Its folder.
    #[error("the interception CA can't be stored in {} ({source}); mount a volume there", folder.display())]
    Folder { folder: PathBuf, source: std::io::Error },
}

/// A host of an account: a name, or with a leading `*.` the names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com`; case is without meaning (RFC 4343).
    pub fn new(pattern: &str) -> Self {
        let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
        match pattern.strip_prefix("*.") {
            Some(name) => Self { name: name.to_owned(), below: true },
            None => Self { name: pattern, below: false },
        }
    }

    /// Whether `host`, without port, is one of these.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        if !self.below {
            return host.eq_ignore_ascii_case(&self.name);
        }
        let Some(labels) = host.len().checked_sub(self.name.len() + 1).filter(|len| *len > 0) else {
            return false;
        };
        host.is_char_boundary(labels)
            && host.as_bytes()[labels] == b'.'
            && host[labels + 1..].eq_ignore_ascii_case(&self.name)
    }

    /// The name itself, when it is one.
    pub fn exact(&self) -> Option<&str> {
        (!self.below).then_some(self.name.as_str())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

impl Authority {
    /// Makes a CA for `hosts`.
    ///
    /// # Errors
    /// When a host can't stand in a certificate.
    pub fn new(hosts: &[HostPattern]) -> Result<Self, AuthorityError> {
        let now = SystemTime::now();
        let root_key = KeyPair::generate()?;
        let mut root_params = ca_params("Quotakeeper root", hosts, now);
        root_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let root = root_params.self_signed(&root_key)?;
        let key = KeyPair::generate()?;
        let params = intermediate_params(hosts, now);
        let intermediate = params.signed_by(&key, &Issuer::new(root_params, root_key))?;
        Self::of(root.der().clone(), intermediate.der().clone(), key, hosts)
    }

    /// The CA stored in `folder`; created there if there is none for these hosts.
    ///
    /// # Errors
    /// When a host can't stand in a certificate, or the folder can't be written.
    pub fn load_or_create(folder: &Path, hosts: &[HostPattern]) -> Result<Self, AuthorityError> {
        if let Some(authority) = certificate_cache::read(folder, hosts)? {
            return Ok(authority);
        }
        let authority = Self::new(hosts)?;
        certificate_cache::write(folder, &authority)?;
        Ok(authority)
    }

    fn of(
        root: CertificateDer<'static>,
        intermediate: CertificateDer<'static>,
        key: KeyPair,
        hosts: &[HostPattern],
    ) -> Result<Self, AuthorityError> {
        Ok(Self {
            root,
            intermediate,
            // An issuer gives its name and its key's identifier, which follow from these.
            issuer: Issuer::new(intermediate_params(hosts, SystemTime::now()), key),
            leaf_key: KeyPair::generate()?,
            hosts: hosts.to_vec(),
            leaves: Mutex::default(),
        })
    }

    /// The root that clients must trust, as PEM.
    pub fn root_pem(&self) -> String {
        pem(&self.root)
    }

    /// The certificate and key to show for `host`; none for a host that is not ours, and none when
    /// signing fails, which is logged.
    pub fn leaf(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        if !self.hosts.iter().any(|pattern| pattern.covers(host)) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let now = SystemTime::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(&host).filter(|leaf| now < leaf.renew_at) {
            return Some(Arc::clone(&leaf.key));
        }
        match self.issue(&host, now) {
            Ok(key) => {
                if leaves.len() >= MOST_LEAVES {
                    leaves.clear();
                }
                let renew_at = now + LEAF_LIFE / 2;
                leaves.insert(host, Leaf { key: Arc::clone(&key), renew_at });
                Some(key)
            }
            Err(error) => {
                tracing::error!(host, %error, "no certificate can be made for the host");
                None
            }
        }
    }

    /// Signs a certificate for `host` whatever the host is: the constraints must hold without our own check.
    fn issue(&self, host: &str, now: SystemTime) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let mut params = CertificateParams::default();
        params.not_before = (now - DAY).into();
        params.not_after = (now + LEAF_LIFE).into();
        params.distinguished_name.push(DnType::CommonName, "Quotakeeper");
        params.subject_alt_names = vec![SanType::DnsName(host.try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.intermediate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key)
            .map_err(|_| rcgen::Error::UnsupportedSignatureAlgorithm)?;
        Ok(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name();
        let key = host.and_then(|host| self.leaf(host));
        if key.is_none() {
            tracing::warn!(host, "a TLS connection names no host of a quota and is refused");
        }
        key
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

fn intermediate_params(hosts: &[HostPattern], now: SystemTime) -> CertificateParams {
    let mut params = ca_params("Quotakeeper interception", hosts, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(name: &str, hosts: &[HostPattern], now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now - DAY).into();
    params.not_after = (now + CA_LIFE).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Below it a certificate is good for servers alone: not for mail, code or clients.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A permitted DNS name covers itself and all below it; without the excluded addresses, certificates for
    // IP addresses would not be constrained at all.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: hosts.iter().map(|host| GeneralSubtree::DnsName(host.name.clone())).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(Ipv4Addr::UNSPECIFIED.octets(), 0)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(Ipv6Addr::UNSPECIFIED.octets(), 0)),
        ],
    });
    params
}

#[cfg(test)]
mod tests;
