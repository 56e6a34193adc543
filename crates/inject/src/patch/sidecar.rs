//! The proxy's container and its volumes.
//!
//! A native sidecar (KEP-753): the first of the init containers, so that their calls are caught too, and a Job is
//! complete when its own containers are. It fits into Pod Security's level `restricted`.

use quotakeeper_wire::bootstrap::{
    ADMIN_PORT, AUDIENCE, BODY_FOLDER, BODY_FOLDER_SIZE, BUNDLE_FILE, CA_FOLDER, KEY_FOLDER, TOKEN_FILE,
    VARIABLE,
};
use serde_json::{Value, json};

use super::{Edit, EditError, Place};
use crate::names::{BODY_VOLUME, CA_VOLUME, KEY_VOLUME, PROXY, TOKEN_VOLUME};
use crate::plan::Plan;
use crate::pod;
use crate::settings::Settings;

/// The user of the proxy's image.
const USER: i64 = 65532;
/// Where admission mounts the pod's credentials for the API server, in each container that has no mount there.
const API_CREDENTIALS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token is good for, in seconds; the kubelet renews it before.
const TOKEN_SECONDS: u32 = 3600;
/// Seconds in which the proxy must have begun to listen.
const START_SECONDS: u32 = 120;

/// The proxy, where the pod hasn't got it, and its volumes. It has it and lost what makes it a sidecar, as other
/// webhooks do that know an older Kubernetes: that is given back.
pub(crate) fn ensure(
    edit: &mut Edit,
    plan: &Plan,
    settings: &Settings,
    resources: Value,
) -> Result<(), EditError> {
    let init = &["spec", "initContainers"];
    let found =
        pod::items(&edit.pod()["spec"]["initContainers"]).iter().position(|it| pod::name(it) == PROXY);
    match found {
        Some(index) => {
            let index = index.to_string();
            edit.set(&[init[0], init[1], &index, "restartPolicy"], json!("Always"))?;
        }
        None => {
            let container = container(edit.pod(), plan, settings, resources);
            edit.insert(init, Place::First, container)?;
        }
    }
    for volume in volumes(plan) {
        if pod::named(&edit.pod()["spec"]["volumes"], pod::name(&volume)).is_none() {
            edit.insert(&["spec", "volumes"], Place::Last, volume)?;
        }
    }
    for secret in &settings.image_pull_secrets {
        if pod::named(&edit.pod()["spec"]["imagePullSecrets"], secret).is_none() {
            edit.insert(&["spec", "imagePullSecrets"], Place::Last, json!({"name": secret}))?;
        }
    }
    Ok(())
}

fn container(pod: &Value, plan: &Plan, settings: &Settings, resources: Value) -> Value {
    // Strings, lists and maps with text keys always become JSON.
    let bootstrap = serde_json::to_string(&plan.bootstrap).unwrap_or_default();
    let mut env = vec![json!({"name": VARIABLE, "value": bootstrap})];
    if let Some(log) = &settings.log {
        env.push(json!({"name": "QUOTAKEEPER_LOG", "value": log}));
    }
    // At the second place too, which is so kept from the credentials: the proxy has no business with the API server.
    let token = |path: &str| json!({"name": TOKEN_VOLUME, "mountPath": path, "readOnly": true});
    let bodies = json!({"name": BODY_VOLUME, "mountPath": BODY_FOLDER});
    let mut mounts = vec![token(folder(TOKEN_FILE)), token(API_CREDENTIALS), bodies];
    if plan.by_hosts() {
        mounts.push(json!({"name": CA_VOLUME, "mountPath": CA_FOLDER}));
        mounts.push(json!({"name": KEY_VOLUME, "mountPath": KEY_FOLDER}));
        mounts.extend(plan.own_mounts.iter().cloned());
    }
    let mut security = json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    // Left to the image else, so that OpenShift may choose; but a pod that runs as root would make ours do so.
    if pod["spec"]["securityContext"]["runAsUser"] == 0 {
        security["runAsUser"] = json!(USER);
    }
    let mut container = json!({
        "name": PROXY,
        "image": settings.image,
        "restartPolicy": "Always",
        "env": env,
        "ports": [{"name": "quotakeeper", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": ADMIN_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": START_SECONDS,
        },
        "securityContext": security,
        "volumeMounts": mounts,
    });
    if resources != json!({}) {
        container["resources"] = resources;
    }
    if let Some(policy) = &settings.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    container
}

fn volumes(plan: &Plan) -> Vec<Value> {
    let (_, file) = TOKEN_FILE.rsplit_once('/').unwrap_or_default();
    let token = json!({"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": file});
    let mut volumes = vec![
        json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}),
        json!({"name": BODY_VOLUME, "emptyDir": {"sizeLimit": BODY_FOLDER_SIZE}}),
    ];
    if plan.by_hosts() {
        volumes.push(json!({"name": CA_VOLUME, "emptyDir": {"sizeLimit": "16Mi"}}));
        volumes.push(json!({"name": KEY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}));
    }
    volumes
}

/// The folder of a file.
fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(folder, _)| folder)
}

/// What an application's container mounts to see the bundle.
pub(crate) fn bundle_mount() -> Value {
    json!({"name": CA_VOLUME, "mountPath": folder(BUNDLE_FILE), "readOnly": true})
}
