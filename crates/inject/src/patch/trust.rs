//! How a container's clients are made to trust the proxy's CA: by variables, and by files that are mounted over those that
//! the pod's annotation names.
//!
//! What is mounted over a file hides the CAs that an image has there, so that this is done only where it is written.

use std::path::Path;

use quotakeeper_wire::bootstrap::{BUNDLE_FILE, JAVA_STORE_FILE};
use quotakeeper_wire::trust_variables::{
    CA_FOLDER_VARIABLE, CA_VARIABLES, JAVA_LAUNCHER_OPTIONS, JAVA_OPTIONS, SYSTEM_CA_FOLDER,
    with_java_trust_store,
};
use serde_json::json;

use super::environment::{Container, Remarks};
use super::sidecar::bundle_mount;
use super::{EditError, Place, own_cas};
use crate::names::CA_VOLUME;
use crate::plan::Plan;
use crate::pod;

/// How the names of files begin or end that are Java trust stores.
const JAVA_NAMES: [&str; 2] = ["cacerts", "jssecacerts"];
const JAVA_ENDINGS: [&str; 5] = ["jks", "p12", "pfx", "keystore", "truststore"];

impl Container<'_> {
    pub(super) fn trust(&mut self, plan: &Plan, remarks: &mut Remarks) -> Result<(), EditError> {
        let ours = bundle_mount();
        let mounts = pod::items(&self.value()["volumeMounts"]).iter();
        if !mounts.into_iter().any(|mount| mount["mountPath"] == ours["mountPath"]) {
            self.edit.insert(&["spec", self.list, &self.index, "volumeMounts"], Place::Last, ours)?;
        }
        let mut kept = Vec::new();
        for variable in CA_VARIABLES {
            match self.entry(variable) {
                None => self.append(variable, BUNDLE_FILE)?,
                Some(entry) if entry["value"] == BUNDLE_FILE => {}
                Some(entry) if own_cas::is_read(self.edit.pod(), plan, self.value(), entry) => {
                    self.replace(variable, BUNDLE_FILE)?;
                }
                Some(_) => kept.push(variable),
            }
        }
        let host = plan.exact_hosts().first().copied().unwrap_or_default();
        let name = &self.name;
        if let Some(variable) = kept.first() {
            remarks.warnings.push(format!(
                "container {name} sets {variable} itself: clients that read it do not trust the proxy, and calls to \
                 {host} fail; leave it out, and give its CAs to the installation (trust.extraCAs)"
            ));
        }
        if let Some((source, variable)) = self.source(CA_VARIABLES.into_iter()) {
            remarks.warnings.push(format!(
                "container {name}: if {source} (envFrom) sets {variable} or another of CAs, that is overruled; give \
                 its CAs to the installation (trust.extraCAs)"
            ));
        }
        self.system_folder()?;
        self.java_options(remarks)?;
        self.trust_files(plan)
    }

    /// CAs that were added to the image's own are in its folder too: clients that read only what variables name would
    /// lose them by the bundle.
    fn system_folder(&mut self) -> Result<(), EditError> {
        let is_set = self.entry(CA_FOLDER_VARIABLE).is_some();
        if is_set || self.source([CA_FOLDER_VARIABLE].into_iter()).is_some() {
            return Ok(());
        }
        self.append(CA_FOLDER_VARIABLE, SYSTEM_CA_FOLDER)
    }

    /// The trust store in the options of the container's JVMs. An image may set `JAVA_TOOL_OPTIONS` itself, which a
    /// variable of the pod would take away: it is changed only where the container sets it.
    fn java_options(&mut self, remarks: &mut Remarks) -> Result<(), EditError> {
        let variables = [JAVA_OPTIONS, JAVA_LAUNCHER_OPTIONS];
        let set = variables.into_iter().find(|name| self.entry(name).is_some());
        let variable = set.unwrap_or(JAVA_LAUNCHER_OPTIONS);
        let name = &self.name;
        let distrust = |why: &str| {
            format!(
                "container {name} {why}: its JVMs do not trust the proxy; let -Djavax.net.ssl.trustStore name \
                 {JAVA_STORE_FILE}"
            )
        };
        // What envFrom may set is not known, and would be overruled.
        if set.is_none() && self.source([JAVA_LAUNCHER_OPTIONS].into_iter()).is_some() {
            return Ok(());
        }
        let Some(entry) = self.entry(variable) else {
            let options = with_java_trust_store("", JAVA_STORE_FILE).unwrap_or_default();
            return self.append(variable, &options);
        };
        match entry["value"].as_str() {
            Some(options) if options.contains(JAVA_STORE_FILE) => {}
            Some(options) => match with_java_trust_store(options, JAVA_STORE_FILE) {
                Some(options) => self.replace(variable, &options)?,
                None => remarks.warnings.push(distrust("names a trust store of its own")),
            },
            None => remarks.warnings.push(distrust(&format!("takes {variable} from elsewhere"))),
        }
        Ok(())
    }

    fn trust_files(&mut self, plan: &Plan) -> Result<(), EditError> {
        for file in &plan.trust_files {
            let ours = if is_java(file) { JAVA_STORE_FILE } else { BUNDLE_FILE };
            let (_, name) = ours.rsplit_once('/').unwrap_or_default();
            let mut mounts = pod::items(&self.value()["volumeMounts"]).iter();
            if !mounts.any(|mount| mount["mountPath"] == *file) {
                let mount = json!({"name": CA_VOLUME, "mountPath": file, "subPath": name, "readOnly": true});
                let list = ["spec", self.list, &self.index, "volumeMounts"];
                self.edit.insert(&list, Place::Last, mount)?;
            }
        }
        Ok(())
    }
}

fn is_java(file: &str) -> bool {
    let path = Path::new(file);
    let is = |part: Option<&std::ffi::OsStr>, known: &[&str]| {
        part.and_then(|part| part.to_str()).is_some_and(|part| known.contains(&part))
    };
    is(path.file_name(), &JAVA_NAMES) || is(path.extension(), &JAVA_ENDINGS)
}
