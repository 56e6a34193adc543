//! The decision for one pod: values in, a patch or a sentence out.

use std::collections::BTreeSet;

use json_patch::Patch;
use quotakeeper_api::workload::{self, Controller, InvalidName};
use quotakeeper_wire::bootstrap::{Bootstrap, InterceptionMode};
use quotakeeper_wire::name::{Consumer, QuotaName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::conflicts::{self, Conflict, ContainersError, TrustFilesError};
use crate::names::{MIRROR, PROXY};
use crate::patch::resources::ResourcesError;
use crate::patch::{Edit, EditError, annotations, environment, hosts, own_cas, resources, sidecar};
use crate::plan::{self, Plan, PlanError, Quotas};
use crate::pod;
use crate::requested_quotas::{RequestError, Requested, requested};
use crate::resolve::{self, ResolveError};
use crate::settings::{Settings, SettingsError};
use crate::view::{Namespace, View};
use quotakeeper_api::names::STATUS;

/// The namespace of the cluster's own pods: they are never injected.
const SYSTEM: &str = "kube-system";

/// All that a decision rests on.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The pod, as the API server sent it.
    pub pod: &'a Value,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// The quotas and providers.
    pub view: &'a dyn View,
    /// What the installation decides.
    pub settings: &'a Settings,
    /// The controller of the pod's Job ([`workload::job`]), if it has one.
    pub job_owner: Option<&'a Controller>,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It gets a proxy, or what a proxy that it has needs.
    Patch {
        /// The edits.
        patch: Patch,
        /// What its author should know, as sentences.
        warnings: Vec<String>,
        /// What the pod will say of itself.
        status: Status,
    },
    /// It does not ask, or has all that it needs.
    Unchanged,
    /// It asks and can't have a proxy: it goes without.
    Skipped {
        /// Why, as a sentence.
        reason: String,
    },
    /// It is refused.
    Denied {
        /// Why, as a sentence with the remedy.
        sentence: String,
        /// A name is unknown: the quota may only just have been created.
        unsettled: bool,
    },
}

/// What an injected pod says of itself, in the annotation [`STATUS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version that injected it.
    pub version: String,
    /// The workload that it belongs to: `namespace/kind/name`.
    pub consumer: Consumer,
    /// The name of the pod's Job, whose controller `consumer` may be; none: it is not a Job's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Its quotas.
    pub quotas: Vec<StatusQuota>,
    /// Containers whose calls are not caught.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skip>,
    /// What else its author should know, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A quota of an injected pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusQuota {
    /// `namespace/name`.
    pub quota: QuotaName,
    /// How its calls are caught.
    pub mode: InterceptionMode,
}

/// Calls of a container that are not caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skip {
    /// The container.
    pub container: String,
    /// The quota that they would draw on: `namespace/name`.
    pub quota: QuotaName,
    /// Why, to be read behind the container's name.
    pub reason: String,
}

impl Skip {
    fn sentence(&self) -> String {
        let Skip { container, quota, reason } = self;
        format!("calls of container {container} bypass the quota {quota}: {reason}")
    }
}

