//! `quotakeeper limits`: the limits of quota files, and how much of them a run before has recorded as used.
//!
//! Nothing is written: the ledger is read from a copy.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use quotakeeper_api::load;
use quotakeeper_engine::config::{LimitConfig, Unit};
use quotakeeper_engine::{AccountStatus, LimitStatus};
use quotakeeper_limiter::task::Limiter;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::name::QuotaName;
use quotakeeper_wire::status::AccountReport;
use serde_json::{Value, json};

use crate::output::{BAD_INPUT, say};
use crate::run::prepare;
use crate::run::records::{earlier, state_folder};
use crate::run::run_ledger::RunLedger;
use crate::run::words::{count, duration};
use crate::tables::{Format, figure, print_as, table, window};

/// The arguments of `quotakeeper limits`.
#[derive(Debug, Args)]
pub struct LimitsArguments {
    /// A file with ApiQuotas (and your own ApiProviders); repeatable, `-` reads standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The ledger of the runs before [default: the one in the state folder].
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,

    /// The state folder of the runs before [default: $XDG_STATE_HOME/quotakeeper, else ~/.local/state/quotakeeper].
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,

    /// The form of the result.
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORM")]
    output: Format,
}

/// What is known of accounts: their reports, by quota.
type Known = BTreeMap<QuotaName, AccountReport>;

