//! Hosts mode for the whole pod: names that lead to the proxy, and ports that it may listen on.

use serde_json::{Value, json};

use super::{Edit, EditError, Place};
use crate::plan::Plan;
use crate::pod;

/// The lowest port that needs no privilege, per network namespace; a safe sysctl, which Pod Security's level
/// `restricted` allows.
pub(crate) const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
/// Its value: the proxy listens on 80 and 443.
pub(crate) const PORTS_FROM: u32 = 80;
/// Where the proxy listens.
const ADDRESS: &str = "127.0.0.1";

/// Leads the hosts to the proxy. A host that the pod leads elsewhere keeps its place: the sentence that says so is
/// returned.
pub(crate) fn ensure(edit: &mut Edit, plan: &Plan) -> Result<Vec<String>, EditError> {
    if !plan.by_hosts() {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    let mut missing = Vec::new();
    for host in plan.exact_hosts() {
        match address(edit.pod(), host) {
            None => missing.push(host),
            Some(address) if address == ADDRESS => {}
            Some(address) => {
                warnings.push(format!(
                    "calls to {host} bypass the quota: the pod's hostAliases lead it to {address}; remove that entry"
                ));
            }
        }
    }
    if !missing.is_empty() {
        // The API server takes entries as a map by address, so that there is one of each.
        let entries = pod::items(&edit.pod()["spec"]["hostAliases"]).iter();
        match entries
            .enumerate()
            .find(|(_, entry)| entry["ip"] == ADDRESS)
            .map(|(index, _)| index.to_string())
        {
            Some(index) => {
                for host in missing {
                    edit.insert(&["spec", "hostAliases", &index, "hostnames"], Place::Last, json!(host))?;
                }
            }
            None => {
                let entry = json!({"ip": ADDRESS, "hostnames": missing});
                edit.insert(&["spec", "hostAliases"], Place::Last, entry)?;
            }
        }
    }
    if pod::named(&edit.pod()["spec"]["securityContext"]["sysctls"], SYSCTL).is_none() {
        let sysctl = json!({"name": SYSCTL, "value": PORTS_FROM.to_string()});
        edit.insert(&["spec", "securityContext", "sysctls"], Place::Last, sysctl)?;
    }
    Ok(warnings)
}

/// Where the pod's own entries lead a host; an address that is not the proxy's comes first.
fn address<'p>(pod: &'p Value, host: &str) -> Option<&'p str> {
    let entries = pod::items(&pod["spec"]["hostAliases"]).iter();
    let leading = entries.filter(|entry| {
        let mut names = pod::items(&entry["hostnames"]).iter().filter_map(Value::as_str);
        names.any(|name| name.eq_ignore_ascii_case(host))
    });
    let addresses: Vec<&str> = leading.filter_map(|entry| entry["ip"].as_str()).collect();
    addresses.iter().find(|address| **address != ADDRESS).or(addresses.first()).copied()
}
