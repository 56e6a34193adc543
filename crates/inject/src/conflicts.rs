//! What in a pod would keep the proxy from working: the pod is refused at admission instead of failing later.

use quotakeeper_dialects::did_you_mean;
use quotakeeper_wire::bootstrap::{ADMIN_PORT, BASE_URL_PORT, CA_FOLDER};
use serde_json::Value;
use thiserror::Error;

use crate::names::{BODY_VOLUME, CA_VOLUME, KEY_VOLUME, PROXY, TOKEN_VOLUME};
use crate::patch::hosts::{PORTS_FROM, SYSCTL};
use crate::plan::Plan;
use crate::pod;
use quotakeeper_api::names::{CONTAINERS, TRUST_FILES};

/// The ports on which the proxy plays hosts.
const HOSTS_PORTS: [u16; 2] = [443, 80];

/// What in the pod keeps the proxy from working.
#[derive(Debug, Error)]
pub(crate) enum Conflict {
    #[error("the container name {PROXY} is reserved for the proxy; give the pod's own another")]
    ContainerName,
    #[error("the volume name {0} is reserved for the proxy; give the pod's own another")]
    VolumeName(&'static str),
    #[error(
        "the container {container} listens on port {port}, which the proxy needs in this pod; let it listen on another"
    )]
    Port { container: String, port: u64 },
    #[error(
        "the pod sets the sysctl {SYSCTL} to {0}, and the proxy has to listen on ports 80 and 443; set it to \
         {PORTS_FROM}, or leave it out"
    )]
    Sysctl(String),
    #[error("the container {0} mounts {CA_FOLDER}, which is the proxy's; mount it elsewhere")]
    Mount(String),
    #[error(
        "the container {container} mounts the volume {volume}, which is the proxy's; leave the mount out"
    )]
    VolumeMount { container: String, volume: &'static str },
}

/// Why the containers whose calls are to be caught can't be found.
#[derive(Debug, Error)]
pub(crate) enum ContainersError {
    #[error("the annotation {CONTAINERS} is empty; write names of containers, or leave it out")]
    Empty,
    #[error(
        "the annotation {CONTAINERS} names the container `{name}`, which the pod hasn't{hint}; it has: {which}",
        hint = did_you_mean(.name, .known.iter().map(String::as_str)), which = .known.join(", ")
    )]
    Unknown { name: String, known: Vec<String> },
}

/// Why the annotation [`TRUST_FILES`] can't be followed.
#[derive(Debug, Error)]
#[error("the annotation {TRUST_FILES} names `{0}`; write absolute paths of files, separated by commas")]
pub(crate) struct TrustFilesError(String);

/// The first conflict of the pod with the plan.
pub(crate) fn find(pod: &Value, plan: &Plan) -> Option<Conflict> {
    names(pod)
        .or_else(|| ports(pod, plan))
        .or_else(|| sysctl(pod).filter(|_| plan.by_hosts()))
        .or_else(|| mounts(pod).filter(|_| plan.by_hosts()))
}

/// The volumes that injection adds.
const VOLUMES: [&str; 4] = [TOKEN_VOLUME, CA_VOLUME, KEY_VOLUME, BODY_VOLUME];

fn names(pod: &Value) -> Option<Conflict> {
    if pod::containers(pod).any(|(_, _, container)| pod::name(container) == PROXY) {
        return Some(Conflict::ContainerName);
    }
    let taken = VOLUMES.into_iter().find(|name| pod::named(&pod["spec"]["volumes"], name).is_some());
    taken.map(Conflict::VolumeName).or_else(|| mounted(pod))
}

/// A container that would get the proxy's token or keys with a volume that is not in the pod yet.
fn mounted(pod: &Value) -> Option<Conflict> {
    pod::containers(pod).find_map(|(_, _, container)| {
        let volume =
            VOLUMES.into_iter().find(|name| pod::named(&container["volumeMounts"], name).is_some())?;
        Some(Conflict::VolumeMount { container: pod::name(container).to_owned(), volume })
    })
}

fn ports(pod: &Value, plan: &Plan) -> Option<Conflict> {
    let mut needed = vec![BASE_URL_PORT, ADMIN_PORT];
    if plan.by_hosts() {
        needed.extend(HOSTS_PORTS);
    }
    pod::containers(pod).find_map(|(_, _, container)| {
        let ports = pod::items(&container["ports"]).iter();
        let tcp = ports.filter(|port| port["protocol"].as_str().unwrap_or("TCP") == "TCP");
        let mut numbers = tcp.filter_map(|port| port["containerPort"].as_u64());
        let port = numbers.find(|number| needed.iter().any(|needed| u64::from(*needed) == *number))?;
        Some(Conflict::Port { container: pod::name(container).to_owned(), port })
    })
}

fn sysctl(pod: &Value) -> Option<Conflict> {
    let own = pod::named(&pod["spec"]["securityContext"]["sysctls"], SYSCTL)?;
    let value = own["value"].as_str().unwrap_or_default();
    let low = value.parse::<u32>().is_ok_and(|value| value <= PORTS_FROM);
    (!low).then(|| Conflict::Sysctl(value.to_owned()))
}

fn mounts(pod: &Value) -> Option<Conflict> {
    pod::containers(pod).find_map(|(_, _, container)| {
        let mut mounts = pod::items(&container["volumeMounts"]).iter();
        let taken = mounts.any(|mount| {
            mount["mountPath"].as_str().is_some_and(|path| path.trim_end_matches('/') == CA_FOLDER)
        });
        taken.then(|| Conflict::Mount(pod::name(container).to_owned()))
    })
}

/// The containers whose calls are caught, as the annotation names them; none: all.
///
/// # Errors
/// [`ContainersError`].
pub(crate) fn selected_containers(pod: &Value) -> Result<Option<Vec<String>>, ContainersError> {
    let Some(annotation) = pod::annotation(pod, CONTAINERS) else {
        return Ok(None);
    };
    let names: Vec<String> =
        annotation.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ContainersError::Empty);
    }
    let all = pod::containers(pod).map(|(_, _, container)| pod::name(container).to_owned());
    let known: Vec<String> = all.filter(|name| name != PROXY).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(ContainersError::Unknown { name: name.clone(), known }),
        None => Ok(Some(names)),
    }
}

/// The files of CAs that the proxy's are mounted over, as the annotation names them.
///
/// # Errors
/// [`TrustFilesError`].
pub(crate) fn trust_files(pod: &Value) -> Result<Vec<String>, TrustFilesError> {
    let annotation = pod::annotation(pod, TRUST_FILES).unwrap_or_default();
    let files = annotation.split(',').map(str::trim).filter(|file| !file.is_empty());
    files
        .map(|file| {
            let parts: Vec<&str> = file.split('/').collect();
            let plain = parts[1..].iter().all(|part| !["", ".", ".."].contains(part));
            match parts[0].is_empty() && parts.len() > 1 && plain && !file.contains(':') {
                true => Ok(file.to_owned()),
                false => Err(TrustFilesError(file.to_owned())),
            }
        })
        .collect()
}
