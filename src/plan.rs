//! `quotakeeper plan`: whether a campaign fits its quotas, and when it is done. Nothing is sent.
//!
//! | room | holds |
//! |---|---|
//! | `remedies` | the tier, the share or the deadline with which it would fit |
//! | `show` | the plan for people, for programs, and for a pull request |

mod remedies;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use jiff::{Span, SpanRelativeTo, Timestamp};
use kube::ResourceExt;
use quotakeeper_api::load::{self, Documents, Refused};
use quotakeeper_engine::config::{Mode, OnExceeded};
use quotakeeper_engine::event::Callers;
use quotakeeper_planner::campaign::Present;
use quotakeeper_planner::{Campaign, Forecast, compile, forecast};
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::QuotaName;

use crate::limits::Known;
use crate::limits::known::{self, RecordArguments};
use crate::output::{BAD_INPUT, print, say};
use crate::run::prepare;

/// The exit code of a campaign that does not fit.
const DOES_NOT_FIT: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  # Do 50,000 leads fit into an hour of this tier?
  quotakeeper plan -f openai.yaml -f leads.yaml

  # The same campaign with other figures.
  quotakeeper plan -f openai.yaml -f leads.yaml --records 20000 --within 8h --workers 12

  # In CI: exit code 3 stops what would not be done in time.
  quotakeeper plan -f quotas.yaml -f leads.yaml -o markdown >> \"$GITHUB_STEP_SUMMARY\"

A campaign:
  apiVersion: quotakeeper.dev/v1alpha1
  kind: ApiCampaign
  metadata: {name: leads}
  spec:
    records: 50k
    deadlineSeconds: 3600
    steps:
    - {quota: hubspot, calls: 1, answerMillis: 300}
    - {quota: openai, model: gpt-4o-mini, inputTokens: 900, outputTokens: 200, answerMillis: 2500}

Exit code: 0 if it fits, or has no deadline; 3 if it does not fit; 2 for a wrong file or option.";

/// The arguments of `quotakeeper plan`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PlanArguments {
    #[command(flatten)]
    options: PlanOptions,

    #[command(flatten)]
    recorded: RecordArguments,

    /// Plan as if nothing were used and nothing paused, whatever runs have recorded.
    #[arg(long, conflicts_with_all = ["ledger", "state"])]
    unused: bool,
}

/// What is planned, wherever the quotas come from.
#[derive(Debug, Args)]
pub struct PlanOptions {
    /// A file with ApiQuotas, ApiCampaigns (and your own ApiProviders); repeatable, `-` reads standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Plan for so many records instead: a whole number, or with `k` or `M`.
    #[arg(long, value_name = "COUNT", value_parser = crate::cli::records)]
    records: Option<u64>,

    /// Plan for a deadline so long after the beginning instead, such as 90m, 8h or 2d.
    #[arg(long, value_name = "TIME", value_parser = length)]
    within: Option<Duration>,

    /// Plan for so many records at the same time instead.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    workers: Option<u64>,

    /// The form of the plan.
    #[arg(short, long, value_enum, default_value_t = PlanFormat::Table, value_name = "FORM")]
    output: PlanFormat,
}

/// The form of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// For people.
    Table,
    /// JSON.
    Json,
    /// For a pull request or a wiki.
    Markdown,
}

/// A campaign with what is to be expected of it.
struct Plan {
    campaign: Campaign,
    accounts: Vec<CompiledAccount>,
    forecast: Forecast,
    remedies: Vec<remedies::Remedy>,
    warnings: Vec<String>,
}

