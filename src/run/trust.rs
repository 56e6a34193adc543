//! How the command is made to trust the proxy's CA: by variables, and by files that it sees in the place of the
//! system's, for programs that read no variable.
//!
//! A file is replaced by itself with that CA, so that whatever it trusts is trusted still.

mod java;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use quotakeeper_proxy::{Proxy, trust};
use quotakeeper_wire::trust_variables::{CA_VARIABLES, JAVA_OPTIONS, with_java_trust_store};
use tempfile::NamedTempFile;

use super::mounts::Replacement;
use super::scratch;

/// Where systems have the file of all CAs (the list of Go's crypto/x509, root_linux.go).
const SYSTEM_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL 6
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL
    "/etc/ssl/ca-bundle.pem",             // SUSE
    "/etc/pki/tls/cacert.pem",            // OpenELEC
    "/etc/ssl/cert.pem",                  // Alpine, OpenSSL built from source
];
/// Further variables that name a file of CAs; changed only where a person has set them.
const ONLY_OWN: [&str; 5] =
    ["DENO_CERT", "NIX_SSL_CERT_FILE", "PERL_LWP_SSL_CA_FILE", "HTTPLIB2_CA_CERTS", "npm_config_cafile"];

/// What makes the command trust the proxy.
#[derive(Default)]
pub struct TrustedFiles {
    /// On top of the environment.
    pub variables: Vec<(String, String)>,
    /// Files that are seen in the place of the system's.
    pub replacements: Vec<Replacement>,
    /// What the variables name; removed when this is dropped.
    _files: Vec<NamedTempFile>,
}

/// The files of CAs that variables name today: what they trust, the bundle trusts too.
pub fn own_files() -> Vec<PathBuf> {
    let set = CA_VARIABLES.iter().chain(&ONLY_OWN).filter_map(|name| own(name));
    // The proxy's own roots are those of SSL_CERT_FILE.
    set.collect::<BTreeSet<_>>().into_iter().map(PathBuf::from).collect()
}

fn own(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl TrustedFiles {
    /// Writes the files for a command.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn new(proxy: &Proxy, command: &[String]) -> anyhow::Result<TrustedFiles> {
        let root = proxy.root_pem().unwrap_or_default();
        let bundle = scratch::file("ca", proxy.ca_bundle_pem().as_bytes());
        let bundle = bundle.context("the CA bundle can't be written to the temporary folder")?;
        let mut variables = ca_variables(bundle.path());
        let mut files = vec![bundle];
        let mut replacements = system_files(root).context("the CA bundles can't be written")?;
        let java = java::stores(root, command).context("the Java trust stores can't be written")?;
        if java.is_empty() {
            let store = trust::java_store(proxy.ca_bundle_pem(), trust::JAVA_PASSWORD);
            let store = scratch::file("java", &store)?;
            let options = env::var(JAVA_OPTIONS).unwrap_or_default();
            let options = with_java_trust_store(&options, &store.path().to_string_lossy());
            variables.extend(options.map(|options| (JAVA_OPTIONS.to_owned(), options)));
            files.push(store);
        }
        replacements.extend(java);
        Ok(TrustedFiles { variables, replacements, _files: files })
    }
}

/// The CA variables, all naming `bundle`.
fn ca_variables(bundle: &Path) -> Vec<(String, String)> {
    let bundle = bundle.to_string_lossy();
    let names = CA_VARIABLES.iter().chain(ONLY_OWN.iter().filter(|name| own(name).is_some()));
    names.map(|name| ((*name).to_owned(), bundle.to_string())).collect()
}

fn system_files(root: &str) -> anyhow::Result<Vec<Replacement>> {
    let mut replacements = Vec::new();
    for at in distinct(SYSTEM_FILES.iter().map(PathBuf::from)) {
        let mut text = fs::read(&at).with_context(|| format!("{} can't be read", at.display()))?;
        text.push(b'\n');
        text.extend_from_slice(root.as_bytes());
        replacements.push(Replacement { file: scratch::file("system", &text)?, at, required: false });
    }
    Ok(replacements)
}

/// The files behind those of `paths` that exist, each once.
fn distinct(paths: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    paths.filter_map(|path| path.canonicalize().ok()).filter(|path| path.is_file()).collect()
}
