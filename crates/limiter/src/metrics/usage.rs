//! What limits and workloads have used: units of limits, tokens and money of models, and how good estimates are.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use quotakeeper_engine::config::{NANODOLLARS, Unit};
use quotakeeper_engine::{LimitStatus, ModelUsage, RATIO_BOUNDS};
use quotakeeper_wire::status::AccountReport;

use super::{Labels, counter, of};

/// Ratios of estimates are counted in thousandths.
const THOUSAND: f64 = 1_000.0;

/// The limits of all accounts: what they allow, what is used and what is held.
pub(super) fn encode_limits(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    let help = "Units of a limit that may be used in a window; of Dollars, dollars";
    each_limit(encoder, accounts, "limit_amount", help, |limit| limit.amount)?;
    let help = "Units of a limit that are used in the current window, held ones too; of Dollars, dollars";
    each_limit(encoder, accounts, "limit_used", help, |limit| limit.used)?;
    let help = "Units of a limit that are held for calls under way; of Dollars, dollars";
    each_limit(encoder, accounts, "limit_reserved", help, |limit| limit.reserved)
}

fn each_limit(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
    name: &str,
    help: &str,
    value: impl Fn(&LimitStatus) -> u64,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for account in accounts {
        for limit in &account.status.limits {
            let mut labels = of(account);
            labels.push(("limit", limit.name.clone()));
            labels.push(("model", limit.model.clone().unwrap_or_default()));
            let (metric, value) = (family.encode_family(&labels)?, value(limit));
            match limit.unit {
                Unit::Dollars => ConstGauge::new(dollars(value)).encode(metric)?,
                _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?,
            }
        }
    }
    Ok(())
}

/// By workload and model, of sixteen models of a workload apart and the others together.
pub(super) fn encode_models(
    encoder: &mut DescriptorEncoder<'_>,
    accounts: &[AccountReport],
) -> Result<(), fmt::Error> {
    let kinds = |model: &ModelUsage| {
        [
            ("counted", model.calls),
            ("refused", model.refused),
            ("lost", model.lost),
            ("estimated", model.estimated),
            ("unpriced", model.unpriced),
        ]
    };
    counter(
        encoder,
        "workload_model_calls",
        "Calls of a workload by model: counted by the provider, refused, lost (nobody saw their end), estimated (no answer told their tokens) or unpriced (they cost as much as the dearest model); ends an hour after the last",
        models(accounts, kinds),
    )?;
    let kinds = |model: &ModelUsage| {
        [
            ("input", model.input),
            ("cached", model.cached),
            ("cache_write", model.cache_write),
            ("output", model.output),
        ]
    };
    counter(
        encoder,
        "workload_tokens",
        "Tokens of a workload's calls by model and kind; cached ones and those written to a cache are input too; ends an hour after the last",
        models(accounts, kinds),
    )?;
    let help = "What the tokens of a workload's calls cost by model, by the provider's list of prices; ends an hour after the last";
    let mut family = encoder.encode_descriptor("workload_dollars", help, None, MetricType::Counter)?;
    for (labels, nanodollars) in models(accounts, |model| [("", model.nanodollars)]) {
        ConstCounter::new(dollars(nanodollars)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What the models of all workloads have used; a value with a kind has that as a label.
fn models<const KINDS: usize>(
    accounts: &[AccountReport],
    kinds: impl Fn(&ModelUsage) -> [(&'static str, u64); KINDS],
) -> Vec<(Labels, u64)> {
    let mut values = Vec::new();
    for account in accounts {
        for workload in &account.status.workloads {
            for model in &workload.models {
                for (kind, value) in kinds(model) {
                    let mut labels = of(account);
                    labels.push(("workload", workload.consumer.to_string()));
                    labels.push(("model", model.model.clone().unwrap_or_default()));
                    labels.extend((!kind.is_empty()).then(|| ("kind", kind.to_owned())));
                    values.push((labels, value));
                }
            }
        }
    }
    values
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
        let bounds = RATIO_BOUNDS.iter().map(|bound| *bound as f64 / THOUSAND);
        let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(ratios.calls).collect();
        let labels = of(account);
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(
            ratios.sum as f64 / THOUSAND,
            ratios.count(),
            &buckets,
            None,
        )?;
    }
    Ok(())
}

fn dollars(nanodollars: u64) -> f64 {
    nanodollars as f64 / NANODOLLARS as f64
}
