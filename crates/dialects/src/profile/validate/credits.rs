//! What makes the costs of calls in credits acceptable.

use super::Check;
use crate::profile::CreditCost;

impl Check<'_> {
    pub(super) fn credits(&mut self) {
        let all = &self.profile.credits;
        for (index, cost) in all.iter().enumerate() {
            let field = format!("credits[{index}]");
            if let Some(endpoint) = &cost.endpoint {
                self.endpoint_name(&format!("{field}.endpoint"), endpoint);
            }
            let covers = |before: &CreditCost| before.endpoint.is_none() || before.endpoint == cost.endpoint;
            let message = "covers no call, because an entry before it covers them; put it before that one, or remove it";
            self.require(!all[..index].iter().any(covers), format!("{field}.endpoint"), message);
            if let Some(times) = &cost.times {
                self.pointer(&format!("{field}.times"), times);
            }
            let message = "says no number of times for a body without one; write the API's default, or the most that it takes";
            self.require(
                cost.times.is_none() || cost.otherwise.is_some(),
                format!("{field}.otherwise"),
                message,
            );
            let message = "is used with `times` alone; add that, or remove this";
            self.require(
                cost.times.is_some() || cost.otherwise.is_none(),
                format!("{field}.otherwise"),
                message,
            );
            if let Some(dearer) = &cost.dearer {
                let field = format!("{field}.dearer");
                let message = "is empty; name the parameter of the query, such as `page`";
                self.require(!dearer.parameter.is_empty(), format!("{field}.parameter"), message);
                let message =
                    "is empty; write from which number on calls cost what, such as [{from: 101, each: 3}]";
                self.require(!dearer.steps.is_empty(), format!("{field}.steps"), message);
                let message = "are not in order; write the lowest `from` first, and each once";
                let ordered = dearer.steps.is_sorted_by(|one, next| one.from < next.from);
                self.require(ordered, format!("{field}.steps"), message);
            }
            let Some(told) = &cost.told else { continue };
            for (number, pointer) in told.at.iter().enumerate() {
                self.pointer(&format!("{field}.told.at[{number}]"), pointer);
            }
            if let Some(header) = &told.header {
                self.header_name(&format!("{field}.told.header"), header);
            }
            let message =
                "names no place; give `at` or `header`, such as `at: [/extensions/cost/actualQueryCost]`";
            self.require(told.header.is_some() || !told.at.is_empty(), format!("{field}.told"), message);
        }
    }
}
