//! For how long nothing was asked on a connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What is under way on one connection.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    under_way: usize,
    /// Since when nothing is.
    idle_since: Instant,
    asked: bool,
}

impl Activity {
    /// Of a connection that begins now.
    pub fn begins() -> Self {
        Self(Arc::new(Mutex::new(State { under_way: 0, idle_since: Instant::now(), asked: false })))
    }

    /// A request is under way until what is returned is dropped.
    #[must_use]
    pub fn request(&self) -> Busy {
        let mut state = self.state();
        state.under_way += 1;
        state.asked = true;
        Busy(self.clone())
    }

    /// Waits until nothing was asked for `first` since the connection began, or for `later` since the last answer.
    pub async fn idle(&self, first: Duration, later: Duration) {
        loop {
            let (idle, ends) = {
                let state = self.state();
                let bound = if state.asked { later } else { first };
                let since = if state.under_way == 0 { state.idle_since } else { Instant::now() };
                (state.under_way == 0, since + bound)
            };
            if idle && ends <= Instant::now() {
                return;
            }
            sleep_until(ends).await;
        }
    }

    /// Whether anything was asked.
    pub fn has_asked(&self) -> bool {
        self.state().asked
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.state().under_way == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
#[derive(Debug)]
pub struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(5);
    const LATER: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_idle_sooner() {
        let begun = Instant::now();
        Activity::begins().idle(FIRST, LATER).await;
        assert_eq!(begun.elapsed(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_from_its_last_answer() {
        let (begun, activity) = (Instant::now(), Activity::begins());
        let (one, other) = (activity.request(), activity.request());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(200)).await;
            drop(one);
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(other);
        });
        activity.idle(FIRST, LATER).await;
        assert!(begun.elapsed() >= Duration::from_secs(420), "{:?}", begun.elapsed());
        assert!(begun.elapsed() <= Duration::from_secs(540), "{:?}", begun.elapsed());
    }
}
