//! Figures in words, for people.

use std::time::Duration;

use quotakeeper_api::words::used_of;
use quotakeeper_engine::LimitStatus;

/// A duration: one decimal below ten seconds, the two largest units above two minutes.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, unit: &str, small: u64, below: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {below}"),
    };
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// A limit's name, with the model where models are counted apart.
pub fn limit_name(limit: &LimitStatus) -> String {
    limit.model.as_ref().map_or_else(|| limit.name.clone(), |model| format!("{} ({model})", limit.name))
}

/// How much of a limit is used, without what is only assumed: `349/500`, of tokens and money `1.2M of 2.0M`.
pub fn limit_use(limit: &LimitStatus) -> String {
    let used = limit.used.saturating_sub(limit.assumed).min(limit.amount);
    match limit.unit.counts_tokens() {
        true => used_of(limit.unit, used, limit.amount),
        false => format!("{used}/{}", limit.amount),
    }
}

/// A count and what is counted, in the singular or the plural.
pub fn count(count: u64, one: &str, several: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {several}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let told = |millis: u64| duration(Duration::from_millis(millis));
        assert_eq!(told(900), "0.9 s");
        assert_eq!(told(59_999), "59 s");
        assert_eq!(told(864_000), "14 min 24 s");
        assert_eq!(told(7_200_000), "2 h");
        assert_eq!(told(90_000_000), "1 d 1 h");
    }
}
