//! The connection to the cluster, and its errors as sentences.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Wrong input that only the cluster shows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadInput(pub(super) String);

/// Which cluster, and where in it.
#[derive(Debug, Args)]
pub(super) struct ClusterArguments {
    /// The namespace. Default: that of the context.
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,

    /// All namespaces.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    all_namespaces: bool,

    /// The namespace of operator and limiter.
    #[arg(long, global = true, default_value = "quotakeeper", value_name = "NAME")]
    installation: String,

    /// The kubeconfig. Default: that of the variable KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
}

/// A cluster.
pub(super) struct Cluster {
    pub(super) client: Client,
    /// The namespace that was asked for; none: all.
    pub(super) namespace: Option<String>,
    /// The namespace of operator and limiter.
    pub(super) installation: String,
}

impl Cluster {
    pub(super) async fn connect(arguments: &ClusterArguments) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: arguments.context.clone(), ..Default::default() };
        let config = match &arguments.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file);
                let read = read.with_context(|| format!("{} can't be read", file.display()))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .context("the kubeconfig can't be used")?
            }
            None if arguments.context.is_some() => {
                Config::from_kubeconfig(&options).await.context("the kubeconfig can't be used")?
            }
            None => Config::infer().await.context("no cluster is configured; give --kubeconfig")?,
        };
        let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = quotakeeper_operator::client_of(config).context("the cluster can't be reached")?;
        Ok(Cluster {
            client,
            namespace: (!arguments.all_namespaces).then_some(namespace),
            installation: arguments.installation.clone(),
        })
    }

    /// The namespace that was asked for, where all of them make no sense.
    pub(super) fn one_namespace(&self) -> anyhow::Result<&str> {
        let none = || BadInput("--all-namespaces makes no sense here; give one with -n".to_owned());
        Ok(self.namespace.as_deref().ok_or_else(none)?)
    }
}

/// Whether the API server refused a request for want of a right.
pub(super) fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

/// Whether the API server knows no such object.
pub(super) fn is_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}
