//! Variables of the application's containers: base URLs that lead to the proxy, and where it says what is left. The CAs of hosts mode are in
//! [`super::trust`].
//!
//! What a container sets itself stays, and what follows from that is said; but a file of CAs that the proxy can read
//! becomes a part of its bundle. All that is said follows from the pod as
//! it becomes, so that a second look at it says the same.

use quotakeeper_wire::bootstrap::{BASE_URL_PORT, InterceptionMode};
use quotakeeper_wire::headroom;
use serde_json::{Value, json};

use super::{Edit, EditError, Place};
use crate::decide::Skip;
use crate::names::PROXY;
use crate::plan::{Catch, Plan};
use crate::pod;
use quotakeeper_api::names::CONTAINERS;

/// Variables by which clients send plain calls to a forward proxy.
const HTTP_PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
/// The same of calls with TLS.
const HTTPS_PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What a person should know of a pod's containers.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// Calls that are not caught.
    pub(crate) skipped: Vec<Skip>,
    /// All else.
    pub(crate) warnings: Vec<String>,
}

/// Gives the containers (those that are `chosen`; none: all but the proxy) what the plan needs.
pub(crate) fn ensure(edit: &mut Edit, plan: &Plan, chosen: Option<&[String]>) -> Result<Remarks, EditError> {
    let mut remarks = Remarks::default();
    for list in pod::LISTS {
        for index in 0..pod::items(&edit.pod()["spec"][list]).len() {
            let name = pod::name(&edit.pod()["spec"][list][index]).to_owned();
            if name == PROXY {
                continue;
            }
            if chosen.is_some_and(|chosen| !chosen.contains(&name)) {
                // Names lead to the proxy in the whole pod.
                if let Some(host) = plan.exact_hosts().first() {
                    remarks.warnings.push(format!(
                        "container {name} is not in the annotation {CONTAINERS}: its calls to {host} reach the proxy, \
                         which it does not trust, and fail; name it too"
                    ));
                }
                continue;
            }
            let mut container = Container { edit, list, index: index.to_string(), name };
            for catch in &plan.catches {
                match catch.intercepted.mode {
                    InterceptionMode::BaseUrl => container.base_url(catch, &mut remarks)?,
                    InterceptionMode::Hosts => container.hosts(catch, &mut remarks),
                }
            }
            if !plan.catches.is_empty() {
                container.headroom()?;
            }
            if plan.by_hosts() {
                container.trust(plan, &mut remarks)?;
            }
        }
    }
    Ok(remarks)
}

/// One container of a pod that is edited.
pub(super) struct Container<'e> {
    pub(super) edit: &'e mut Edit,
    pub(super) list: &'static str,
    pub(super) index: String,
    pub(super) name: String,
}

