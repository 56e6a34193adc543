//! Which limiter a session is with: all that may be active are tried at once, and the first that accepts is the one.
//!
//! A limiter on standby says so, names the active one and is asked again a moment later, because it may be the next. So a
//! session begins anew without DNS, without a Service's choice among its pods, and although the limiter of the last one
//! stands still and answers nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use super::session::{Opened, Why, open as open_session};
use super::{Connector, Dial};

/// After this time a limiter on standby is asked again, …
const AGAIN: Duration = Duration::from_millis(250);
/// … and after twice as long each further time, up to this: each time costs it a handshake.
const AGAIN_AT_MOST: Duration = Duration::from_secs(1);
/// After this time without a session, the addresses of the endpoint are tried once more, beside what is under way, …
const SILENT: Duration = Duration::from_secs(1);
/// … while fewer attempts than this are under way.
const AT_ONCE: usize = 8;
/// How many limiters are remembered.
const REMEMBERED: usize = 4;

/// The limiters that have been met lately, the last one at the end.
#[derive(Debug, Default)]
pub(super) struct Limiters(Vec<SocketAddr>);

impl Limiters {
    fn meet(&mut self, limiter: SocketAddr) {
        self.0.retain(|known| *known != limiter);
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(limiter);
    }
}

/// Opens a session with one of the limiters of the endpoint, of those that are named on the way, and of those that have
/// been met.
///
/// # Errors
/// Why none has accepted one within `patience`.
pub(super) async fn open<D: Dial>(
    connector: &Connector<D>,
    limiters: &mut Limiters,
    patience: Duration,
) -> Result<Opened, Why> {
    let (mut now, until) = (Instant::now(), Instant::now() + patience);
    let mut lookup = pin!(connector.dial.addresses(&connector.address));
    let (mut found, mut known, mut standby) = (None::<Vec<_>>, BTreeSet::new(), None);
    let (mut why, mut opening) = (None, FuturesUnordered::new());
    let attempt = |limiter: SocketAddr, after: Duration| async move {
        sleep(after).await;
        (limiter, after, open_session(connector, limiter).await)
    };
    let mut named = limiters.0.clone();
    loop {
        for limiter in named.drain(..) {
            if known.insert(limiter) {
                opening.push(attempt(limiter, Duration::ZERO));
            }
        }
        tokio::select! {
            addresses = lookup.as_mut(), if found.is_none() => {
                named = addresses.unwrap_or_else(|error| {
                    why.get_or_insert(Why::Connect(error));
                    Vec::new()
                });
                found = Some(named.clone());
            }
            Some((limiter, after, opened)) = opening.next(), if !opening.is_empty() => match opened {
                Ok(opened) => {
                    limiters.meet(limiter);
                    return Ok(opened);
                }
                Err(failed) => match failed.standby() {
                    Some(active) => {
                        limiters.meet(limiter);
                        standby = Some(failed);
                        opening.push(attempt(limiter, (after * 2).clamp(AGAIN, AGAIN_AT_MOST)));
                        named.extend(active);
                    }
                    None => drop(why.get_or_insert(failed)),
                },
            },
            // Behind an address may be several, one of which says nothing.
            () = sleep_until(now + SILENT), if !opening.is_empty() && opening.len() < AT_ONCE => {
                now = Instant::now();
                opening.extend(found.iter().flatten().map(|limiter| attempt(*limiter, Duration::ZERO)));
            }
            () = sleep_until(until), if !opening.is_empty() || found.is_none() => return Err(standby.or(why).unwrap_or(Why::Late(patience))),
            else => return Err(why.unwrap_or(Why::Connect(io::ErrorKind::AddrNotAvailable.into()))),
        }
    }
}
