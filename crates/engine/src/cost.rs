//! What a call draws of the limits that cover it: an amount of each unit.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

use crate::config::Unit;
use crate::event::CallClass;
use crate::token_costs::TokenCosts;
use crate::tokens::CallSize;

/// An amount of the unit that a limit counts. Sums stop at the largest amount and differences at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);
    /// A single unit.
    pub const ONE: Amount = Amount(1);

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The difference, unless `other` is more.
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).map(Amount)
    }
}

impl Unit {
    /// An amount of this unit for people: `3000 tokens`, `$0.0125`.
    pub fn figure(self, amount: Amount) -> String {
        let Amount(amount) = amount;
        match self {
            Unit::Requests | Unit::ConcurrentRequests => format!("{amount} requests"),
            Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens => format!("{amount} tokens"),
            Unit::Credits => format!("{amount} credits"),
            Unit::Dollars => {
                let decimals = format!("{:09}", amount % 1_000_000_000);
                let decimals = format!("{:0<2}", decimals.trim_end_matches('0'));
                format!("${}.{decimals}", amount / 1_000_000_000)
            }
        }
    }
}

impl Add for Amount {
    type Output = Amount;
    fn add(self, rhs: Amount) -> Amount {
        Amount(self.0.saturating_add(rhs.0))
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, rhs: Amount) {
        *self = *self + rhs;
    }
}

impl Sub for Amount {
    type Output = Amount;
    fn sub(self, rhs: Amount) -> Amount {
        Amount(self.0.saturating_sub(rhs.0))
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, rhs: Amount) {
        *self = *self - rhs;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Add::add)
    }
}

/// What a call draws of each unit. By default it is one request and one of those under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// Of limits of [`Unit::Requests`].
    pub requests: Amount,
    /// Of limits of [`Unit::ConcurrentRequests`].
    pub concurrent_requests: Amount,
    /// Of limits of [`Unit::Credits`].
    #[serde(default)]
    pub credits: Amount,
    /// What is known of its tokens; `None`: no limit of the account counts any.
    pub tokens: Option<TokenCosts>,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs { requests: Amount::ONE, concurrent_requests: Amount::ONE, credits: Amount::ZERO, tokens: None }
    }
}

/// Costs with a number that no other costs have, so that what follows from them need be worked out but once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberedCosts {
    costs: Costs,
    number: CostsNumber,
}

/// The number of costs; 0: of a single request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CostsNumber(u64);

/// Numbers costs as they come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CostsNumbers(CostsNumber);

impl CostsNumbers {
    /// These costs with a number of their own.
    pub(crate) fn number(&mut self, costs: Costs) -> NumberedCosts {
        if costs.are_usual() {
            return NumberedCosts::usual();
        }
        self.0.0 += 1;
        NumberedCosts { costs, number: self.0 }
    }
}

impl NumberedCosts {
    /// Those of a single request.
    pub(crate) fn usual() -> NumberedCosts {
        NumberedCosts { costs: Costs::default(), number: CostsNumber::default() }
    }

    pub(crate) fn number(&self) -> CostsNumber {
        self.number
    }
}

impl std::ops::Deref for NumberedCosts {
    type Target = Costs;
    fn deref(&self) -> &Costs {
        &self.costs
    }
}

impl Costs {
    /// Whether it is a single request.
    pub(crate) fn are_usual(&self) -> bool {
        self.tokens.is_none() && *self == Costs::default()
    }

    /// What it draws of this unit, whatever the limit; of tokens that depends on the limit.
    pub fn of(&self, unit: Unit) -> Amount {
        match unit {
            Unit::Requests => self.requests,
            Unit::ConcurrentRequests => self.concurrent_requests,
            Unit::Credits => self.credits,
            Unit::InputTokens | Unit::OutputTokens | Unit::TotalTokens | Unit::Dollars => Amount::ZERO,
        }
    }
}

/// What a call wants: which limits it draws on, and how much of each. The amounts are no part of the class, by which
/// calls share a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// What decides which limits cover it.
    pub class: CallClass,
    /// What it draws of limits that count calls.
    pub costs: Costs,
    /// What its tokens are estimated from; `None`: nothing is known of it.
    pub size: Option<CallSize>,
}

impl From<CallClass> for Demand {
    /// A single call of the class.
    fn from(class: CallClass) -> Demand {
        Demand { class, costs: Costs::default(), size: None }
    }
}
