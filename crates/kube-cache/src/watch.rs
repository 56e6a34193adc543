//! The watch that fills a cache: it starts again by itself after a failure, with growing pauses.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, future};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watch_object, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use crate::cache::ObjectCache;
use crate::signal::Signal;

/// A cache, and the future that keeps it up to date for as long as it is polled.
///
/// `view` reads an object, as in [`ObjectCache::apply`].
pub fn watch<K, T, V>(
    api: Api<K>,
    config: Config,
    what: &'static str,
    signal: &Signal,
    view: V,
) -> (Arc<ObjectCache<T>>, impl Future<Output = ()> + Send + use<K, T, V>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Clone + PartialEq + Send + 'static,
    V: Fn(K, Option<&T>) -> Option<T> + Send + 'static,
{
    let cache = Arc::new(ObjectCache::new(what, signal.clone()));
    let filled = Arc::clone(&cache);
    let filling = async move {
        let mut events = pin!(events(api, config, what));
        while let Some(event) = events.next().await {
            filled.apply(event, &view);
        }
    };
    (cache, filling)
}

/// The events of a watch, without end. Failures are logged: a new one as a warning, a repeated one at
/// level `debug`.
pub fn events<K>(api: Api<K>, config: Config, what: &'static str) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    logged(watcher(api, config).default_backoff(), what)
}

/// The states of the object `name`, without end; none: there is no such object. Failures are logged as
/// those of [`events`].
pub fn object<K>(api: Api<K>, name: &str, what: &'static str) -> impl Stream<Item = Option<K>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    logged(watch_object(api, name).default_backoff(), what)
}

fn logged<T: Send>(
    stream: impl Stream<Item = watcher::Result<T>> + Send,
    what: &'static str,
) -> impl Stream<Item = T> + Send {
    let mut logged = String::new();
    stream.filter_map(move |event| {
        let event = event.map_err(|error| {
            let error = error.to_string();
            if error == logged {
                debug!(what, error, "the watch still fails");
            } else {
                warn!(what, error, "the watch is interrupted; trying again");
                logged = error;
            }
        });
        future::ready(event.ok())
    })
}

/// All objects of a custom resource, undecoded. Watch custom resources this way, and decode in the view:
/// one object that can't be decoded would stop a typed watch of all others.
pub fn undecoded<K: Resource<DynamicType = ()>>(client: Client) -> Api<DynamicObject> {
    Api::all_with(client, &ApiResource::erase::<K>(&()))
}
