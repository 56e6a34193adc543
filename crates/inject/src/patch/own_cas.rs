//! CAs that containers bring along in a volume: the proxy mounts the volume too, and adds them to its bundle, which
//! then takes the place of the container's own file.
//!
//! Files of an image are out of the proxy's reach, and a volume that begins empty is filled after the proxy has begun:
//! these stay what the container says.

use quotakeeper_wire::bootstrap::OWN_FOLDER;
use quotakeeper_wire::trust_variables::CA_VARIABLES;
use serde_json::{Value, json};

use crate::names::PROXY;
use crate::plan::Plan;
use crate::pod;

/// Where a file of a container is: its volume, the path in that which is mounted, and the path below the mount.
#[derive(PartialEq, Eq)]
struct Spot<'p> {
    volume: &'p str,
    sub_path: Option<&'p str>,
    rest: &'p str,
}

/// Adds to the plan of a new pod what the proxy has to mount and to read.
pub(crate) fn plan(pod: &Value, plan: &mut Plan, chosen: Option<&[String]>) {
    if !plan.by_hosts() {
        return;
    }
    for (_, _, container) in pod::containers(pod) {
        let name = pod::name(container);
        if name == PROXY || chosen.is_some_and(|chosen| !chosen.iter().any(|it| it == name)) {
            continue;
        }
        for variable in CA_VARIABLES {
            let entry = pod::items(&container["env"]).iter().rev().find(|entry| entry["name"] == variable);
            let Some(spot) = entry.and_then(|entry| spot(pod, container, entry)) else { continue };
            if mounted(&plan.own_mounts, &spot).is_none() {
                let path = format!("{OWN_FOLDER}/{}", plan.own_mounts.len());
                let mut mount = json!({"name": spot.volume, "mountPath": path, "readOnly": true});
                if let Some(sub_path) = spot.sub_path {
                    mount["subPath"] = json!(sub_path);
                }
                plan.own_mounts.push(mount);
            }
            if let Some(file) = mounted(&plan.own_mounts, &spot)
                && !plan.bootstrap.own_ca_files.contains(&file)
            {
                plan.bootstrap.own_ca_files.push(file);
            }
        }
    }
}

/// Whether the pod's proxy reads the file that a variable of a container names.
pub(crate) fn is_read(pod: &Value, plan: &Plan, container: &Value, entry: &Value) -> bool {
    let proxy = pod::named(&pod["spec"]["initContainers"], PROXY);
    let mounts = proxy.map(|proxy| pod::items(&proxy["volumeMounts"])).unwrap_or_default();
    let file = spot(pod, container, entry).and_then(|spot| mounted(mounts, &spot));
    file.is_some_and(|file| plan.bootstrap.own_ca_files.contains(&file))
}

/// The file as the proxy sees it, whose mounts these are.
fn mounted(mounts: &[Value], spot: &Spot<'_>) -> Option<String> {
    mounts.iter().find_map(|mount| {
        let path = mount["mountPath"].as_str().filter(|path| path.starts_with(OWN_FOLDER))?;
        let same = mount["name"] == spot.volume && mount["subPath"].as_str() == spot.sub_path;
        same.then(|| format!("{path}{}", spot.rest))
    })
}

fn spot<'p>(pod: &'p Value, container: &'p Value, entry: &'p Value) -> Option<Spot<'p>> {
    let file = entry["value"].as_str()?;
    let plain = file.split('/').all(|part| part != "." && part != "..");
    if !plain || file.contains("$(") {
        return None;
    }
    let below = |mount: &'p Value| {
        let path = mount["mountPath"].as_str()?.trim_end_matches('/');
        let rest = file.strip_prefix(path)?;
        let whole = !path.is_empty() && (rest.is_empty() || rest.starts_with('/'));
        whole.then_some((path.len(), mount, rest))
    };
    let mounts = pod::items(&container["volumeMounts"]).iter();
    // Of mounts within each other, the innermost is what the container sees.
    let (_, mount, rest) = mounts.filter_map(below).max_by_key(|(length, _, _)| *length)?;
    if mount.get("subPathExpr").is_some_and(|expression| expression.as_str() != Some("")) {
        return None;
    }
    let volume = mount["name"].as_str()?;
    let kind = pod::named(&pod["spec"]["volumes"], volume)?;
    let begins_empty = ["emptyDir", "ephemeral"].into_iter().any(|field| kind.get(field).is_some());
    let sub_path = mount["subPath"].as_str().filter(|path| !path.is_empty());
    (!begins_empty).then_some(Spot { volume, sub_path, rest })
}
