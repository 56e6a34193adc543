//! An `ApiCampaign` and the accounts of its quotas as a [`Campaign`].

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use quotakeeper_api::campaign::{ApiCampaign, CallFigures};
use quotakeeper_api::problem::Problem;
use quotakeeper_dialects::did_you_mean;
use quotakeeper_dialects::request::CallShape;
use quotakeeper_engine::cost::{Amount, Costs, Demand};
use quotakeeper_engine::event::CallClass;
use quotakeeper_engine::tokens::{CallSize, TokenUsage};
use quotakeeper_wire::account::CompiledAccount;

use crate::campaign::{Call, Campaign, Load, Step, WHOLE};

/// Bytes of text for a token, as estimates have it.
const BYTES_PER_TOKEN: u64 = 4;
/// How long an answer takes of which nothing is said.
const ANSWER: Duration = Duration::from_secs(1);
/// How far figures may be off that nobody has measured, in percent.
const SPREAD: u64 = 10;

/// The campaign that a document declares, with what a person should know of it, as sentences.
///
/// # Errors
/// Quotas and endpoints that are not there, and times that have passed.
pub fn campaign(
    document: &ApiCampaign,
    accounts: &[CompiledAccount],
    now: Timestamp,
) -> Result<(Campaign, Vec<String>), Vec<Problem>> {
    let spec = &document.spec;
    let mut compiler = Compiler { accounts, problems: Vec::new(), warnings: Vec::new() };
    let records = spec.records.units().unwrap_or_else(|message| {
        compiler.problems.push(Problem::new("spec.records", message));
        0
    });
    let start = spec.start.as_ref().map_or(now, |start| start.0);
    if start < now {
        let message = format!("{start} is past; write a later time, or remove it to begin now");
        compiler.problems.push(Problem::new("spec.start", message));
    }
    let seconds = spec.deadline_seconds.map(|seconds| Duration::from_secs(whole(seconds)));
    let after = seconds.and_then(|length| start.checked_add(length).ok());
    let deadline = spec.deadline.as_ref().map(|deadline| deadline.0).or(after);
    if deadline.is_some_and(|deadline| deadline <= start) {
        let message = format!("is not after the beginning, {start}; write a later time");
        compiler.problems.push(Problem::new("spec.deadline", message));
    }
    let mut steps = Vec::new();
    for (index, step) in spec.steps.iter().enumerate() {
        let field = format!("spec.steps[{index}]");
        let Some(call) = compiler.call(&field, &step.quota, &step.call) else { continue };
        let calls = step.calls.as_ref().map_or(Some(WHOLE), |calls| calls.millionths()).unwrap_or(WHOLE);
        steps.push(Step { call, calls, go_on: step.continue_percent.map_or(100, whole) });
    }
    let mut others = Vec::new();
    for (index, other) in spec.others.iter().enumerate() {
        let field = format!("spec.others[{index}]");
        let Some(call) = compiler.call(&field, &other.quota, &other.call) else { continue };
        others.push(Load { call, per_minute: whole(other.calls_per_minute).max(1) });
    }
    if !compiler.problems.is_empty() {
        return Err(compiler.problems);
    }
    let workers = spec.workers.map(|workers| whole(workers).max(1));
    let name = document.name_any();
    let present = Vec::new();
    Ok((Campaign { name, records, workers, start, deadline, steps, others, present }, compiler.warnings))
}