impl Container<'_> {
    pub(super) fn value(&self) -> &Value {
        let index = self.index.parse::<usize>().unwrap_or_default();
        &self.edit.pod()["spec"][self.list][index]
    }

    /// The entries of a variable; the last one counts.
    pub(super) fn entry(&self, variable: &str) -> Option<&Value> {
        pod::items(&self.value()["env"]).iter().rev().find(|entry| entry["name"] == variable)
    }

    /// The first of the variables that has a text here, with the text.
    fn text<'v>(&self, variables: &[&'v str]) -> Option<(&'v str, &str)> {
        let texts = variables.iter().filter_map(|name| Some((*name, self.entry(name)?["value"].as_str()?)));
        texts.into_iter().find(|(_, text)| !text.is_empty())
    }

    pub(super) fn append(&mut self, variable: &str, value: &str) -> Result<(), EditError> {
        let list = ["spec", self.list, &self.index, "env"];
        self.edit.insert(&list, Place::Last, json!({"name": variable, "value": value}))
    }

    /// Gives the entry of a variable that counts another value.
    pub(super) fn replace(&mut self, variable: &str, value: &str) -> Result<(), EditError> {
        let place = pod::items(&self.value()["env"]).iter().rposition(|entry| entry["name"] == variable);
        let place = place.unwrap_or_default().to_string();
        self.edit.set(&["spec", self.list, &self.index, "env", &place, "value"], json!(value))
    }

    /// The first of `variables` that has another value than ours here.
    fn own<'v>(&self, variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> Option<&'v str> {
        let own = |(name, ours): &(&str, &str)| self.entry(name).is_some_and(|entry| entry["value"] != *ours);
        variables.into_iter().find(own).map(|(name, _)| name)
    }

    fn base_url(&mut self, catch: &Catch, remarks: &mut Remarks) -> Result<(), EditError> {
        let quota = &catch.intercepted.quota;
        let variables = || catch.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // An SDK may read any of them first, so that one of its own decides for all.
        if let Some(variable) = self.own(variables()) {
            let reason = format!("it sets {variable} itself; remove it to have them limited");
            remarks.skipped.push(Skip { container: self.name.clone(), quota: quota.clone(), reason });
            return Ok(());
        }
        for (variable, value) in variables() {
            if self.entry(variable).is_none() {
                self.append(variable, value)?;
            }
        }
        let name = &self.name;
        if let Some((source, variable)) = self.source(variables().map(|(name, _)| name)) {
            remarks.warnings.push(format!(
                "container {name}: if {source} (envFrom) sets {variable}, that is overruled: its calls draw on \
                 {quota}; to keep that address, set the variable in env"
            ));
        }
        if let Some((variable, _)) = self.text(&HTTP_PROXIES).filter(|_| !self.spared("127.0.0.1")) {
            remarks.warnings.push(format!(
                "container {name} sets {variable}: calls on the quota {quota} may go to that proxy and fail; add \
                 127.0.0.1 to NO_PROXY and no_proxy"
            ));
        }
        Ok(())
    }

    /// Says where the container's programs find what is left of their quotas.
    fn headroom(&mut self) -> Result<(), EditError> {
        if self.entry(headroom::VARIABLE).is_some() {
            return Ok(());
        }
        let url = format!("http://127.0.0.1:{BASE_URL_PORT}{}", headroom::PATH);
        self.append(headroom::VARIABLE, &url)
    }

    /// The source of envFrom that may set one of the variables, whose keys are not known here.
    pub(super) fn source<'v>(&self, variables: impl Iterator<Item = &'v str>) -> Option<(String, &'v str)> {
        let variables: Vec<&str> = variables.collect();
        pod::items(&self.value()["envFrom"]).iter().find_map(|source| {
            let prefix = source["prefix"].as_str().unwrap_or_default();
            let variable = variables.iter().find(|variable| variable.starts_with(prefix))?;
            let kinds = [("configMapRef", "ConfigMap"), ("secretRef", "Secret")];
            let named = |(field, kind)| Some(format!("the {kind} {}", source[field]["name"].as_str()?));
            let named = kinds.into_iter().find_map(named).unwrap_or_else(|| "a source".to_owned());
            Some((named, *variable))
        })
    }

    fn hosts(&self, catch: &Catch, remarks: &mut Remarks) {
        let Some((variable, _)) = self.text(&HTTPS_PROXIES) else {
            return;
        };
        let hosts = catch.intercepted.hosts.iter().filter(|host| !host.starts_with('*'));
        if let Some(host) = hosts.into_iter().find(|host| !self.spared(host)) {
            let reason = format!("it sets {variable}, by which calls to {host} may pass; add it to NO_PROXY");
            let quota = catch.intercepted.quota.clone();
            remarks.skipped.push(Skip { container: self.name.clone(), quota, reason });
        }
    }

    /// Whether the container's clients keep `host` from its forward proxy.
    fn spared(&self, host: &str) -> bool {
        let lists =
            ["no_proxy", "NO_PROXY"].into_iter().filter_map(|name| self.entry(name)?["value"].as_str());
        lists.flat_map(|list| list.split(',')).map(str::trim).any(|entry| {
            let domain = entry.trim_start_matches('*').trim_start_matches('.');
            entry == "*" || entry == host || (!domain.is_empty() && host.ends_with(&format!(".{domain}")))
        })
    }
}
