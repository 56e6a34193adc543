//! The state of a quota in one word: of all that holds at a moment, what a person should see first. Pure.
//!
//! [`State::ALL`] is the precedence, which docs/how-it-fails.md states too: what a person has to mend comes before
//! what passes by itself, and what stops all calls before what delays some.

use std::time::Duration;

use crate::conditions::reasons;
use crate::limiter_view::LIMITER_TIMEOUT;
use crate::reconcile::Reason;

/// After this time without long waits the quota no longer counts as queueing.
const QUEUEING_ENDS: Duration = Duration::from_secs(30);

/// What the state is decided from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The quota is being deleted.
    pub deleting: bool,
    /// Why its newest spec is refused.
    pub refused: Option<Reason>,
    /// How long ago the limiter reported last; before its first report to this leader: how long the leader has waited
    /// for it.
    pub silence: Duration,
    /// The limiter has reported to this leader.
    pub heard: bool,
    /// The limiter's configuration could not be written.
    pub unwritten: bool,
    /// The limiter can't apply the newest configuration.
    pub inapplicable: bool,
    /// The generation of the spec.
    pub generation: i64,
    /// The generation that the limiter has in force.
    pub acknowledged: Option<i64>,
    /// Every call passes, whatever the accounts say.
    pub gate_open: bool,
    /// The quota's calls pass.
    pub disabled: bool,
    /// What the provider has said that holds all calls back.
    pub held: Option<Held>,
    /// A budget is used up.
    pub exhausted: bool,
    /// What counts in long windows can't be stored.
    pub unstored: bool,
    /// A budget is closed, because it is not known what was used of it.
    pub usage_unknown: bool,
    /// How long ago a call was last seen that had waited for more than a moment.
    pub long_wait_ago: Option<Duration>,
    /// Pods that request the quota have no proxy.
    pub not_injected: bool,
}

/// Why a provider's answer, or a person, holds all calls of a quota back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It refuses calls until a person acts.
    Stopped,
    /// It is overloaded.
    Overloaded,
    /// The quota is used up, by its word.
    Paused,
    /// A person has paused.
    ByHand,
}

/// A state; each has one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The quota is being deleted.
    Deleting,
    /// Its newest spec is refused; the word says why.
    Refused,
    /// The limiter does not report: calls wait.
    LimiterUnavailable,
    /// The limiter's configuration can't be written.
    NotWritten,
    /// The limiter can't apply the newest configuration.
    Inapplicable,
    /// The limiter has not applied the newest configuration yet.
    Programming,
    /// The gate is open: all calls pass.
    GateOpen,
    /// The quota is disabled: its calls pass.
    Disabled,
    /// A person has paused its calls.
    PausedByHand,
    /// The provider refuses calls until a person acts.
    ProviderStopped,
    /// The provider is overloaded.
    ProviderOverloaded,
    /// The provider has rejected calls for their quota.
    ProviderPaused,
    /// A budget is used up.
    BudgetExhausted,
    /// What counts in windows of an hour or more can't be stored: calls that draw on them wait, or will soon.
    CheckpointsUnavailable,
    /// A budget is closed, because it is not known what was used of it.
    UsageUnknown,
    /// Calls wait for their turn.
    Queueing,
    /// Calls pass; those of some pods are not counted.
    NotInjected,
    /// Calls pass.
    Ready,
}

impl State {
    /// All states: the first whose cause holds is the quota's.
    pub const ALL: [State; 18] = [
        State::Deleting,
        State::Refused,
        State::LimiterUnavailable,
        State::NotWritten,
        State::Inapplicable,
        State::Programming,
        State::GateOpen,
        State::Disabled,
        State::PausedByHand,
        State::ProviderStopped,
        State::ProviderOverloaded,
        State::ProviderPaused,
        State::BudgetExhausted,
        State::CheckpointsUnavailable,
        State::UsageUnknown,
        State::Queueing,
        State::NotInjected,
        State::Ready,
    ];

    /// The state of a quota.
    pub fn of(inputs: &Inputs) -> State {
        State::first(inputs, State::Deleting)
    }

    /// The state of its calls alone, as if all else were well: what the condition `Throttled` says.
    pub fn of_calls(inputs: &Inputs) -> State {
        State::first(inputs, State::GateOpen)
    }

    fn first(inputs: &Inputs, from: State) -> State {
        let mut states = State::ALL.into_iter().filter(|state| *state >= from);
        states.find(|state| state.holds(inputs)).unwrap_or(State::Ready)
    }

