//! What peers find at the limiter's address: the active limiter, or one on standby that names the active one.

use std::net::SocketAddr;

use jiff::Timestamp;
use quotakeeper_transport::{Accept, Accepted, NotAccepted, PodIdentity};
use tokio::sync::watch;

use crate::epoch::Change;
use crate::handover::{Desk, desk};
use crate::task::{Inbox, Limiter};

/// Whether this process is the active limiter.
#[derive(Clone, Default)]
pub enum Role {
    /// It is not.
    #[default]
    Starting,
    /// Another is, or none.
    Standby {
        /// Where the active one is, as far as that is known.
        active: Option<SocketAddr>,
    },
    /// It is.
    Active(Limiter, Began),
}

/// How a limiter has become active.
#[derive(Clone)]
pub struct Began {
    /// From what it began.
    pub change: Change,
    /// When, by the API server's clock.
    pub at: Timestamp,
    /// Where it hands over when it ends.
    pub desk: Desk,
}

/// The role of this process, for its server, probes and metrics.
#[derive(Clone, Default)]
pub struct Door {
    role: watch::Sender<Role>,
}

impl Door {
    /// Of a process that is active from the beginning to the end.
    pub fn of(limiter: Limiter) -> Door {
        let door = Door::default();
        let began = Began { change: Change::First, at: Timestamp::now(), desk: desk().1 };
        door.turn(Role::Active(limiter, began));
        door
    }

    /// The process has this role from now on.
    pub fn turn(&self, role: Role) {
        self.role.send_if_modified(|before| {
            let same = match (&*before, &role) {
                (Role::Standby { active: before }, Role::Standby { active }) => before == active,
                _ => false,
            };
            *before = role;
            !same
        });
    }

    /// The role, from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// The limiter, if it is active.
    pub fn limiter(&self) -> Option<Limiter> {
        Some(self.both().ok()?.0)
    }

    /// How it has become active, if it is.
    pub fn began(&self) -> Option<Began> {
        Some(self.both().ok()?.1)
    }

    /// Whether another is active, or none.
    pub fn is_on_standby(&self) -> bool {
        matches!(*self.role.borrow(), Role::Standby { .. })
    }

    /// The limiter, else why there is none here.
    ///
    /// # Errors
    /// Where the active one is.
    pub fn active(&self) -> Result<Limiter, NotAccepted> {
        Ok(self.both()?.0)
    }

    /// Where the limiter hands over, else why there is none here.
    ///
    /// # Errors
    /// Where the active one is.
    pub fn desk(&self) -> Result<Desk, NotAccepted> {
        Ok(self.both()?.1.desk)
    }

    fn both(&self) -> Result<(Limiter, Began), NotAccepted> {
        match &*self.role.borrow() {
            Role::Active(limiter, began) => Ok((limiter.clone(), began.clone())),
            Role::Starting => Err(NotAccepted::Standby { active: None }),
            Role::Standby { active } => Err(NotAccepted::Standby { active: *active }),
        }
    }
}

impl Accept for Door {
    type Inbox = Inbox;

    async fn accept(&self, pod: PodIdentity) -> Result<Accepted<Inbox>, NotAccepted> {
        self.active()?.accept(pod).await
    }
}
