//! What answers tell of the limits of an account whose quota declares no tier, and when it is believed. Pure.
//!
//! The first word of a limit is believed: what was in force before is only assumed. From then on a figure changes for
//! everyone on the word of two workloads, or of one over two windows that nobody contradicts; so no pod alone raises
//! the limits of all within a window. A workload that is alone on an account lowers its own figure at once.
//!
//! | room | holds |
//! |---|---|
//! | `in_force` | the tier that fits what was told, and the limits that follow |

mod in_force;

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::name::Consumer;
use quotakeeper_engine::time::Time;
use serde::{Deserialize, Serialize};

/// The most figures that are kept: limits, and models of those that count models apart.
const MOST_FIGURES: usize = 64;
/// The most workloads whose word on a figure is kept; beyond it the one that has been silent the longest is forgotten.
const MOST_WORDS: usize = 8;
/// A window counts as no longer than this: who has upgraded a daily limit does not wait for two days.
const LONGEST_WINDOW: Duration = Duration::from_secs(300);
/// After so many answers that tell nothing no further is waited for: lists, uploads and errors often tell nothing.
const MOST_SILENT: u8 = 10;
/// The window of a limit that has none.
const NO_WINDOW: Duration = Duration::from_secs(60);

/// What a figure is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The limit's name.
    pub(crate) limit: String,
    /// The model, where the limit counts models apart.
    pub(crate) model: Option<String>,
}

/// What answers have told of an account's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedLimits {
    /// Answers that told nothing before the first that does; many are not counted.
    silent: u8,
    figures: BTreeMap<Subject, Figure>,
}

/// The provider's amount of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Figure {
    /// What is believed, …
    amount: u64,
    /// … and since when. Older words say nothing against it.
    since: Time,
    /// The newest word of each workload.
    words: Vec<Word>,
}

/// What a workload was told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Word {
    by: Consumer,
    amount: u64,
    /// Since when it has been told nothing else.
    since: Time,
    last: Time,
}

impl LearnedLimits {
    /// A call has been answered. Returns whether no answer is waited for any more because of it: so many have told
    /// nothing.
    pub(crate) fn answered(&mut self, tells: bool) -> bool {
        if tells || !self.awaits_answer() {
            return false;
        }
        self.silent += 1;
        !self.awaits_answer()
    }

    /// Whether nothing is known, and the next answer may tell.
    fn awaits_answer(&self) -> bool {
        self.figures.is_empty() && self.silent < MOST_SILENT
    }

    /// A workload was told the provider's amount of a limit. Returns whether another is believed now.
    pub(crate) fn tell(
        &mut self,
        now: Time,
        by: &Consumer,
        subject: Subject,
        window: Duration,
        amount: u64,
    ) -> bool {
        if !self.figures.contains_key(&subject) && self.figures.len() >= MOST_FIGURES {
            return false;
        }
        let mut news = false;
        let figure = self.figures.entry(subject).or_insert_with(|| {
            news = true;
            Figure { amount, since: now, words: Vec::new() }
        });
        figure.note(now, by, amount);
        let believed = figure.believed(now, two_windows(window));
        if believed != figure.amount {
            (figure.amount, figure.since) = (believed, now);
            news = true;
        }
        news
    }
}

/// How long one workload has to tell a figure that is to bind all.
fn two_windows(window: Duration) -> Duration {
    let window = if window.is_zero() { NO_WINDOW } else { window };
    window.min(LONGEST_WINDOW) * 2
}

impl Figure {
    fn note(&mut self, now: Time, by: &Consumer, amount: u64) {
        if let Some(word) = self.words.iter_mut().find(|word| word.by == *by) {
            let since = if word.amount == amount { word.since } else { now };
            *word = Word { amount, since, last: now, ..word.clone() };
            return;
        }
        if self.words.len() >= MOST_WORDS
            && let Some(silent) = (0..self.words.len()).min_by_key(|place| self.words[*place].last)
        {
            self.words.swap_remove(silent);
        }
        self.words.push(Word { by: by.clone(), amount, since: now, last: now });
    }

    /// The amount that is believed now.
    fn believed(&self, now: Time, two_windows: Duration) -> u64 {
        let others = self.words.iter().filter(|word| word.last > self.since && word.amount != self.amount);
        let binding = others.filter(|word| self.binds_all(word, now, two_windows)).map(|word| word.amount);
        let (lower, higher): (Vec<u64>, Vec<u64>) = binding.partition(|amount| *amount < self.amount);
        // The lower wins. Of several the one that is closest to what was believed: the others have fewer witnesses.
        lower.into_iter().max().or(higher.into_iter().min()).unwrap_or(self.amount)
    }

    /// Whether what this workload was told holds for all.
    fn binds_all(&self, word: &Word, now: Time, two_windows: Duration) -> bool {
        let lowers = word.amount < self.amount;
        let confirms = |other: &Word| match lowers {
            true => other.amount <= word.amount,
            false => other.amount >= word.amount,
        };
        let newer = || self.words.iter().filter(|other| other.last > self.since);
        let witnesses = newer().filter(|other| confirms(other)).count();
        let told_first =
            newer().filter(|other| confirms(other)).map(|other| other.since).min().unwrap_or(now);
        // Who has been silent since it was first told says nothing against it.
        let against = newer().filter(|other| !confirms(other) && other.last > told_first).count();
        let long = word.since + two_windows <= now && against == 0;
        match lowers {
            true => self.words.len() == 1 || witnesses >= 2 || long,
            false => witnesses >= 2 && against < 2 || long,
        }
    }

    /// Who was told what is believed: the one that was told it first.
    fn first_witness(&self) -> Option<&Consumer> {
        let told = self.words.iter().filter(|word| word.amount == self.amount);
        told.min_by_key(|word| word.since).map(|word| &word.by)
    }

    /// How many workloads were told what is believed.
    fn witnesses(&self) -> u32 {
        let count = self.words.iter().filter(|word| word.amount == self.amount).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