/// Prints the limits.
pub fn main(arguments: &LimitsArguments) -> ExitCode {
    match look(arguments) {
        Ok((accounts, known)) => print_as(
            arguments.output,
            || accounts.iter().map(|account| value(account, known.get(&account.quota))).collect(),
            |wide| text(&accounts, &known, wide),
        ),
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn look(arguments: &LimitsArguments) -> anyhow::Result<(Vec<CompiledAccount>, Known)> {
    let mut accounts = load::documents(&prepare::sources(&arguments.files)?)?.accounts()?;
    let folder = state_folder(arguments.state.as_deref());
    let in_folder = folder.as_ref().and_then(|folder| RunLedger::file_in(folder, &accounts));
    let ledger = arguments.ledger.clone().or(in_folder);
    let ledger = ledger.map(|file| std::path::absolute(&file).unwrap_or(file)).filter(|file| file.exists());
    ensure!(
        ledger.is_some() || arguments.ledger.is_none(),
        "--ledger {}: there is no such file",
        arguments.ledger.as_deref().unwrap_or(Path::new("")).display()
    );
    let runs = earlier(folder.as_deref(), ledger.as_deref(), &mut accounts);
    let copy = tempfile::tempdir().context("no temporary folder can be made")?;
    let builder = Limiter::builder(accounts.clone());
    let builder = match &ledger {
        Some(file) => {
            let copied = copied(file, copy.path())?;
            let ledger = quotakeeper_limiter::ledger::open(&copied);
            let ledger = ledger.map_err(|error| anyhow::anyhow!("the ledger {} {error}", file.display()))?;
            builder.private_ledger(ledger)?
        }
        None => builder,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let health = runtime.block_on(async {
        let limiter = builder.earlier_runs(runs).start()?;
        let health = limiter.health().await;
        // Of a copy: whether it can be written does not matter.
        let _ = limiter.close().await;
        anyhow::Ok(health?)
    })?;
    let known = health.report.accounts.into_iter().map(|report| (report.quota.clone(), report)).collect();
    Ok((accounts, known))
}

/// A copy that can be opened and written.
fn copied(ledger: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let name = ledger.display();
    let file = File::open(ledger).with_context(|| format!("the ledger {name} can't be read"))?;
    ensure!(
        file.try_lock().is_ok(),
        "a run uses the ledger {name} now: its progress line and its --admin address show what is used"
    );
    let copy = folder.join("ledger");
    fs::copy(ledger, &copy).with_context(|| format!("the ledger {name} can't be copied"))?;
    Ok(copy)
}

/// The limits of accounts as their quotas and tiers declare them.
pub fn declared(accounts: &[CompiledAccount]) -> String {
    text(accounts, &Known::default(), false)
}

fn text(accounts: &[CompiledAccount], known: &Known, wide: bool) -> String {
    let mut rows = Vec::new();
    let mut notes = String::new();
    for account in accounts {
        let report = known.get(&account.quota);
        for limit in &account.engine.limits {
            let figures = figures_of(limit, report.map(|report| &report.status));
            rows.extend(figures.iter().map(|figures| row(account, limit, figures, wide)));
        }
        for learned in report.into_iter().flat_map(|report| &report.status.concurrency) {
            notes += &format!(
                "\n{}: the provider takes {} at the same time ({}), as its rejections have shown\n",
                account.quota,
                count(learned.calls, "call", "calls"),
                learned.scope
            );
        }
        if !account.not_enforced.is_empty() {
            notes += &format!("\n{}: not enforced: {}\n", account.quota, account.not_enforced.join(", "));
        }
    }
    let mut headings = vec!["QUOTA", "TIER", "LIMIT", "AMOUNT", "PER"];
    if !known.is_empty() {
        headings.extend(["USED", "ASSUMED", "FROM"]);
    }
    if !known.is_empty() && wide {
        headings.extend(["BY OTHERS", "FREE IN", "COUNTED AS"]);
    }
    table(&headings, &rows) + &notes
}

/// What is known of a limit: one entry, or one for each model that has been counted.
fn figures_of<'a>(limit: &LimitConfig, status: Option<&'a AccountStatus>) -> Vec<Option<&'a LimitStatus>> {
    let found = status.into_iter().flat_map(|status| &status.limits).filter(|it| it.name == limit.name);
    let found: Vec<_> = found.map(Some).collect();
    if found.is_empty() { vec![None] } else { found }
}

fn row(
    account: &CompiledAccount,
    limit: &LimitConfig,
    status: &Option<&LimitStatus>,
    wide: bool,
) -> Vec<String> {
    let model = status.and_then(|status| status.model.as_ref()).map(|model| format!(" ({model})"));
    let apart = (limit.per_model && model.is_none()).then(|| " (each model)".to_owned());
    let name = format!("{}{}", limit.name, model.or(apart).unwrap_or_default());
    let amount = status.map_or(limit.amount, |status| status.amount);
    let seconds = if limit.unit == Unit::ConcurrentRequests { 0 } else { limit.window.as_secs() };
    let mut row =
        vec![account.quota.to_string(), account.tier.clone(), name, figure(amount), window(seconds)];
    if let Some(status) = status {
        row.push(figure(status.used.saturating_sub(status.assumed)));
        row.push(figure(status.assumed));
        row.push(source(account, limit, status).to_owned());
        if wide {
            row.push(figure(status.used_by_others));
            row.push(duration(status.resets_in));
            row.push(format!("{:?}", limit.counted_as));
        }
    }
    row
}

/// Where the amount in force comes from.
fn source(account: &CompiledAccount, limit: &LimitConfig, status: &LimitStatus) -> &'static str {
    let of_tier = account.profile.limit(&account.tier, &limit.name);
    match of_tier {
        _ if status.amount < limit.amount => "the provider's answers",
        Some(tier) if tier.amount == limit.declared.unwrap_or(limit.amount) => "tier",
        _ => "quota",
    }
}

fn value(account: &CompiledAccount, report: Option<&AccountReport>) -> Value {
    let status = report.map(|report| &report.status);
    let limit = |limit: &LimitConfig| {
        let figures = figures_of(limit, status).into_iter().flatten();
        let figures: Vec<Value> = figures
            .map(|it| {
                json!({
                    "model": it.model, "amount": it.amount, "used": it.used.saturating_sub(it.assumed),
                    "usedByOthers": it.used_by_others, "assumed": it.assumed, "source": source(account, limit, it),
                })
            })
            .collect();
        json!({
            "name": limit.name, "amount": limit.amount, "windowSeconds": limit.window.as_secs(),
            "eachModelApart": limit.per_model, "counts": figures,
        })
    };
    json!({
        "quota": account.quota, "provider": account.provider(), "tier": account.tier,
        "past": report.map(|report| report.past),
        "limits": account.engine.limits.iter().map(limit).collect::<Vec<_>>(),
        "concurrency": status.map(|status| &status.concurrency),
        "notEnforced": account.not_enforced,
    })
}
