//! The controller of a pod's Job, which only the API server knows.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client};
use quotakeeper_api::workload::{self, Controller};

/// How long the API server may take to return a Job.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The controller of a Job, where it has one. Without an answer in time the Job counts as its own
/// controller.
pub(crate) async fn owner_of_job(client: &Client, namespace: &str, job: &str) -> Option<Controller> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    match tokio::time::timeout(TIMEOUT, jobs.get_metadata(job)).await {
        Ok(Ok(found)) => workload::owner(&found.metadata),
        Ok(Err(error)) => {
            tracing::warn!(namespace, job, %error, "the Job can't be read; it counts as its own controller");
            None
        }
        Err(_) => {
            tracing::warn!(namespace, job, "the Job was not read in time; it counts as its own controller");
            None
        }
    }
}
