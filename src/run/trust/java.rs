//! Trust stores of Java that the command sees with the proxy's CA in them: those of the JDKs, and those that options
//! name, in variables or in the command's words.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use quotakeeper_proxy::trust;

use super::own;
use crate::output::say;
use crate::run::mounts::Replacement;
use crate::run::scratch;

/// Folders of JDKs, each with one in a folder of its own.
const JDK_FOLDERS: [&str; 5] = ["/usr/lib/jvm", "/usr/lib64/jvm", "/opt/java", "/opt", "/usr/java"];
/// Where a JDK has its trust stores, of which it takes the first (JSSE Reference Guide); the last two: JDK 8.
const JDK_STORES: [&str; 4] = [
    "lib/security/jssecacerts",
    "lib/security/cacerts",
    "jre/lib/security/jssecacerts",
    "jre/lib/security/cacerts",
];
/// System properties that name a trust store and its password, and a store of keys (JSSE Reference Guide).
const TRUST_STORE: &str = "-Djavax.net.ssl.trustStore=";
const TRUST_STORE_PASSWORD: &str = "-Djavax.net.ssl.trustStorePassword=";
const KEY_STORE: &str = "-Djavax.net.ssl.keyStore=";
/// How keytool is given a password.
const PASSWORD_VARIABLE: &str = "QUOTAKEEPER_STORE_PASSWORD";

/// Trust stores, each with the password that its readers give.
type Stores = BTreeMap<PathBuf, String>;

/// The trust stores with `root` added.
///
/// # Errors
/// When a file can't be written.
pub(super) fn stores(root: &str, command: &[String]) -> anyhow::Result<Vec<Replacement>> {
    let homes = homes(command);
    let files = homes.iter().flat_map(|home| JDK_STORES.iter().map(|store| home.join(store)));
    let mut stores: Stores = super::distinct(files).into_iter().map(|file| (file, password(None))).collect();
    let variables = env::vars_os().map(|(_, value)| value.to_string_lossy().into_owned());
    let texts: Vec<String> = variables.chain([command.join(" ")]).collect();
    stores.extend(named(&texts));
    let mut replacements = Vec::new();
    for (at, password) in stores {
        match merged(&at, root, &password, &homes) {
            Ok(store) => {
                replacements.push(Replacement { file: scratch::file("java", &store)?, at, required: false });
            }
            Err(error) => say(&format!(
                "{}: the proxy's CA can't be added to this Java trust store ({error:#}), so Java programs that use it \
                 don't trust the proxy; name its password by {TRUST_STORE_PASSWORD}…, keep keys in another file, or \
                 let the programs use the JDK's own",
                at.display()
            )),
        }
    }
    Ok(replacements)
}

fn password(named: Option<&str>) -> String {
    named.unwrap_or(trust::JAVA_PASSWORD).to_owned()
}

/// The trust stores that options name in some of the texts.
fn named(texts: &[String]) -> Stores {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).map(str::to_owned).collect()
    };
    let mut stores = Stores::new();
    for text in texts.iter().filter(|text| text.contains(TRUST_STORE)) {
        let words = words(text);
        let option = |name| words.iter().rev().find_map(|word| word.strip_prefix(name));
        let Some(file) = option(TRUST_STORE).and_then(|file| Path::new(file).canonicalize().ok()) else {
            continue;
        };
        if file.is_file() {
            stores.insert(file, password(option(TRUST_STORE_PASSWORD)));
        }
    }
    // What holds a program's keys is not changed.
    let keys = texts
        .iter()
        .flat_map(|text| words(text))
        .filter_map(|word| Path::new(word.strip_prefix(KEY_STORE)?).canonicalize().ok());
    for file in keys {
        stores.remove(&file);
    }
    stores
}

/// The store in `file` with `root` added.
fn merged(file: &Path, root: &str, password: &str, homes: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let present = fs::read(file).context("it can't be read")?;
    if let Some(store) = trust::java_store_with(&present, root, password) {
        return Ok(store);
    }
    let certificates = listed(file, password, homes)?;
    Ok(trust::java_store(&format!("{certificates}\n{root}"), password))
}

/// The certificates of an encrypted store as PEM, read by a JDK's keytool.
fn listed(file: &Path, password: &str, homes: &[PathBuf]) -> anyhow::Result<String> {
    let keytool = homes.iter().map(|home| home.join("bin/keytool")).find(|keytool| keytool.is_file());
    let mut command =
        Command::new(keytool.context("it is encrypted, and no JDK is found whose keytool reads it")?);
    command.args(["-J-Duser.language=en", "-list", "-rfc", "-keystore"]).arg(file);
    command.args(["-storepass:env", PASSWORD_VARIABLE]).env(PASSWORD_VARIABLE, password).stdin(Stdio::null());
    let output = command.output().context("keytool can't be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("keytool says: {}", text.lines().next().unwrap_or_default());
    }
    ensure!(!text.contains("KeyEntry"), "it holds keys, too");
    Ok(text)
}

/// The JDKs that the command may use: JAVA_HOME's, those whose `java` is in the PATH or the command itself, and those
/// in the folders where systems install them.
fn homes(command: &[String]) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let programs = env::split_paths(&path).map(|folder| folder.join("java"));
    let programs = programs.chain(command.first().map(PathBuf::from)).filter_map(|it| it.canonicalize().ok());
    // HOME/bin/java.
    let mut homes: Vec<PathBuf> =
        programs.filter_map(|program| Some(program.parent()?.parent()?.to_owned())).collect();
    homes.extend(own("JAVA_HOME").map(PathBuf::from));
    let sdkman = own("HOME").map(|home| Path::new(&home).join(".sdkman/candidates/java"));
    for folder in JDK_FOLDERS.iter().map(PathBuf::from).chain(sdkman) {
        let found = fs::read_dir(folder).into_iter().flatten().flatten();
        homes.extend(found.map(|entry| entry.path()));
    }
    homes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stores_that_options_name_are_found_with_their_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let file = folder.path().canonicalize().unwrap().join(name);
            fs::write(&file, "").unwrap();
            file
        };
        let (one, two, keys) = (file("one.p12"), file("two.jks"), file("keys.p12"));
        let texts = [
            format!("-Xmx1g -Djavax.net.ssl.trustStore={} -Dfile.encoding=UTF-8", one.display()),
            format!(
                "sh -c exec java '-Djavax.net.ssl.trustStore={}' \"-Djavax.net.ssl.trustStorePassword=secret\" A",
                two.display()
            ),
            format!("java {KEY_STORE}{0} {TRUST_STORE}{0}", keys.display()),
            format!("{TRUST_STORE}/nowhere/store"),
            "java -jar a.jar".to_owned(),
        ];
        let found: Vec<_> = named(&texts).into_iter().collect();
        assert_eq!(found, [(one, "changeit".to_owned()), (two, "secret".to_owned())]);
    }
}
