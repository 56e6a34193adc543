//! A network that breaks: carries bytes between a proxy and a limiter, and cuts every connection on demand.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::world::free;

#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    cut: Arc<Notify>,
}

impl Relay {
    pub async fn start(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind(free()).await.unwrap();
        let (address, cut) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let cuts = Arc::clone(&cut);
        tokio::spawn(async move {
            loop {
                let Ok((mut near, _)) = listener.accept().await else { continue };
                let cuts = Arc::clone(&cuts);
                tokio::spawn(async move {
                    let cut = cuts.notified();
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Relay { address, cut }
    }

    /// Cuts all connections, wherever in a message they are.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }
}
