//! Looks: how one more call would fare, asked of the limiter.

use std::collections::BTreeMap;
use std::time::Duration;

use quotakeeper_engine::Outlook;
use quotakeeper_engine::event::CallClass;
use quotakeeper_wire::message::AccountIndex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::AdmissionClient;

/// Looks within a second: one at each quota of a pod that has as many as it may. The limiter answers no more of a session.
const MOST: u32 = 64;
/// How long the limiter has to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why there is no outlook.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoOutlook {
    #[error("at most {MOST} looks a second are answered; ask less often")]
    TooOften,
    #[error("the limiter can't be reached; calls wait until it can")]
    Disconnected,
    #[error("the limiter has not answered within {} s; it may be busy, or older than this proxy", PATIENCE.as_secs())]
    Unanswered,
}

/// The looks that wait for their answers.
#[derive(Debug, Default)]
pub(super) struct Looks {
    waiting: BTreeMap<u64, oneshot::Sender<String>>,
    since: Option<Instant>,
    count: u32,
}

impl Looks {
    pub(super) fn answer(&mut self, look: u64, document: String) {
        if let Some(asker) = self.waiting.remove(&look) {
            // Whoever asked may have gone.
            let _gone = asker.send(document);
        }
    }

    fn admit(&mut self) -> bool {
        let begun = self.since.filter(|since| since.elapsed() < Duration::from_secs(1));
        if begun.is_none() {
            (self.since, self.count) = (Some(Instant::now()), 0);
        }
        self.count += 1;
        self.count <= MOST
    }
}

impl AdmissionClient {
    /// How one more call of this class would fare.
    ///
    /// # Errors
    /// [`NoOutlook`].
    pub(crate) async fn look(&self, account: AccountIndex, class: CallClass) -> Result<Outlook, NoOutlook> {
        let (asker, answer) = oneshot::channel();
        let look = {
            let mut inner = self.shared.inner();
            inner.looks.waiting.retain(|_, asker| !asker.is_closed());
            if !inner.looks.admit() {
                return Err(NoOutlook::TooOften);
            }
            let look = inner.session.look(account, class).ok_or(NoOutlook::Disconnected)?;
            inner.looks.waiting.insert(look, asker);
            look
        };
        self.shared.changed.notify_one();
        let answered = timeout(PATIENCE, answer).await;
        self.shared.inner().looks.waiting.remove(&look);
        let document = answered.ok().and_then(Result::ok).ok_or(NoOutlook::Unanswered)?;
        serde_json::from_str(&document).map_err(|_| NoOutlook::Unanswered)
    }
}