    /// Whether the cause of a state holds, whatever else does.
    fn holds(self, inputs: &Inputs) -> bool {
        match self {
            State::Deleting => inputs.deleting,
            State::Refused => inputs.refused.is_some(),
            State::LimiterUnavailable => inputs.silence >= LIMITER_TIMEOUT,
            State::NotWritten => inputs.unwritten,
            State::Inapplicable => inputs.inapplicable,
            State::Programming => !inputs.heard || inputs.acknowledged != Some(inputs.generation),
            State::GateOpen => inputs.gate_open,
            State::Disabled => inputs.disabled,
            State::PausedByHand => inputs.held == Some(Held::ByHand),
            State::ProviderStopped => inputs.held == Some(Held::Stopped),
            State::ProviderOverloaded => inputs.held == Some(Held::Overloaded),
            State::ProviderPaused => inputs.held == Some(Held::Paused),
            State::BudgetExhausted => inputs.exhausted,
            State::CheckpointsUnavailable => inputs.unstored,
            State::UsageUnknown => inputs.usage_unknown,
            State::Queueing => queueing(inputs.long_wait_ago),
            State::NotInjected => inputs.not_injected,
            State::Ready => true,
        }
    }

    /// Its word, in the column STATUS and as the reason of conditions and Events; `refused` is why a spec is refused.
    pub fn word(self, refused: Option<Reason>) -> &'static str {
        match self {
            State::Deleting => "Deleting",
            State::Refused => refused.unwrap_or(Reason::Invalid).word(),
            State::LimiterUnavailable => reasons::LIMITER_UNAVAILABLE,
            State::NotWritten => reasons::NOT_WRITTEN,
            State::Inapplicable => reasons::REFUSED,
            State::Programming => "Programming",
            State::GateOpen => reasons::GATE_OPEN,
            State::Disabled => reasons::DISABLED,
            State::PausedByHand => reasons::PAUSED_BY_HAND,
            State::ProviderStopped => reasons::PROVIDER_STOPPED,
            State::ProviderOverloaded => reasons::PROVIDER_OVERLOADED,
            State::ProviderPaused => reasons::PROVIDER_PAUSED,
            State::BudgetExhausted => reasons::BUDGET_EXHAUSTED,
            State::CheckpointsUnavailable => reasons::CHECKPOINTS_UNAVAILABLE,
            State::UsageUnknown => reasons::USAGE_UNKNOWN,
            State::Queueing => reasons::QUEUEING,
            State::NotInjected => "NotInjected",
            State::Ready => reasons::READY,
        }
    }
}

/// The word of a text of the column STATUS: `ProviderPaused` of `ProviderPaused until 14:03:10`.
pub(crate) fn shown_word(shown: &str) -> String {
    match shown.split(' ').next() {
        Some(word) if word.starts_with(|first: char| first.is_ascii_uppercase()) => word.to_owned(),
        // `3 pods not injected`
        _ => State::NotInjected.word(None).to_owned(),
    }
}

