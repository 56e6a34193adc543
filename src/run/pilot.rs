//! A pilot: what a few records call, measured, as an `ApiCampaign` that `quotakeeper plan` reads for many.

mod measured;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use quotakeeper_api::campaign::{ApiCampaign, ApiCampaignSpec, CallFigures, CampaignStep, Decimal};
use quotakeeper_api::quota::Amount;
use quotakeeper_api::yaml;
use quotakeeper_engine::event::CallClass;
use quotakeeper_proxy::record::{CallRecord, Outcome};
use quotakeeper_proxy::{Event, Proxy};
use tokio::sync::broadcast::error::RecvError;

use super::words::count;
use measured::Measured;

/// Whose calls they are, and what they call.
type Kind = (String, CallClass);

/// What is seen of the calls while the command runs.
#[derive(Clone, Default)]
pub struct Pilot {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// In the order in which the first of each kind has ended.
    order: Vec<Kind>,
    kinds: BTreeMap<Kind, Calls>,
    /// Calls that came too quickly to be measured.
    missed: u64,
}

/// The calls of one kind.
#[derive(Default)]
struct Calls {
    input: Measured,
    output: Measured,
    millis: Measured,
    answered: u64,
    /// Calls that were answered, and whose tokens are known.
    counted: u64,
    max_output: Option<u64>,
    /// Calls that failed, by what became of them.
    failed: BTreeMap<String, u64>,
}

impl Pilot {
    /// Listens to the calls of a proxy from now on.
    pub fn of(proxy: &Proxy) -> Pilot {
        let pilot = Pilot::default();
        let (seen, mut events) = (Arc::clone(&pilot.seen), proxy.subscribe());
        tokio::spawn(async move {
            loop {
                let event = events.recv().await;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Ok(Event::Call(call)) => seen.add(&call),
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => seen.missed += missed,
                    Err(RecvError::Closed) => break,
                }
            }
        });
        pilot
    }

    /// Writes what was measured of so many records, and says in sentences what it is worth.
    ///
    /// # Errors
    /// Nothing was measured, or the file can't be written.
    pub fn write(&self, file: &Path, records: u64) -> anyhow::Result<Vec<String>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.kinds.values().any(|calls| calls.answered > 0) {
            // What an earlier pilot has measured is not to be taken for this one's.
            let _may_be_gone = fs::remove_file(file);
        }
        anyhow::ensure!(
            seen.kinds.values().any(|calls| calls.answered > 0),
            "no call was answered, so that nothing was measured, and no pilot is written: {}",
            match seen.kinds.is_empty() {
                true => "the command made no call to a provider of these quotas".to_owned(),
                false => seen.failures().join("; "),
            }
        );
        let name = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name: String = name.chars().filter(|it| it.is_ascii_alphanumeric() || *it == '-').collect();
        let name = if name.is_empty() { "pilot" } else { name.trim_matches('-') };
        let campaign = ApiCampaign::new(name, seen.spec(records));
        let worth = seen.worth(records);
        let comments: String = worth.iter().map(|line| format!("# {line}\n")).collect();
        let text = format!(
            "# Measured with {}. For more of them: quotakeeper plan -f QUOTAS -f {} --records COUNT --within TIME\n{comments}{}",
            count(records, "record", "records"),
            file.display(),
            yaml::write(&serde_json::to_value(&campaign)?)?
        );
        fs::write(file, text).with_context(|| format!("--pilot {} can't be written", file.display()))?;
        Ok(worth)
    }
}

impl Seen {
    fn add(&mut self, call: &CallRecord) {
        let kind = (call.quota.to_string(), call.class.clone());
        if !self.kinds.contains_key(&kind) {
            self.order.push(kind.clone());
        }
        self.kinds.entry(kind).or_default().add(call);
    }

    fn in_order(&self) -> impl Iterator<Item = (&Kind, &Calls)> {
        self.order.iter().filter_map(|kind| Some((kind, self.kinds.get(kind)?)))
    }

    fn spec(&self, records: u64) -> ApiCampaignSpec {
        let steps = self.in_order().filter(|(_, calls)| calls.answered > 0);
        let steps = steps.map(|((quota, class), calls)| calls.step(quota, class, records)).collect();
        ApiCampaignSpec {
            records: Amount::Number(i64::try_from(records).unwrap_or(i64::MAX)),
            start: None,
            deadline: None,
            deadline_seconds: None,
            workers: None,
            steps,
            others: Vec::new(),
        }
    }

