//! Ready connections by origin: reused newest first, made when none is idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connect::{ConnectError, Connected, Connector};
use super::{Origin, Protocols, Ready, http1, http2};
use crate::resolve::Resolver;
use crate::trust::Trust;

/// Bounds of the pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolSettings {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a connection stays open without use; an earlier time that the provider announces wins.
    pub idle: Duration,
    /// The most idle connections of one origin.
    pub idle_connections: usize,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(20), idle_connections: 256 }
    }
}

/// All connections of a proxy.
pub struct Upstreams {
    connector: Arc<Connector>,
    settings: PoolSettings,
    pools: Mutex<HashMap<(Origin, Protocols), Arc<Pool>>>,
}

/// The connections of one origin.
pub(super) struct Pool {
    settings: PoolSettings,
    /// The most recently used last: the others may grow old and go.
    idle: Mutex<Vec<http1::Connection>>,
    shared: Mutex<Vec<http2::Shared>>,
    /// Held while a connection is made that others may share, so that one is made and not a hundred.
    making: Arc<tokio::sync::Mutex<()>>,
}

impl Upstreams {
    /// No connection yet.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new(resolver: Resolver, trust: &Trust, settings: PoolSettings) -> Result<Self, rustls::Error> {
        let connector = Arc::new(Connector::new(resolver, trust, settings.connect)?);
        Ok(Self { connector, settings, pools: Mutex::default() })
    }

    /// A connection that is ready now. When the caller gives up waiting, the connection is made all the same
    /// and kept for the next one.
    ///
    /// # Errors
    /// [`ConnectError`] when none can be made.
    pub async fn ready(&self, origin: &Origin, protocols: Protocols) -> Result<Ready, ConnectError> {
        let pool = self.pool(origin, protocols);
        if let Some(ready) = pool.take() {
            return Ok(ready);
        }
        let making = match protocols {
            Protocols::Http1 => None,
            Protocols::Http2First => {
                let held = Arc::clone(&pool.making).lock_owned().await;
                if let Some(ready) = pool.take() {
                    return Ok(ready);
                }
                Some(held)
            }
        };
        let (deliver, made) = oneshot::channel();
        let (connector, origin) = (Arc::clone(&self.connector), origin.clone());
        let unmade = ConnectError::Timeout { origin: origin.clone(), after: self.settings.connect };
        tokio::spawn(async move {
            let _held = making;
            let ready = match connector.connect(&origin, protocols).await {
                Ok(connected) => Ok(pool.welcome(connected)),
                Err(error) => Err(error),
            };
            if let Err(Ok(Ready::Http1(connection))) = deliver.send(ready) {
                pool.put(connection);
            }
        });
        // The sender is dropped unsent only when the runtime stops.
        made.await.unwrap_or(Err(unmade))
    }

    fn pool(&self, origin: &Origin, protocols: Protocols) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (origin.clone(), protocols);
        Arc::clone(pools.entry(key).or_insert_with(|| Arc::new(Pool::new(self.settings))))
    }
}

impl Pool {
    fn new(settings: PoolSettings) -> Self {
        Self { settings, idle: Mutex::default(), shared: Mutex::default(), making: Arc::default() }
    }

    fn take(self: &Arc<Self>) -> Option<Ready> {
        let mut shared = self.shared();
        shared.retain(http2::Shared::is_open);
        if let Some(slot) = shared.iter().find_map(http2::Shared::slot) {
            return Some(Ready::Http2(slot));
        }
        drop(shared);
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|connection| connection.is_fresh(now, self.settings.idle));
        idle.pop().map(Ready::Http1)
    }

    fn welcome(self: &Arc<Self>, connected: Connected) -> Ready {
        match connected {
            Connected::Http1(connection) => Ready::Http1(connection.at_home_in(self)),
            Connected::Http2(connection) => {
                let slot = connection.first_slot();
                self.shared().push(connection);
                Ready::Http2(slot)
            }
        }
    }

    /// Returns a connection to the pool.
    pub(super) fn put(&self, connection: http1::Connection) {
        let mut idle = self.idle();
        if idle.len() < self.settings.idle_connections {
            idle.push(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<http1::Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<http2::Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