/// Why a pod is denied; each says what to do.
#[derive(Debug, Error)]
#[error(transparent)]
enum DenialError {
    Request(#[from] RequestError),
    Settings(#[from] SettingsError),
    Resolve(#[from] ResolveError),
    Workload(#[from] InvalidName),
    Plan(#[from] PlanError),
    Conflict(#[from] Conflict),
    Containers(#[from] ContainersError),
    TrustFiles(#[from] TrustFilesError),
    Resources(#[from] ResourcesError),
    Edit(#[from] EditError),
}

/// Why a decision ends early.
enum Outcome {
    Unchanged,
    Skipped(String),
    Denied(DenialError),
}

impl<E: Into<DenialError>> From<E> for Outcome {
    fn from(error: E) -> Self {
        Outcome::Denied(error.into())
    }
}

/// Decides about a pod that is to be created.
pub fn decide(input: &Input<'_>) -> Decision {
    match patch(input) {
        Ok((Some(patch), status)) => {
            // Not in the pod's status: what holds calls up now is over when someone reads that.
            let holdups = status.quotas.iter().filter_map(|it| input.view.holdup(&it.quota));
            let skipped = status.skipped.iter().map(Skip::sentence);
            let warnings = holdups.chain(skipped).chain(status.warnings.iter().cloned()).collect();
            Decision::Patch { patch, warnings, status }
        }
        Ok((None, _)) | Err(Outcome::Unchanged) => Decision::Unchanged,
        Err(Outcome::Skipped(reason)) => Decision::Skipped { reason },
        Err(Outcome::Denied(error)) => {
            let unsettled = matches!(&error, DenialError::Resolve(error) if error.may_be_created_soon());
            Decision::Denied { sentence: error.to_string(), unsettled }
        }
    }
}

fn patch(input: &Input<'_>) -> Result<(Option<Patch>, Status), Outcome> {
    let &Input { pod, namespace, view, settings, .. } = input;
    if namespace.name == settings.namespace || namespace.name == SYSTEM {
        return Err(Outcome::Unchanged);
    }
    let requested = requested(pod, namespace)?;
    if requested == Requested::Nothing {
        return Err(Outcome::Unchanged);
    }
    if let Some(reason) = beyond_reach(pod) {
        return Err(Outcome::Skipped(reason.to_owned()));
    }
    let injected = injected(pod, settings);
    let is_new = injected.is_none();
    let (mut plan, resources, job) = match injected {
        Some(Injected::ByThis { bootstrap, job }) => (Plan::again(*bootstrap, view), Value::Null, job),
        Some(Injected::ByAnother) => return Err(Outcome::Unchanged),
        None => {
            let plan = plan(input, &requested)?;
            let resources = resources::of(pod, &settings.resources, &view.policies(&namespace.name))?;
            (plan, resources, workload::job(&pod::metadata(pod)))
        }
    };
    let selected = conflicts::selected_containers(pod)?;
    plan.trust_files = conflicts::trust_files(pod)?;
    if is_new {
        own_cas::plan(pod, &mut plan, selected.as_deref());
    }
    let mut edit = Edit::new(pod);
    let mut warnings = plan.warnings();
    sidecar::ensure(&mut edit, &plan, settings, resources)?;
    let remarks = environment::ensure(&mut edit, &plan, selected.as_deref())?;
    warnings.extend(remarks.warnings);
    warnings.extend(hosts::ensure(&mut edit, &plan)?);
    let status = Status {
        version: settings.version.clone(),
        consumer: plan.bootstrap.consumer.clone(),
        job,
        quotas: plan
            .bootstrap
            .quotas
            .iter()
            .map(|it| StatusQuota { quota: it.quota.clone(), mode: it.mode })
            .collect(),
        skipped: remarks.skipped,
        warnings: once(warnings),
    };
    annotations::ensure(&mut edit, &plan, &status)?;
    Ok((edit.finish(), status))
}

/// The plan for a pod without a proxy.
fn plan(input: &Input<'_>, requested: &Requested) -> Result<Plan, Outcome> {
    let &Input { pod, namespace, view, settings, job_owner } = input;
    settings.check()?;
    // A namespace's label also covers pods whose authors do not know of it: those start without a proxy.
    let by_label = *requested == (Requested::Auto { explicitly: false });
    let refused = |error: DenialError| match by_label {
        true => Outcome::Skipped(error.to_string()),
        false => Outcome::Denied(error),
    };
    let quotas =
        resolve::find(requested, namespace, &view.quotas()).map_err(|error| refused(error.into()))?;
    let consumer = consumer(pod, &namespace.name, job_owner)?;
    // Others wrote the quotas that a pod does not name.
    let named = matches!(requested, Requested::Names(_));
    let quotas = Quotas { all: &quotas, named };
    let plan = Plan::of(quotas, view, settings, consumer).map_err(|error| refused(error.into()))?;
    conflicts::find(pod, &plan).map_or(Ok(plan), |conflict| Err(refused(conflict.into())))
}

/// The workload of a pod, as the limiter will derive it too.
fn consumer(pod: &Value, namespace: &str, job_owner: Option<&Controller>) -> Result<Consumer, InvalidName> {
    let workload = workload::of_pod(&pod::metadata(pod), namespace, job_owner);
    let of_account = || {
        let account = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
        workload::of_service_account(namespace, account.unwrap_or("default"))
    };
    Ok(workload?.unwrap_or_else(of_account))
}

/// Why no proxy can work in a pod of this kind.
fn beyond_reach(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if spec["hostNetwork"] == true {
        return Some(
            "a pod with hostNetwork gets no proxy, which would listen on its node's ports: its calls are not limited",
        );
    }
    if spec["os"]["name"] == "windows" || pod::only_on_windows(spec) {
        return Some("a pod for Windows gets no proxy, which runs on Linux: its calls are not limited");
    }
    pod::annotation(pod, MIRROR)
        .map(|_| "a static pod gets no proxy, its node's files define it: its calls are not limited")
}

/// Which version gave a pod its proxy.
enum Injected {
    /// This one, with this configuration for the proxy, when the pod was of this Job.
    ByThis { bootstrap: Box<Bootstrap>, job: Option<String> },
    /// Another one.
    ByAnother,
}

/// Whether a pod has a proxy. Labels alone don't say so: a template may carry them.
fn injected(pod: &Value, settings: &Settings) -> Option<Injected> {
    let proxy = pod::named(&pod["spec"]["initContainers"], PROXY)?;
    let bootstrap = pod::named(&proxy["env"], quotakeeper_wire::bootstrap::VARIABLE)?;
    // Of another version both may have a form that does not read.
    let status: Value = serde_json::from_str(pod::annotation(pod, STATUS)?).ok()?;
    if status["version"] != settings.version {
        return Some(Injected::ByAnother);
    }
    match plan::read(bootstrap) {
        Some(bootstrap) => {
            let job = status["job"].as_str().map(str::to_owned);
            Some(Injected::ByThis { bootstrap: Box::new(bootstrap), job })
        }
        None => Some(Injected::ByAnother),
    }
}

/// The sentences, each once.
fn once(mut sentences: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    sentences.retain(|sentence| seen.insert(sentence.clone()));
    sentences
}