/// Whether calls wait for more than a moment, when such a call was last seen so long ago.
pub(super) fn queueing(long_wait_ago: Option<Duration>) -> bool {
    long_wait_ago.is_some_and(|ago| ago < QUEUEING_ENDS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Nothing is wrong.
    const WELL: Inputs = Inputs {
        deleting: false,
        refused: None,
        silence: Duration::ZERO,
        heard: true,
        unwritten: false,
        inapplicable: false,
        generation: 3,
        acknowledged: Some(3),
        gate_open: false,
        disabled: false,
        held: None,
        exhausted: false,
        unstored: false,
        usage_unknown: false,
        long_wait_ago: None,
        not_injected: false,
    };

    const REFUSALS: [Reason; 5] = [
        Reason::ProviderNotFound,
        Reason::ProviderInvalid,
        Reason::TierNotFound,
        Reason::AccountConflict,
        Reason::Invalid,
    ];

    type Choice = Box<dyn Fn(&mut Inputs)>;

    /// The values of each input, with the times on both sides of every bound.
    fn choices() -> Vec<Vec<Choice>> {
        fn each<T: Copy + 'static>(values: &[T], set: fn(&mut Inputs, T)) -> Vec<Choice> {
            values
                .iter()
                .copied()
                .map(|value| Box::new(move |it: &mut Inputs| set(it, value)) as Choice)
                .collect()
        }
        let both = [false, true];
        let refused = [None, Some(Reason::TierNotFound)];
        let tick = Duration::from_millis(1);
        vec![
            each(&both, |it, value| it.deleting = value),
            each(&refused, |it, value| it.refused = value),
            each(&[LIMITER_TIMEOUT - tick, LIMITER_TIMEOUT], |it, value| it.silence = value),
            each(&both, |it, value| it.heard = value),
            each(&both, |it, value| it.unwritten = value),
            each(&both, |it, value| it.inapplicable = value),
            each(&[None, Some(2), Some(3)], |it, value| it.acknowledged = value),
            each(&both, |it, value| it.gate_open = value),
            each(&both, |it, value| it.disabled = value),
            each(
                &[None, Some(Held::Stopped), Some(Held::Overloaded), Some(Held::Paused), Some(Held::ByHand)],
                |it, value| it.held = value,
            ),
            each(&both, |it, value| it.exhausted = value),
            each(&both, |it, value| it.unstored = value),
            each(&both, |it, value| it.usage_unknown = value),
            each(
                &[None, Some(Duration::ZERO), Some(QUEUEING_ENDS - tick), Some(QUEUEING_ENDS)],
                |it, value| {
                    it.long_wait_ago = value;
                },
            ),
            each(&both, |it, value| it.not_injected = value),
        ]
    }

    /// Calls `look` with every combination of all inputs.
    fn every_combination(choices: &[Vec<Choice>], inputs: Inputs, look: &mut impl FnMut(&Inputs)) {
        let Some((first, rest)) = choices.split_first() else { return look(&inputs) };
        for choice in first {
            let mut inputs = inputs;
            choice(&mut inputs);
            every_combination(rest, inputs, look);
        }
    }

    /// What must be mended for a word to go away: with that mended, another word shows.
    fn mended(state: State, inputs: &Inputs) -> Inputs {
        let well = *inputs;
        match state {
            State::Deleting => Inputs { deleting: false, ..well },
            State::Refused => Inputs { refused: None, ..well },
            State::LimiterUnavailable => Inputs { silence: Duration::ZERO, ..well },
            State::NotWritten => Inputs { unwritten: false, ..well },
            State::Inapplicable => Inputs { inapplicable: false, ..well },
            State::Programming => Inputs { heard: true, acknowledged: Some(well.generation), ..well },
            State::GateOpen => Inputs { gate_open: false, ..well },
            State::Disabled => Inputs { disabled: false, ..well },
            State::PausedByHand
            | State::ProviderStopped
            | State::ProviderOverloaded
            | State::ProviderPaused => Inputs { held: None, ..well },
            State::BudgetExhausted => Inputs { exhausted: false, ..well },
            State::CheckpointsUnavailable => Inputs { unstored: false, ..well },
            State::UsageUnknown => Inputs { usage_unknown: false, ..well },
            State::Queueing => Inputs { long_wait_ago: None, ..well },
            State::NotInjected => Inputs { not_injected: false, ..well },
            State::Ready => well,
        }
    }

    #[test]
    fn every_combination_has_the_first_word_whose_cause_holds() {
        let (mut seen, mut combinations) = (BTreeSet::new(), 0_u32);
        every_combination(&choices(), WELL, &mut |inputs| {
            combinations += 1;
            let state = State::of(inputs);
            seen.insert(state.word(inputs.refused));
            let after = State::of(&mended(state, inputs));
            assert!(state == State::Ready || after > state, "{state:?}, then {after:?}: {inputs:?}");
            if state == State::Ready {
                let ago = inputs.long_wait_ago.filter(|ago| *ago < QUEUEING_ENDS);
                let silence = inputs.silence;
                assert_eq!(Inputs { silence: Duration::ZERO, long_wait_ago: ago, ..*inputs }, WELL);
                assert!(silence < LIMITER_TIMEOUT, "a limiter that is silent is never Ready");
            }
            assert!(State::of_calls(inputs) >= State::GateOpen);
            assert!(state < State::GateOpen || state == State::of_calls(inputs), "{inputs:?}");
        });
        assert_eq!(combinations, 2 * 2 * 2 * 2 * 2 * 2 * 3 * 2 * 2 * 5 * 2 * 2 * 2 * 4 * 2);
        assert_eq!(seen.len(), State::ALL.len(), "each word is reached: {seen:?}");
        let refused = REFUSALS.map(|reason| State::Refused.word(Some(reason)));
        assert_eq!(BTreeSet::from(refused).len(), REFUSALS.len());
    }

    #[test]
    fn the_documentation_states_the_words_in_their_order() {
        let docs = include_str!("../../../../docs/how-it-fails.md");
        let (_, table) = docs.split_once("| STATUS |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let words = rows.map(|row| {
            let cell = row.trim_start_matches('|').split('|').next().unwrap();
            let words = cell.split(',').map(|word| word.trim().trim_matches('`').to_owned());
            words.collect::<BTreeSet<_>>()
        });
        let mut expected: Vec<BTreeSet<String>> = Vec::new();
        for state in State::ALL {
            expected.push(match state {
                State::Refused => REFUSALS.iter().map(|reason| reason.word().to_owned()).collect(),
                State::NotInjected => BTreeSet::from(["3 pods not injected".to_owned()]),
                other => BTreeSet::from([other.word(None).to_owned()]),
            });
        }
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_two_states_share_a_word() {
        let mut words: BTreeMap<&str, State> = BTreeMap::new();
        for state in State::ALL {
            let other = words.insert(state.word(None), state);
            assert!(other.is_none(), "{other:?} and {state:?}");
        }
    }
}
