//! The reasons of Events: what programs compare, and what people look up in docs/events.md.

use crate::reconcile::Reason;

/// What an Event of a reason is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The objects that have such Events.
    pub objects: &'static str,
    /// What has happened.
    pub meaning: &'static str,
    /// What to do; empty: nothing.
    pub remedy: &'static str,
}

macro_rules! event_reasons {
    ($($name:ident: $warning:literal, $objects:literal, $meaning:literal, $remedy:literal;)+) => {
        /// The reason of an Event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventReason { $(#[doc = $meaning] $name,)+ }

        impl EventReason {
            /// All of them.
            pub const ALL: &[EventReason] = &[$(EventReason::$name,)+];

            /// In CamelCase, as the Event has it.
            pub fn word(self) -> &'static str {
                match self { $(EventReason::$name => stringify!($name),)+ }
            }

            /// The Event's type is Warning, not Normal.
            pub fn is_warning(self) -> bool {
                match self { $(EventReason::$name => $warning,)+ }
            }

            /// What people are told of it.
            pub fn explanation(self) -> Explanation {
                match self {
                    $(EventReason::$name => {
                        Explanation { objects: $objects, meaning: $meaning, remedy: $remedy }
                    })+
                }
            }
        }
    };
}

event_reasons! {
    ProviderNotFound: true, "quota, workloads",
        "The quota names a provider that does not exist.",
        "Correct `spec.provider.name`; the note lists the providers. Or create the ApiProvider.";
    ProviderInvalid: true, "quota, workloads",
        "The quota's ApiProvider can't be read, or contradicts itself.",
        "Correct the ApiProvider's field that the note names.";
    TierNotFound: true, "quota, workloads",
        "The quota names a tier that its provider does not have.",
        "Correct `spec.provider.tier`; the note lists the tiers.";
    AccountConflict: true, "quota, workloads",
        "Another, older quota has the same account.",
        "Draw on that quota, which the note names, or correct `spec.account.id`.";
    Invalid: true, "quota, workloads",
        "Something else in the quota's spec is wrong.",
        "Correct the field that the note names.";
    LimiterUnavailable: true, "quota, workloads",
        "The limiter does not report, and calls wait.",
        "Look at the limiter's pod. Nothing while the note says that it is being replaced.";
    NotWritten: true, "quota, workloads",
        "The operator can't write the limiter's configuration; what was in force before stays in force.",
        "See in the note why the API server refuses the ConfigMap.";
    Refused: true, "quota; workloads if nothing else is in force",
        "The limiter can't apply the newest configuration.",
        "Correct the spec as the note says; operator and limiter must be of one version.";
    GateOpen: true, "quota, workloads",
        "The gate is open: all calls pass, whatever the limits.",
        "Nothing during an uninstall; else close it as the note says.";
    GateClosed: false, "quota, workloads",
        "The gate is closed: limits are enforced again.", "";
    PausedByHand: false, "quota, workloads",
        "A person has paused the quota's calls, and they wait.",
        "Wait for the time that the note names, or end it: `kubectl apiquota resume NAME`.";
    ProviderStopped: true, "quota, workloads",
        "The provider refuses calls until a person acts, for its bill or a spend cap for example.",
        "See to the account at the provider. One call asks again at the time that the note names.";
    ProviderOverloaded: true, "quota, workloads",
        "The provider answers that it is overloaded, and calls wait.", "";
    ProviderPaused: true, "quota, workloads",
        "The provider has rejected calls for its limits, and calls wait as long as it says.",
        "If it comes often: find who else draws on the account, or lower `spec.sharePercent`.";
    BudgetNearlyUsed: true, "quota",
        "Four fifths of a budget, or of an allocation's own, are used: a limit of money, or of an hour or more.",
        "See who uses it (metrics by workload and model); raise the budget, or make fewer calls.";
    BudgetExhausted: true, "quota, workloads",
        "A window of an hour or more is used up. Calls wait or are refused.",
        "A higher tier or fewer calls; or wait until the time that the note names.";
    CheckpointsUnavailable: true, "quota; workloads whose calls wait",
        "What counts in windows of an hour or more can't be stored; calls that draw on them wait, or will soon.",
        "See in the note why the API server refuses the ConfigMap.";
    UsageUnknown: true, "quota, workloads",
        "It is not known how much of a window of an hour or more was used, so all of it counts as used.",
        "State what was used, by the command in the note, or wait.";
    QuotaDeleted: true, "workloads",
        "The quota that running pods draw on was deleted, and their calls wait.",
        "Create it again, or name another quota and restart the workload.";
    Resumed: false, "quota, workloads",
        "What an earlier warning of this table said is over.", "";
    LimitDrift: true, "quota",
        "The provider reports lower limits than the quota declares; the lower ones are enforced.",
        "Correct the tier, or `spec.limits`.";
    TierLearned: false, "quota",
        "No tier is declared, and the provider's answers have told the limits.",
        "Declare the tier if the note names the right one.";
    ConcurrencyLearned: false, "quota",
        "The provider's rejections have shown how many calls it takes at the same time.", "";
    WaitingForQuota: false, "workload",
        "Calls of the workload have waited for their turn for 5 seconds or more.",
        "Fewer workers, if that is too long.";
    ClientsGiveUp: true, "workload",
        "Clients hang up while their calls wait, because their timeout is shorter than the wait.",
        "Set the client's timeout above the wait that the note names, or run fewer workers.";
    ModelUnknown: true, "workload",
        "A request does not say which model it calls, so it waits for all models and is charged to each.",
        "Send the model in the request as the provider documents it; the note says what could not be read.";
    CostUnknown: true, "workload",
        "What calls cost is not known: the model has no price, a call sets no maximum of output, or its answer does not say what it has cost. They count as the most that they may have cost, so that limits are used up early.",
        "Do what the note says: name the model's price, set `max_tokens`, or say where answers tell their cost.";
    AnotherOrganization: true, "workload",
        "An answer names another account than the quota's `account.organization`: the workload calls with a key of another account. What such answers say of limits and rejections is ignored, and their calls count nevertheless.",
        "Give the workload a key of the quota's account, have it draw on a quota of its own account, or correct `account.organization`.";
    ProxyNotTrusted: true, "workload",
        "A client does not trust the proxy's CA, and its calls fail.",
        "Let the client trust the bundle, as the note says.";
    NoCalls: false, "workload",
        "No call has come through a proxy in its first minute.",
        "Nothing if the program has nothing to ask yet; else see whether its calls go around the proxy.";
    Injected: false, "workload",
        "Pods of the workload have a proxy.", "";
    InjectionSkipped: true, "workload",
        "A pod can't have a proxy, or the calls of a container bypass it.",
        "Change what the note names, if the calls should be limited.";
    InjectionWarning: true, "workload",
        "Pods have a proxy, and something about them may not work as meant.",
        "See the note.";
    NotInjected: true, "workload",
        "Pods that request a quota have no proxy, because they were created without Quotakeeper.",
        "Restart the workload, by the command in the note.";
}

