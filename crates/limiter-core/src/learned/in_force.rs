//! The tier that fits what answers tell, and the limits that follow from it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quotakeeper_dialects::Profile;
use quotakeeper_dialects::profile::HeaderFormat;
use quotakeeper_engine::config::LimitConfig;
use quotakeeper_engine::time::Time;
use quotakeeper_wire::account::CompiledAccount;
use quotakeeper_wire::tier::{LearnedTier, TierBasis, TierLimits, ToldLimit, UndeclaredTier};

use super::{LearnedLimits, Subject};

/// What is told of so many limits is shown.
const MOST_SHOWN: usize = 16;

/// The tier whose limits are in force where answers tell nothing else.
pub(super) struct Chosen<'t> {
    pub(super) tier: &'t TierLimits,
    pub(super) basis: TierBasis,
}

impl LearnedLimits {
    /// An account as it is in force with what was learned of it.
    pub(crate) fn in_force(&self, compiled: &CompiledAccount) -> CompiledAccount {
        let mut account = compiled.clone();
        let Some(undeclared) = &compiled.undeclared else { return account };
        if let Some(Chosen { tier, .. }) = self.choose(undeclared, &compiled.profile) {
            account.tier.clone_from(&tier.name);
            account.not_enforced.clone_from(&tier.not_enforced);
            account.engine.limits = self.limits(undeclared, tier);
        }
        account.engine.assumed = undeclared.told_by_answers && self.awaits_answer();
        account
    }

    /// What is known of an account's limits, for people; none where a tier is declared.
    /// `showed`: what the wall clock showed at a time.
    pub(crate) fn report(
        &self,
        compiled: &CompiledAccount,
        showed: impl Fn(Time) -> Timestamp,
    ) -> Option<LearnedTier> {
        let undeclared = compiled.undeclared.as_ref()?;
        let Chosen { tier, basis } = self.choose(undeclared, &compiled.profile)?;
        let told = |(subject, figure): (&Subject, &super::Figure)| ToldLimit {
            limit: subject.limit.clone(),
            model: subject.model.clone(),
            amount: figure.amount,
            header: header_of(&compiled.profile, &subject.limit),
            workloads: figure.witnesses(),
            by: figure.first_witness().cloned(),
            since: Some(showed(figure.since)),
        };
        // Those that are enforced first: the tier follows from them.
        let enforced = |subject: &Subject| tier.limits.iter().any(|limit| limit.name == subject.limit);
        let (first, rest): (Vec<_>, Vec<_>) = self.figures.iter().partition(|(subject, _)| enforced(subject));
        let told = first.into_iter().chain(rest).map(told).take(MOST_SHOWN).collect();
        let limits = self.limits(undeclared, tier);
        Some(LearnedTier { basis, tier: tier.name.clone(), told, limits })
    }

    /// The lowest of the tiers that have exactly what is told of the limits that count calls; of those one that has
    /// the other figures too, if there is one: those of tokens differ by model. Where none fits: the lowest of all.
    pub(super) fn choose<'t>(&self, undeclared: &'t UndeclaredTier, profile: &Profile) -> Option<Chosen<'t>> {
        let lowest = undeclared.tiers.first()?;
        let told = self.amounts(undeclared);
        let all = || undeclared.tiers.iter().flat_map(|tier| &tier.limits);
        let enforced = |limit: &str| all().any(|known| known.name == limit);
        let of_calls = |limit: &str| all().any(|known| known.name == limit && !known.unit.counts_tokens());
        let fits = |tier: &&TierLimits, calls: bool| {
            let mut told = told.iter().filter(|(limit, _)| of_calls(limit) == calls);
            let amount = |limit: &str| Some(profile.tier(&tier.name).ok()?.limit(limit)?.amount);
            told.all(|(limit, told)| amount(limit).is_some_and(|amount| told.contains(&amount)))
        };
        let exact: Vec<&TierLimits> = undeclared.tiers.iter().filter(|tier| fits(tier, true)).collect();
        let best = exact.iter().copied().find(|tier| fits(tier, false));
        let first = exact.first().copied().filter(|_| told.keys().any(|limit| of_calls(limit)));
        Some(match best.or(first) {
            _ if told.is_empty() => Chosen { tier: lowest, basis: TierBasis::Assumed },
            Some(tier) => Chosen { tier, basis: TierBasis::Matched },
            None if told.keys().any(|limit| enforced(limit)) => {
                Chosen { tier: lowest, basis: TierBasis::Told }
            }
            None => Chosen { tier: lowest, basis: TierBasis::Assumed },
        })
    }

    /// The amounts that are told of each limit, of all of its models, without those that the quota declares itself.
    fn amounts(&self, undeclared: &UndeclaredTier) -> BTreeMap<&str, Vec<u64>> {
        let mut amounts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (subject, figure) in &self.figures {
            if !undeclared.declared.contains(&subject.limit) {
                amounts.entry(&subject.limit).or_default().push(figure.amount);
            }
        }
        amounts
    }

    /// A tier's limits, with what is told in their place. A limit that is told and that the tier lacks is as in the
    /// lowest tier that has it.
    pub(super) fn limits(&self, undeclared: &UndeclaredTier, tier: &TierLimits) -> Vec<LimitConfig> {
        let mut limits = tier.limits.clone();
        for (subject, figure) in &self.figures {
            if undeclared.declared.contains(&subject.limit) {
                continue;
            }
            let place = limits.iter().position(|limit| limit.name == subject.limit).or_else(|| {
                let mut all = undeclared.tiers.iter().flat_map(|tier| &tier.limits);
                limits.push(all.find(|limit| limit.name == subject.limit)?.clone());
                Some(limits.len() - 1)
            });
            let Some(limit) = place.and_then(|place| limits.get_mut(place)) else { continue };
            let told = undeclared.enforced(limit.unit, figure.amount);
            match &subject.model {
                None => (limit.amount, limit.declared) = (told.amount, told.declared),
                Some(model) if told != limit.amount_of(Some(model)) => {
                    limit.model_amounts.insert(model.clone(), told);
                }
                Some(_) => {}
            }
        }
        limits
    }
}

/// The response header that tells the amount of a limit.
fn header_of(profile: &Profile, limit: &str) -> String {
    let header = profile.headers.iter().find(|header| header.limit == limit && header.has_amount());
    let name = header.and_then(|header| match header.format() {
        HeaderFormat::Separate => header.hard.clone(),
        HeaderFormat::RateLimitFields => Some("ratelimit-policy".to_owned()),
        HeaderFormat::UsedOfLimit | HeaderFormat::KeyValues => header.header.clone(),
        HeaderFormat::Body => header.hard.clone(),
        HeaderFormat::Unknown => None,
    });
    name.unwrap_or_else(|| limit.to_owned())
}