/// Prints the plans of the campaigns.
pub fn main(arguments: &PlanArguments) -> ExitCode {
    match planned_here(arguments) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn planned_here(arguments: &PlanArguments) -> anyhow::Result<ExitCode> {
    let documents = load::documents(&prepare::sources(&arguments.options.files)?)?;
    let mut accounts = documents.accounts()?;
    let known = if arguments.unused { Known::new() } else { known::of(&mut accounts, &arguments.recorded)? };
    let now = Timestamp::now();
    let (present, warnings) = present(&accounts, &known, now);
    let known = Quotas { documents, accounts, present, warnings };
    of_quotas(&arguments.options, &known, now)
}

/// The quotas of a plan, and how they are now.
pub struct Quotas {
    pub documents: Documents,
    /// Of the quotas, in their order.
    pub accounts: Vec<CompiledAccount>,
    /// How each of them is.
    pub present: Vec<Present>,
    /// What is not known of that.
    pub warnings: Vec<String>,
}

/// Prints the plans of the campaigns.
///
/// # Errors
/// What is wrong with the campaigns.
pub fn of_quotas(options: &PlanOptions, quotas: &Quotas, now: Timestamp) -> anyhow::Result<ExitCode> {
    let plans = plans(options, quotas, now)?;
    let printed = print(&match options.output {
        PlanFormat::Table => show::text(&plans),
        PlanFormat::Json => format!("{:#}\n", show::value(&plans)),
        PlanFormat::Markdown => show::markdown(&plans),
    });
    Ok(match plans.iter().all(|plan| plan.forecast.verdict.is_good()) {
        true => printed,
        false => ExitCode::from(DOES_NOT_FIT),
    })
}

fn plans(options: &PlanOptions, quotas: &Quotas, now: Timestamp) -> anyhow::Result<Vec<Plan>> {
    let Quotas { documents, accounts, present, warnings: of_present } = quotas;
    if documents.campaigns.is_empty() {
        bail!("the files hold no ApiCampaign; add one: quotakeeper plan --help shows an example");
    }
    let mut plans = Vec::new();
    let mut refused = Refused::default();
    for (place, document) in &documents.campaigns {
        match compile::campaign(document, accounts, now) {
            Ok((campaign, mut warnings)) => {
                warnings.extend_from_slice(of_present);
                let campaign = Campaign { present: present.clone(), ..with_options(campaign, options)? };
                plans.push(plan(campaign, accounts, documents, warnings));
            }
            Err(problems) => refused.extend(place, problems),
        }
    }
    Ok(refused.or(plans)?)
}

/// A length of time, of which a day has 24 hours.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn length(text: &str) -> Result<Duration, String> {
    let span: Option<Span> = text.parse().ok();
    let length = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let length = length.and_then(|length| Duration::try_from(length).ok()).filter(|length| !length.is_zero());
    length.ok_or_else(|| "give a length of time, such as 90m, 8h or 2d".to_owned())
}

/// How the accounts are now, as far as runs have recorded it, and what is not known of that.
fn present(accounts: &[CompiledAccount], known: &Known, now: Timestamp) -> (Vec<Present>, Vec<String>) {
    let mut warnings = Vec::new();
    let of = |account: &CompiledAccount| {
        let Some(report) = known.get(&account.quota) else { return Present::default() };
        let mut used = BTreeMap::new();
        for limit in &report.status.limits {
            if limit.assumed > 0 {
                let (name, quota) = (&limit.name, &account.quota);
                warnings.push(use_unknown(quota, name));
            }
            let known: &mut u64 = used.entry(limit.name.clone()).or_default();
            *known = (*known).max(limit.used.saturating_sub(limit.assumed));
        }
        used.retain(|_, used| *used > 0);
        let pauses = report.status.pauses.iter().filter(|pause| pause.callers == Callers::All);
        let pauses = pauses.map(|pause| (pause.scope.clone(), pause.remaining)).collect();
        Present { at: Some(now), used, pauses }
    };
    (accounts.iter().map(of).collect(), warnings)
}

/// What a plan says of a limit whose use is not known.
pub fn use_unknown(quota: &QuotaName, limit: &str) -> String {
    format!(
        "quota {quota}: how much of {limit} is used is not known, and the plan counts none of it; state it in the quota's `used`"
    )
}

fn with_options(campaign: Campaign, arguments: &PlanOptions) -> anyhow::Result<Campaign> {
    let deadline = match arguments.within {
        None => campaign.deadline,
        Some(within) => Some(campaign.start.checked_add(within)?),
    };
    let records = arguments.records.unwrap_or(campaign.records);
    Ok(Campaign { records, deadline, workers: arguments.workers.or(campaign.workers), ..campaign })
}

fn plan(
    campaign: Campaign,
    accounts: &[CompiledAccount],
    documents: &Documents,
    mut warnings: Vec<String>,
) -> Plan {
    for account in accounts {
        if let Some(undeclared) = &account.undeclared {
            let tier = &account.tier;
            warnings.push(format!(
                "quota {}: {} The plan is for {tier}, the lowest.",
                account.quota,
                undeclared.question()
            ));
        }
        if account.engine.mode == Mode::Disabled {
            warnings.push(format!(
                "quota {}: its mode is Disabled, so nothing waits; the plan is for Enforce",
                account.quota
            ));
        }
        if account.engine.on_exceeded == OnExceeded::Reject {
            warnings.push(format!(
                "quota {}: it rejects calls that would wait; the plan lets them wait",
                account.quota
            ));
        }
        if !account.not_enforced.is_empty() {
            let limits = account.not_enforced.join(", ");
            warnings.push(format!(
                "quota {}: not enforced by this version, and no part of the plan: {limits}",
                account.quota
            ));
        }
    }
    for (_, other) in documents.campaigns.iter().filter(|(_, other)| other.name_any() != campaign.name) {
        let name = other.name_any();
        warnings.push(format!(
            "campaign {name} of the same files is planned for itself, and is no part of this plan; if both run at the \
             same time, write its calls as others"
        ));
    }
    let forecast = forecast(&campaign, accounts);
    let remedies = remedies::find(&campaign, accounts, documents, &forecast);
    Plan { campaign, accounts: accounts.to_vec(), forecast, remedies, warnings }
}
