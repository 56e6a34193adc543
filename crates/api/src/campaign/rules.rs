//! What the schema of a campaign can't say.

use super::ApiCampaignSpec;
use crate::problem::Problem;

/// The most calls that a record may make in one step.
const MOST_CALLS: u64 = 100_000;

/// What is wrong between the fields of a campaign.
pub fn problems(spec: &ApiCampaignSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(message) = spec.records.units() {
        problems.push(Problem::new("spec.records", message));
    }
    if spec.deadline.is_some() && spec.deadline_seconds.is_some() {
        let message = "is given twice; keep deadline or deadlineSeconds";
        problems.push(Problem::new("spec.deadlineSeconds", message));
    }
    if let (Some(start), Some(deadline)) = (&spec.start, &spec.deadline)
        && deadline <= start
    {
        problems.push(Problem::new("spec.deadline", "is not after spec.start; write a later time"));
    }
    for (index, step) in spec.steps.iter().enumerate() {
        let field = |name: &str| format!("spec.steps[{index}].{name}");
        if let Some(calls) = &step.calls {
            let written = calls.millionths();
            if !written.is_some_and(|calls| (1..=MOST_CALLS * 1_000_000).contains(&calls)) {
                let message = format!(
                    "`{calls}` is not a number of calls above 0 and at most {MOST_CALLS}; write it as 2 or \"1.3\""
                );
                problems.push(Problem::new(field("calls"), message));
            }
        }
        if let (Some(most), Some(output)) = (step.call.max_output_tokens, step.call.output_tokens)
            && output > most
        {
            let message =
                format!("is more than maxOutputTokens ({most}) lets an answer have; correct one of them");
            problems.push(Problem::new(field("outputTokens"), message));
        }
        if step.continue_percent == Some(0) && index + 1 < spec.steps.len() {
            let message = "is 0, so that no record reaches the steps after it; remove them, or raise it";
            problems.push(Problem::new(field("continuePercent"), message));
        }
    }
    problems
}