    /// What the figures are worth, a sentence for each kind of calls, and what they lack.
    fn worth(&self, records: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for ((quota, class), calls) in self.in_order().filter(|(_, calls)| calls.answered > 0) {
            let tokens = match calls.counted {
                0 => String::new(),
                _ => {
                    format!("{:.0} input and {:.0} output tokens, ", calls.input.mean(), calls.output.mean())
                }
            };
            lines.push(format!(
                "{}: {} of {tokens}{:.1} s, sure to within {} % (at 95 % confidence).",
                named(quota, class),
                count(calls.answered, "call", "calls"),
                calls.millis.mean() / 1000.0,
                calls.spread(),
            ));
        }
        let worst = self.kinds.values().filter(|calls| calls.answered > 0).map(Calls::spread).max();
        if let Some(worst) = worst.filter(|worst| *worst > 5) {
            lines.push(format!(
                "{} are few: with {} the figures would be sure to within {} %.",
                count(records, "record", "records"),
                records * 4,
                worst.div_ceil(2)
            ));
        }
        lines.extend(self.failures());
        if self.missed > 0 {
            lines.push(format!("{} came too quickly to be measured.", count(self.missed, "call", "calls")));
        }
        lines
    }

    fn failures(&self) -> Vec<String> {
        let failed = |((quota, class), calls): (&Kind, &Calls)| {
            let all: u64 = calls.failed.values().sum();
            let how: Vec<String> =
                calls.failed.iter().map(|(how, times)| format!("{times} × {how}")).collect();
            (all > 0).then(|| {
                let calls = count(all, "call", "calls");
                format!(
                    "{}: {calls} failed ({}), which the figures leave out.",
                    named(quota, class),
                    how.join(", ")
                )
            })
        };
        self.in_order().filter_map(failed).collect()
    }
}

impl Calls {
    fn add(&mut self, call: &CallRecord) {
        match (call.outcome, call.status) {
            (Outcome::Answered, Some(status)) if status < 400 => {
                self.answered += 1;
                self.millis.add(call.duration.saturating_sub(call.waited).as_secs_f64() * 1000.0);
                self.max_output = self.max_output.max(call.max_output);
                if let Some(usage) = &call.usage {
                    self.counted += 1;
                    self.input.add(usage.input as f64);
                    self.output.add(usage.output as f64);
                }
            }
            (Outcome::Answered, Some(status)) => *self.failed.entry(status.to_string()).or_default() += 1,
            (outcome, _) => *self.failed.entry(outcome.as_str().to_owned()).or_default() += 1,
        }
    }

    fn step(&self, quota: &str, class: &CallClass, records: u64) -> CampaignStep {
        let whole = |mean: f64| Some(mean.ceil().min(f64::from(i32::MAX)) as i32);
        let tokens = |measured: &Measured| if self.counted > 0 { whole(measured.mean()) } else { None };
        let call = CallFigures {
            model: class.model.clone(),
            endpoint: class.endpoint.clone(),
            input_tokens: tokens(&self.input),
            output_tokens: tokens(&self.output),
            max_output_tokens: self.max_output.and_then(|most| i32::try_from(most).ok()),
            credits: None,
            answer_millis: whole(self.millis.mean()),
            spread_percent: i32::try_from(self.spread()).ok(),
        };
        CampaignStep {
            quota: quota.to_owned(),
            calls: Some(per_record(self.answered, records)),
            call,
            continue_percent: None,
        }
    }

    /// How far the means may be off, in percent.
    fn spread(&self) -> u64 {
        let tokens = [&self.input, &self.output].into_iter().filter(|_| self.counted > 0);
        let off = tokens.chain([&self.millis]).map(Measured::off_percent).fold(0.0, f64::max);
        (off.ceil() as u64).clamp(1, 90)
    }
}

fn named(quota: &str, class: &CallClass) -> String {
    let what = class.model.iter().chain(&class.endpoint).cloned().collect::<Vec<_>>().join(", ");
    if what.is_empty() { quota.to_owned() } else { format!("{quota} ({what})") }
}

/// Calls for each record, with three places.
fn per_record(calls: u64, records: u64) -> Decimal {
    if calls.is_multiple_of(records.max(1)) {
        return Decimal::Number(i64::try_from(calls / records.max(1)).unwrap_or(i64::MAX));
    }
    let thousandths = (calls * 1000).div_ceil(records.max(1));
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    Decimal::Text(text.trim_end_matches('0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_for_a_record_are_whole_or_have_three_places() {
        assert_eq!(per_record(20, 10), Decimal::Number(2));
        assert_eq!(per_record(13, 10), Decimal::Text("1.3".to_owned()));
        assert_eq!(per_record(1, 3), Decimal::Text("0.334".to_owned()));
    }
}
