//! What limits and workloads have used: units of limits, tokens and money of models, and how good estimates are.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit as PromUnit;
use quotakeeper_engine::config::{NANODOLLARS, Unit};
use quotakeeper_engine::{LimitStatus, ModelUsage, RATIO_BOUNDS, WAIT_BOUNDS};
use quotakeeper_wire::status::AccountReport;

use super::{Labels, counter, gauge, of};

/// Ratios of estimates are counted in thousandths, waits in milliseconds.
const THOUSAND: f64 = 1_000.0;

/// A figure of a limit.
struct LimitFigure {
    name: &'static str,
    help: &'static str,
    value: fn(&LimitStatus) -> u64,
}

const OF_ACCOUNTS: [LimitFigure; 3] = [
    LimitFigure {
        name: "limit_amount",
        help: "Units of a limit that may be used in a window; of Dollars, dollars",
        value: |limit| limit.amount,
    },
    LimitFigure {
        name: "limit_used",
        help: "Units of a limit that are used in the current window, held ones too; of Dollars, dollars",
        value: |limit| limit.used,
    },
    LimitFigure {
        name: "limit_reserved",
        help: "Units of a limit that are held for calls under way; of Dollars, dollars",
        value: |limit| limit.reserved,
    },
];

const OF_ALLOCATIONS: [LimitFigure; 2] = [
    LimitFigure {
        name: "allocation_limit_amount",
        help: "Units that an allocation may use in a window of a limit of the quota or of its own; of Dollars, dollars",
        value: |limit| limit.amount,
    },
    LimitFigure {
        name: "allocation_limit_used",
        help: "Units that an allocation uses in the current window of a limit of the quota or of its own, held ones too; of Dollars, dollars",
        value: |limit| limit.used,
    },
];

/// How long the windows of limits are, and when all of them is free again.
fn encode_windows(
    encoder: &mut DescriptorEncoder<'_>,
    limits: &[(Labels, &LimitStatus)],
) -> Result<(), fmt::Error> {
    let help = "Length of a limit's window in seconds; of a day, week or month the longest that there is; 0 of calls under way";
    let windows = limits.iter().map(|(labels, limit)| (labels.clone(), limit.window.as_secs()));
    gauge(encoder, "limit_window_seconds", help, windows.collect())?;
    let help = "Time until all of a limit is free again, if nothing more is drawn";
    let free = limits.iter().map(|(labels, limit)| (labels.clone(), limit.resets_in.as_secs()));
    gauge(encoder, "limit_free_in_seconds", help, free.collect())
}

/// How long calls have waited for their grants, by quota.
pub(super) fn encode_waits(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    let help = "Time that calls waited until they were granted";
    let mut family =
        encoder.encode_descriptor("wait", help, Some(&PromUnit::Seconds), MetricType::Histogram)?;
    for account in accounts {
        let waits = &account.status.wait_times;
        thousandths(family.encode_family(&of(account))?, &WAIT_BOUNDS, &waits.grants, waits.sum)?;
    }
    Ok(())
}

/// A histogram of figures in thousandths: so many up to each bound and beyond the one before, and at last beyond all.
fn thousandths(
    mut metric: MetricEncoder<'_>,
    bounds: &[u64],
    counts: &[u64],
    sum: u64,
) -> Result<(), fmt::Error> {
    let bounds = bounds.iter().map(|bound| *bound as f64 / THOUSAND);
    let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(counts.iter().copied()).collect();
    metric.encode_histogram::<NoLabelSet>(sum as f64 / THOUSAND, counts.iter().sum(), &buckets, None)
}

/// The limits of all accounts and of their allocations: what they allow, what is used and what is held.
pub(super) fn encode_limits(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    let of_accounts =
        accounts.iter().flat_map(|account| labelled(of(account), &account.status.limits)).collect::<Vec<_>>();
    each_limit(encoder, &OF_ACCOUNTS, &of_accounts)?;
    encode_windows(encoder, &of_accounts)?;
    let allocations = accounts
        .iter()
        .flat_map(|account| account.status.allocations.iter().map(move |allocation| (account, allocation)));
    let of_allocations = allocations.flat_map(|(account, allocation)| {
        let mut labels = of(account);
        labels.push(("allocation", allocation.name.to_string()));
        labelled(labels, &allocation.limits)
    });
    each_limit(encoder, &OF_ALLOCATIONS, &of_allocations.collect::<Vec<_>>())
}

