//! A way to a server that can be cut, as a network that is partitioned: bytes that were sent meanwhile arrive later.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// It ends with its runtime.
#[derive(Clone)]
pub struct Link {
    pub address: SocketAddr,
    cut: Arc<watch::Sender<bool>>,
}

impl Link {
    /// To this server, from an address of its own.
    pub async fn to(server: SocketAddr) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server, is_cut.clone()));
            }
        });
        Link { address, cut: Arc::new(cut) }
    }

    /// Nothing passes from now on, or everything does.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut cut: watch::Receiver<bool>) {
    if cut.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(carry(from_client, to_server, cut.clone()), carry(from_server, to_client, cut));
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let uncut = cut.wait_for(|cut| !cut).await.is_ok();
        if read == 0 || !uncut || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // Fails if the other end is gone.
    let _ = to.shutdown().await;
}