struct Compiler<'a> {
    accounts: &'a [CompiledAccount],
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Compiler<'_> {
    fn call(&mut self, field: &str, quota: &str, figures: &CallFigures) -> Option<Call> {
        let Some(at) = self.account(quota) else {
            let known: Vec<&str> = self.accounts.iter().map(|account| &*account.quota).collect();
            let hint = did_you_mean(quota, known.iter().copied());
            let message = format!(
                "quota `{quota}` is not in the files{hint}; give its file with -f, or use {}",
                known.join(", ")
            );
            self.problems.push(Problem::new(format!("{field}.quota"), message));
            return None;
        };
        let account = &self.accounts[at];
        self.endpoint_is_known(field, account, figures.endpoint.as_deref())?;
        let shape = CallShape {
            endpoint: figures.endpoint.clone(),
            model: figures.model.clone(),
            service_tier: None,
        };
        let demand = demand(account, &shape, figures);
        self.fits_the_model(field, account, demand.class.model.as_deref(), figures)?;
        for warning in warnings(account, &demand, figures) {
            // Several steps may call the same.
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        let usage = TokenUsage {
            input: figures.input_tokens.map_or(0, whole),
            output: figures.output_tokens.map_or(0, whole),
            exact: true,
            ..TokenUsage::default()
        };
        let answer = figures.answer_millis.map_or(ANSWER, |millis| Duration::from_millis(whole(millis)));
        let spread = figures.spread_percent.map_or(SPREAD, whole);
        Some(Call { account: at, demand, usage, answer, spread })
    }

    /// Whose calls those of a quota are: by its whole name, or by the name without its namespace if that is clear.
    fn account(&self, quota: &str) -> Option<usize> {
        let exact = self.accounts.iter().position(|account| &*account.quota == quota);
        let short = |account: &CompiledAccount| account.quota.rsplit('/').next() == Some(quota);
        let mut short = self.accounts.iter().enumerate().filter(|(_, account)| short(account));
        exact.or_else(|| short.next().map(|(at, _)| at).filter(|_| short.next().is_none()))
    }

    fn endpoint_is_known(
        &mut self,
        field: &str,
        account: &CompiledAccount,
        name: Option<&str>,
    ) -> Option<()> {
        let Some(name) = name else { return Some(()) };
        let known: Vec<&str> =
            account.profile.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        if known.contains(&name) {
            return Some(());
        }
        let hint = did_you_mean(name, known.iter().copied());
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!(
            "the profile of {} has no endpoint `{name}`{hint}; it has {known}; without one, all other calls are meant",
            account.provider()
        );
        self.problems.push(Problem::new(format!("{field}.endpoint"), message));
        None
    }

    /// Whether the call is not larger than its model, as far as that is known.
    fn fits_the_model(
        &mut self,
        field: &str,
        account: &CompiledAccount,
        model: Option<&str>,
        figures: &CallFigures,
    ) -> Option<()> {
        let Some((name, facts)) = model.and_then(|name| account.engine.models.get_key_value(name)) else {
            return Some(());
        };
        let (input, output) = (figures.input_tokens.map_or(0, whole), figures.output_tokens.map_or(0, whole));
        let too_large = [
            ("outputTokens", output, facts.max_output, "of output"),
            ("inputTokens", input.saturating_add(output), facts.context, "of input and output together"),
        ]
        .into_iter()
        .find_map(|(name, tokens, most, what)| {
            most.filter(|most| tokens > *most).map(|most| (name, tokens, most, what))
        });
        let Some((at, tokens, most, what)) = too_large else { return Some(()) };
        let message = format!(
            "{tokens} tokens {what} are more than the {most} that model {name} takes; correct the figure"
        );
        self.problems.push(Problem::new(format!("{field}.{at}"), message));
        None
    }
}

fn demand(account: &CompiledAccount, shape: &CallShape, figures: &CallFigures) -> Demand {
    let class = CallClass {
        endpoint: shape.endpoint.clone(),
        model: account.profile.counted_model(shape),
        allocation: None,
    };
    let credits =
        figures.credits.map_or_else(|| account.profile.credits(shape.endpoint.as_deref(), "", None), whole);
    let output = figures.output_tokens.map_or(0, whole);
    let size = CallSize {
        text_bytes: figures.input_tokens.map_or(0, whole).saturating_mul(BYTES_PER_TOKEN),
        // An answer of no tokens is no completion, and has nothing to bound.
        max_output: figures.max_output_tokens.map(whole).or((output == 0).then_some(0)),
        choices: 1,
        ..CallSize::default()
    };
    Demand { class, costs: Costs { credits: Amount(credits), ..Costs::default() }, size: Some(size) }
}

/// What is not as exact as it could be.
fn warnings(account: &CompiledAccount, demand: &Demand, figures: &CallFigures) -> Vec<String> {
    let mut warnings = Vec::new();
    let covering = || account.engine.limits.iter().filter(|limit| limit.covers(&demand.class));
    let tokens = covering().find(|limit| limit.unit.counts_tokens());
    let quota = &account.quota;
    if let (Some(limit), None, None) = (tokens, figures.input_tokens, figures.output_tokens) {
        warnings.push(format!(
            "quota {quota}: limit {} counts tokens, and the calls name none; write inputTokens and outputTokens, or \
             its part of the plan means nothing",
            limit.name
        ));
    }
    let held = covering().find(|limit| limit.holds_the_most());
    if let (Some(limit), Some(1..), None) = (held, figures.output_tokens, figures.max_output_tokens) {
        warnings.push(format!(
            "quota {quota}: calls that set no maximum of output are held up: until each has ended, all that its model can \
             produce is held of {}; have clients send max_tokens, and write it as maxOutputTokens",
            limit.name
        ));
    }
    match &demand.class.model {
        None if covering().any(|limit| limit.per_model || !limit.models.is_empty()) => {
            warnings.push(format!(
                "quota {quota}: its limits are of models, and the calls name none; write model, or the smallest is taken"
            ));
        }
        Some(model)
            if tokens.is_some()
                && !account.engine.models.is_empty()
                && !account.engine.models.contains_key(model) =>
        {
            let known = account.engine.models.keys().map(String::as_str);
            let hint = did_you_mean(model, known);
            warnings.push(format!(
                "quota {quota}: model `{model}` is not in the profile of {}{hint}; it is taken for the dearest",
                account.provider()
            ));
        }
        _ => {}
    }
    warnings
}

/// A number that its schema bounds from below at 0.
fn whole(number: i32) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