impl From<Reason> for EventReason {
    fn from(reason: Reason) -> EventReason {
        match reason {
            Reason::ProviderNotFound => EventReason::ProviderNotFound,
            Reason::ProviderInvalid => EventReason::ProviderInvalid,
            Reason::TierNotFound => EventReason::TierNotFound,
            Reason::AccountConflict => EventReason::AccountConflict,
            Reason::Invalid => EventReason::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use test_support::golden::assert_part;

    use super::*;
    use crate::conditions::reasons;
    use crate::status::state::State;

    const REFUSALS: [EventReason; 5] = [
        EventReason::ProviderNotFound,
        EventReason::ProviderInvalid,
        EventReason::TierNotFound,
        EventReason::AccountConflict,
        EventReason::Invalid,
    ];

    #[test]
    fn the_page_of_events_names_every_reason() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md");
        let mut events = "| reason | type | at | meaning | what to do |\n|---|---|---|---|---|\n".to_owned();
        for reason in EventReason::ALL {
            let Explanation { objects, meaning, remedy } = reason.explanation();
            let type_ = if reason.is_warning() { "Warning" } else { "Normal" };
            let remedy = if remedy.is_empty() { "Nothing." } else { remedy };
            writeln!(events, "| `{}` | {type_} | {objects} | {meaning} | {remedy} |", reason.word()).unwrap();
        }
        assert_part(&page, "events", &events);
        let mut conditions = "| condition | reason | meaning |\n|---|---|---|\n".to_owned();
        let refusals =
            REFUSALS.map(|reason| (reason.word(), format!("`Accepted`: {}", reason.explanation().meaning)));
        let refusals = refusals.iter().map(|(word, doc)| (*word, doc.as_str()));
        for (word, doc) in refusals.chain(reasons::ALL.iter().copied()) {
            let (conditions_of, meaning) = doc.trim().split_once(": ").unwrap();
            writeln!(conditions, "| {conditions_of} | `{word}` | {} |", capitalized(meaning)).unwrap();
        }
        assert_part(&page, "conditions", &conditions);
    }

    fn capitalized(sentence: &str) -> String {
        let (first, rest) = sentence.split_at(1);
        first.to_uppercase() + rest
    }

    #[test]
    fn a_reason_says_what_to_do_unless_all_is_well_again() {
        let mut words = BTreeSet::new();
        for reason in EventReason::ALL {
            let Explanation { objects, meaning, remedy } = reason.explanation();
            assert!(words.insert(reason.word()), "{reason:?} is there twice");
            for sentence in [meaning, remedy].iter().filter(|sentence| !sentence.is_empty()) {
                assert!(
                    sentence.ends_with('.') && sentence.starts_with(char::is_uppercase)
                        || sentence.starts_with('`'),
                    "{sentence}"
                );
            }
            assert!(!objects.is_empty());
            // It is the provider's to mend.
            let passes = *reason == EventReason::ProviderOverloaded;
            assert!(!reason.is_warning() || passes || !remedy.is_empty(), "{reason:?} says nothing to do");
        }
    }

    /// STATUS and Events speak of one thing by one word.
    #[test]
    fn states_in_which_calls_wait_have_an_event_of_that_word() {
        let words: BTreeSet<&str> = EventReason::ALL.iter().map(|reason| reason.word()).collect();
        let without = [State::Deleting, State::Programming, State::Disabled, State::Queueing, State::Ready];
        for state in State::ALL.into_iter().filter(|state| !without.contains(state)) {
            assert!(words.contains(state.word(None)), "{state:?}");
        }
        for reason in REFUSALS {
            assert!(words.contains(reason.word()));
        }
    }
}
