//! What is known of the use of an account before its limiter began, and what is assumed, as sentences.

use jiff::Timestamp;
use quotakeeper_wire::status::{AccountReport, PastUse};

use super::Subject;
use super::figures::{Figure, Figures};
use super::words::until_utc;
use crate::conditions::reasons;

/// What the condition `UsageKnown` says.
pub(super) struct Past {
    pub(super) known: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What the limiter knew when it put the account in force, and what of that it assumes still.
pub(super) fn of(subject: &Subject<'_>, report: &AccountReport, figures: &Figures<'_>) -> Past {
    let of_allocations: Vec<String> =
        figures.closed_of_allocations().iter().map(|figure| figure.name()).collect();
    let mut assumed = figures.uncertain();
    assumed.extend(of_allocations.iter().map(String::as_str));
    let all = figures.windows().join(", ");
    let checkpoint = report.checkpoint.clone().unwrap_or_default();
    let (known, reason, message) = match report.past {
        _ if checkpoint.lost && !assumed.is_empty() => {
            (false, reasons::CHECKPOINT_LOST, unknown(subject, &assumed, figures))
        }
        _ if checkpoint.began && assumed.is_empty() => {
            let message = format!(
                "The limiter began without its ledger. All that this cluster had used of {} is known from the checkpoint and counts in full, and so does what may have been granted since it was stored.",
                figures.long_windows().join(", ")
            );
            (true, reasons::CHECKPOINTED, message)
        }
        PastUse::Recorded if assumed.is_empty() => {
            let message = format!("All that this cluster has used of {all} is recorded and counts in full.");
            (true, reasons::RECORDED, message)
        }
        PastUse::New if assumed.is_empty() => {
            let message = format!(
                "The account is new here: {all} began as unused. All that this cluster uses counts in full; what others had used before is known as far as answers tell it."
            );
            (true, reasons::NEW_ACCOUNT, message)
        }
        _ if assumed.is_empty() => {
            let message = format!(
                "What was unknown of the time before has been told, stated, or has left its window: of {all} nothing is assumed any more."
            );
            (true, reasons::LEARNED, message)
        }
        PastUse::Recorded | PastUse::New | PastUse::Unknown => {
            (false, reasons::NOT_RECORDED, unknown(subject, &assumed, figures))
        }
        PastUse::Lost => (false, reasons::LEDGER_LOST, unknown(subject, &assumed, figures)),
    };
    Past { known, reason, message }
}

fn unknown(subject: &Subject<'_>, assumed: &[&str], figures: &Figures<'_>) -> String {
    closed(subject, figures).or_else(|| closed_of_allocation(subject, figures)).unwrap_or_else(|| {
        format!(
            "Earlier use of {} is not known, so what may have been used counts as used until it has left its window, or an answer of the provider tells.",
            assumed.join(", ")
        )
    })
}

/// When the first of the budgets opens by itself that are closed.
pub(super) fn opens_at(subject: &Subject<'_>, figures: &Figures<'_>) -> Option<Timestamp> {
    figures.closed().iter().filter_map(|figure| figure.reset_at(subject.now)).max()
}

/// Which budgets are closed, in a line without its end.
pub(super) fn closed_in_brief(figures: &Figures<'_>) -> String {
    let names: Vec<&str> = figures.closed().iter().map(|figure| figure.config.name.as_str()).collect();
    format!(
        "What was used of {} is not known, so all of it counts as used; the condition UsageKnown says how to open it",
        names.join(", ")
    )
}

/// Which budgets are closed until when, and what opens them; none: no budget is.
pub(super) fn closed(subject: &Subject<'_>, figures: &Figures<'_>) -> Option<String> {
    let closed = figures.closed();
    let first = closed.first()?;
    let names: Vec<&str> = closed.iter().map(|figure| figure.config.name.as_str()).collect();
    let at = opens_at(subject, figures).map(|at| until_words(subject, at)).unwrap_or_default();
    Some(format!(
        "How much of {} was used is not known, because {}: all of it counts as used{at}, and calls wait. It opens before as soon as an answer of the provider tells what is left, or when you state what was used: {}.",
        names.join(", "),
        why(subject)?,
        statement(subject, first)?,
    ))
}

/// The same of a budget that an allocation declares: no answer tells of that one.
fn closed_of_allocation(subject: &Subject<'_>, figures: &Figures<'_>) -> Option<String> {
    let closed = figures.closed_of_allocations();
    let first = closed.first()?;
    let at = first.reset_at(subject.now).map(|at| until_words(subject, at)).unwrap_or_default();
    Some(format!(
        "How much of {} was used is not known, because {}: all of it counts as used{at}, and calls of the allocation {} wait. It opens before when you state what was used: {}.",
        first.name(),
        why(subject)?,
        first.allocation?,
        statement(subject, first)?,
    ))
}

fn until_words(subject: &Subject<'_>, at: Timestamp) -> String {
    format!(" until {}", until_utc(at, subject.now))
}

fn why(subject: &Subject<'_>) -> Option<&'static str> {
    let report = subject.report()?;
    let checkpoint = report.checkpoint.clone().unwrap_or_default();
    Some(match report.past {
        _ if checkpoint.lost => "the checkpoint of it is missing, or an earlier one is in its place",
        _ if checkpoint.began => "it was not known when the checkpoint was stored",
        PastUse::Lost => "the limiter's ledger was lost",
        PastUse::Recorded | PastUse::New | PastUse::Unknown => "it is not recorded",
    })
}

/// The command that states what was used of a limit.
fn statement(subject: &Subject<'_>, figure: &Figure<'_>) -> Option<String> {
    let quota = subject.quota()?.metadata.clone();
    let namespace = quota.namespace.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    let name = quota.name.unwrap_or_default();
    Some(format!(
        "kubectl patch aq {name}{namespace} --type=merge -p '{{\"spec\":{{\"used\":[{{\"limit\":\"{}\",\"amount\":UNITS,\"at\":\"{}\"}}]}}}}'",
        figure.name(),
        subject.now.strftime("%FT%TZ"),
    ))
}
