//! Many connections of one peer that says little.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections of another loopback address than the test's own.
pub struct Crowd {
    connections: Vec<TcpStream>,
}

impl Crowd {
    /// So many connections to `address`, each of which sends `words` and nothing more.
    pub async fn of(count: usize, address: SocketAddr, words: &[u8]) -> Crowd {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
            let mut connection = socket.connect(address).await.unwrap();
            // One that was closed meanwhile is counted below.
            let _ = connection.write_all(words).await;
            connections.push(connection);
        }
        Crowd { connections }
    }

    /// How many the server has closed.
    pub fn closed(&self) -> usize {
        let ended = |connection: &&TcpStream| match connection.try_read(&mut [0; 64]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        self.connections.iter().filter(ended).count()
    }

    /// Waits until the server has closed all of them.
    pub async fn is_gone(self) {
        for mut connection in self.connections {
            let mut rest = Vec::new();
            // A reset is an end, too.
            let _ = connection.read_to_end(&mut rest).await;
        }
    }
}
