//! What a person says was used already: `--used LIMIT=AMOUNT`.

use std::str::FromStr;
use std::time::Duration;

use anyhow::ensure;
use jiff::Timestamp;
use quotakeeper_engine::config::{NANODOLLARS, Unit};
use quotakeeper_wire::account::{CompiledAccount, StatedUse};

/// Calls of an earlier run that were under way when it ended have been counted by then; a person can't see them, so
/// the statement covers them too.
const COUNTED_BY: Duration = Duration::from_secs(10);

/// A value of `--used`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedArgument {
    quota: Option<String>,
    limit: String,
    amount: u64,
}

impl FromStr for UsedArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<UsedArgument, String> {
        let wrong = || "give LIMIT=AMOUNT, such as daily=120000, or QUOTA:LIMIT=AMOUNT".to_owned();
        let (limit, amount) = text.rsplit_once('=').ok_or_else(wrong)?;
        let amount = amount.parse().map_err(|_| wrong())?;
        let (quota, limit) = match limit.split_once(':') {
            Some((quota, limit)) => (Some(quota.to_owned()), limit),
            None => (None, limit),
        };
        Ok(UsedArgument { quota, limit: limit.to_owned(), amount })
    }
}

/// Puts what is stated into the accounts that have the limit.
///
/// # Errors
/// A limit that no account has, or several.
pub fn apply(used: &[UsedArgument], accounts: &mut [CompiledAccount], now: Timestamp) -> anyhow::Result<()> {
    for UsedArgument { quota, limit, amount } in used {
        let names: Vec<String> = accounts
            .iter()
            .flat_map(|account| {
                account.engine.limits.iter().map(|limit| format!("{}:{}", account.quota, limit.name))
            })
            .collect();
        let named =
            |account: &CompiledAccount| quota.as_ref().is_none_or(|quota| account.quota == quota.as_str());
        let mut having: Vec<&mut CompiledAccount> =
            accounts.iter_mut().filter(|account| named(account) && account.engine.has_limit(limit)).collect();
        let wrong = match having.len() {
            0 => format!("no quota has the limit {limit}"),
            _ => format!("several quotas have a limit {limit}"),
        };
        ensure!(having.len() == 1, "--used {limit}={amount}: {wrong}; name one of {}", names.join(", "));
        let at = now.saturating_add(COUNTED_BY)?;
        having.iter_mut().for_each(|account| {
            let dollars =
                account.engine.limits.iter().any(|it| it.name == *limit && it.unit == Unit::Dollars);
            let amount = amount.saturating_mul(if dollars { NANODOLLARS } else { 1 });
            account.used.push(StatedUse { limit: limit.clone(), amount, at });
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_limit_may_be_named_with_its_quota() {
        let read = |text: &str| text.parse::<UsedArgument>();
        let daily = |quota: Option<&str>| UsedArgument {
            quota: quota.map(str::to_owned),
            limit: "daily".to_owned(),
            amount: 120_000,
        };
        assert_eq!(read("daily=120000").unwrap(), daily(None));
        assert_eq!(read("crm:daily=120000").unwrap(), daily(Some("crm")));
        for wrong in ["daily", "daily=", "daily=many", "daily=-1"] {
            assert!(read(wrong).unwrap_err().contains("daily=120000"), "{wrong}");
        }
    }
}
