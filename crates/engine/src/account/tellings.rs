//! How often proxies are told of pauses: each telling goes to every session, so one session's reports must not make many.

use std::time::Duration;

use crate::time::Time;

/// Tellings at once, …
const BURST: u32 = 100;
/// … and the time after which there may be one more.
const EVERY: Duration = Duration::from_millis(50);

/// The tellings of an account. Calls are held by the engine, so that whoever is not told of a pause obeys it all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tellings {
    left: u32,
    counted: Time,
}

impl Default for Tellings {
    fn default() -> Tellings {
        Tellings { left: BURST, counted: Time(0) }
    }
}

impl Tellings {
    /// Whether there may be another now.
    pub(super) fn admit(&mut self, now: Time) -> bool {
        let more = now.since(self.counted).as_nanos() / EVERY.as_nanos();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(more).min(BURST);
            self.counted = now;
        }
        let admitted = self.left > 0;
        self.left -= u32::from(admitted);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_twenty_a_second() {
        let (mut tellings, begin) = (Tellings::default(), Time(0) + EVERY * 100);
        let admitted = |tellings: &mut Tellings, at: Time| (0..1000).filter(|_| tellings.admit(at)).count();
        assert_eq!(admitted(&mut tellings, begin), BURST as usize);
        assert_eq!(admitted(&mut tellings, begin + Duration::from_secs(1)), 20);
        assert_eq!(admitted(&mut tellings, begin + Duration::from_secs(100)), BURST as usize);
    }
}
