//! The use of a limit's windows, in percent of what each allows; the first and the last are left out, as they may be cut.

/// Of all of them, the fuller half of them and the emptiest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Used {
    pub all: f64,
    /// At least one. A machine that stands still empties windows, a limiter that grants too little empties all of them.
    pub fuller_half: f64,
    pub worst: f64,
}

/// `None` with fewer than three windows, and where nothing is allowed.
pub(crate) fn used(allowed: u64, windows: &[u64]) -> Option<Used> {
    let mut inner = windows.get(1..windows.len().checked_sub(1)?)?.to_vec();
    inner.sort_unstable_by(|a, b| b.cmp(a));
    let half = (inner.len() / 2).max(1);
    let percent = |windows: &[u64]| {
        let most = allowed * windows.len() as u64;
        (most > 0).then(|| 100.0 * windows.iter().sum::<u64>() as f64 / most as f64)
    };
    Some(Used {
        all: percent(&inner)?,
        fuller_half: percent(inner.get(..half)?)?,
        worst: percent(inner.get(inner.len().checked_sub(1)?..)?)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_outer_windows_are_left_out() {
        assert_eq!(used(2, &[2, 1, 0, 1]), Some(Used { all: 25.0, fuller_half: 50.0, worst: 0.0 }));
        assert_eq!(used(2, &[0, 2, 0]), Some(Used { all: 100.0, fuller_half: 100.0, worst: 100.0 }));
    }

    #[test]
    fn a_window_that_stood_still_is_in_no_fuller_half() {
        assert_eq!(used(10, &[9, 9, 1, 8, 9, 0, 9, 4]).unwrap().fuller_half, 90.0);
        assert_eq!(used(10, &[9, 1, 8, 9, 4]).unwrap().fuller_half, 90.0);
    }

    #[test]
    fn too_few_windows_have_no_percentage() {
        for windows in [&[][..], &[2], &[2, 2]] {
            assert_eq!(used(2, windows), None);
        }
        assert_eq!(used(0, &[0, 0, 0]), None);
    }
}
