//! What a pod may not have if the proxy is to work beside it: told at admission, not by a pod that fails later.

use quotakeeper_dialects::did_you_mean;
use quotakeeper_wire::bootstrap::{ADMIN_PORT, BASE_URL_PORT, CA_FOLDER};
use serde_json::Value;

use crate::names::{CA_VOLUME, KEY_VOLUME, PROXY, TOKEN_VOLUME};
use crate::patch::hosts::{PORTS_FROM, SYSCTL};
use crate::plan::Plan;
use crate::pod;
use quotakeeper_api::names::CONTAINERS;

/// The ports on which the proxy plays hosts.
const HOSTS_PORTS: [u16; 2] = [443, 80];

/// What keeps the proxy from working in the pod, as a sentence with the remedy.
pub(crate) fn find(pod: &Value, plan: &Plan) -> Option<String> {
    names(pod)
        .or_else(|| ports(pod, plan))
        .or_else(|| sysctl(pod).filter(|_| plan.by_hosts()))
        .or_else(|| mounts(pod).filter(|_| plan.by_hosts()))
}

fn names(pod: &Value) -> Option<String> {
    if pod::containers(pod).any(|(_, _, container)| pod::name(container) == PROXY) {
        return Some(format!(
            "the container name {PROXY} is reserved for the proxy; give the pod's own another"
        ));
    }
    let reserved = [TOKEN_VOLUME, CA_VOLUME, KEY_VOLUME];
    let taken = reserved.into_iter().find(|name| pod::named(&pod["spec"]["volumes"], name).is_some())?;
    Some(format!("the volume name {taken} is reserved for the proxy; give the pod's own another"))
}

fn ports(pod: &Value, plan: &Plan) -> Option<String> {
    let mut needed = vec![BASE_URL_PORT, ADMIN_PORT];
    if plan.by_hosts() {
        needed.extend(HOSTS_PORTS);
    }
    pod::containers(pod).find_map(|(_, _, container)| {
        let ports = pod::items(&container["ports"]).iter();
        let tcp = ports.filter(|port| port["protocol"].as_str().unwrap_or("TCP") == "TCP");
        let mut numbers = tcp.filter_map(|port| port["containerPort"].as_u64());
        let port = numbers.find(|number| needed.iter().any(|needed| u64::from(*needed) == *number))?;
        Some(format!(
            "the container {} listens on port {port}, which the proxy needs in this pod; let it listen on another",
            pod::name(container)
        ))
    })
}

fn sysctl(pod: &Value) -> Option<String> {
    let own = pod::named(&pod["spec"]["securityContext"]["sysctls"], SYSCTL)?;
    let value = own["value"].as_str().unwrap_or_default();
    let low = value.parse::<u32>().is_ok_and(|value| value <= PORTS_FROM);
    (!low).then(|| {
        format!(
            "the pod sets the sysctl {SYSCTL} to {value}, and the proxy has to listen on ports 80 and 443; set it to \
             {PORTS_FROM}, or leave it out"
        )
    })
}

fn mounts(pod: &Value) -> Option<String> {
    pod::containers(pod).find_map(|(_, _, container)| {
        let mut mounts = pod::items(&container["volumeMounts"]).iter();
        let taken = mounts.any(|mount| {
            mount["mountPath"].as_str().is_some_and(|path| path.trim_end_matches('/') == CA_FOLDER)
        });
        let name = pod::name(container);
        taken.then(|| {
            format!("the container {name} mounts {CA_FOLDER}, which is the proxy's; mount it elsewhere")
        })
    })
}

/// The containers that the annotation names; none: all.
///
/// # Errors
/// A sentence where it names one that the pod hasn't.
pub(crate) fn chosen(pod: &Value) -> Result<Option<Vec<String>>, String> {
    let Some(annotation) = pod::annotation(pod, CONTAINERS) else {
        return Ok(None);
    };
    let names: Vec<String> =
        annotation.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let known: Vec<&str> = pod::containers(pod)
        .map(|(_, _, container)| pod::name(container))
        .filter(|name| *name != PROXY)
        .collect();
    if names.is_empty() {
        return Err(format!(
            "the annotation {CONTAINERS} is empty; write names of containers, or leave it out"
        ));
    }
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!(
            "the annotation {CONTAINERS} names the container `{name}`, which the pod hasn't{}; it has: {}",
            did_you_mean(name, known.iter().copied()),
            known.join(", ")
        )),
        None => Ok(Some(names)),
    }
}