fn labelled(of: Labels, limits: &[LimitStatus]) -> impl Iterator<Item = (Labels, &LimitStatus)> {
    limits.iter().map(move |limit| {
        let mut labels = of.clone();
        labels.push(("limit", limit.name.clone()));
        labels.push(("model", limit.model.clone().unwrap_or_default()));
        (labels, limit)
    })
}

fn each_limit(
    encoder: &mut DescriptorEncoder<'_>,
    figures: &[LimitFigure],
    limits: &[(Labels, &LimitStatus)],
) -> Result<(), fmt::Error> {
    for LimitFigure { name, help, value } in figures {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, limit) in limits {
            let (metric, value) = (family.encode_family(labels)?, value(limit));
            match limit.unit {
                Unit::Dollars => ConstGauge::new(dollars(value)).encode(metric)?,
                _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?,
            }
        }
    }
    Ok(())
}

/// A figure of a model's usage, by its kind.
type Kind = (&'static str, fn(&ModelUsage) -> u64);

/// A counter that tells kinds of usage apart.
struct ByKind {
    name: &'static str,
    help: &'static str,
    kinds: &'static [Kind],
}

const BY_KIND: [ByKind; 2] = [
    ByKind {
        name: "workload_model_calls",
        help: "Calls of a workload by model: counted by the provider, refused, lost (nobody saw their end), estimated (no answer told their tokens), unpriced (they cost as much as the dearest model) or unbounded (they set no maximum of output, and as much as their model can produce was held for each); ends an hour after the last",
        kinds: &[
            ("counted", |model| model.calls),
            ("refused", |model| model.refused),
            ("lost", |model| model.lost),
            ("estimated", |model| model.estimated),
            ("unpriced", |model| model.unpriced),
            ("unbounded", |model| model.unbounded),
        ],
    },
    ByKind {
        name: "workload_tokens",
        help: "Tokens of a workload's calls by model and kind; cached ones and those written to a cache are input too; ends an hour after the last",
        kinds: &[
            ("input", |model| model.input),
            ("cached", |model| model.cached),
            ("cache_write", |model| model.cache_write),
            ("output", |model| model.output),
        ],
    },
];

/// By workload and model, of sixteen models of a workload apart and the others together.
pub(super) fn encode_models(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    for ByKind { name, help, kinds } in BY_KIND {
        let models = models(accounts).flat_map(|(labels, model)| {
            kinds.iter().map(move |(kind, value)| {
                let mut labels = labels.clone();
                labels.push(("kind", (*kind).to_owned()));
                (labels, value(model))
            })
        });
        counter(encoder, name, help, models.collect())?;
    }
    let help = "What the tokens of a workload's calls cost by model, by the provider's list of prices; ends an hour after the last";
    let mut family = encoder.encode_descriptor("workload_dollars", help, None, MetricType::Counter)?;
    for (labels, model) in models(accounts) {
        ConstCounter::new(dollars(model.nanodollars)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What the models of all workloads have used.
fn models(accounts: &[AccountReport]) -> impl Iterator<Item = (Labels, &ModelUsage)> {
    let workloads = accounts
        .iter()
        .flat_map(|account| account.status.workloads.iter().map(move |workload| (account, workload)));
    workloads.flat_map(|(account, workload)| {
        workload.models.iter().map(move |model| {
            let mut labels = of(account);
            labels.push(("workload", workload.consumer.to_string()));
            labels.push(("model", model.model.clone().unwrap_or_default()));
            (labels, model)
        })
    })
}

/// How good the estimates of tokens are.
pub(super) fn encode_estimates(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    let help = "Tokens that were expected of a call, as a multiple of those that it has used";
    let mut family = encoder.encode_descriptor("token_estimate_ratio", help, None, MetricType::Histogram)?;
    for account in accounts {
        let ratios = &account.status.estimate_ratios;
        thousandths(family.encode_family(&of(account))?, &RATIO_BOUNDS, &ratios.calls, ratios.sum)?;
    }
    Ok(())
}

fn dollars(nanodollars: u64) -> f64 {
    nanodollars as f64 / NANODOLLARS as f64
}
