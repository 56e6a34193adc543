//! The operator as a process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;
use test_support::ports::free_port;

use crate::NEEDS;

/// A replica of the operator.
pub struct Replica {
    pub name: &'static str,
    pub webhook: u16,
    process: Child,
    metrics: String,
}

impl Replica {
    pub fn start(name: &'static str, limiter: &str) -> Replica {
        let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("quotakeeper");
        assert!(program.exists(), "{} is not built; run {NEEDS}", program.display());
        let token = std::env::temp_dir().join("quotakeeper-operator-test-token");
        std::fs::write(&token, "the operator's token").unwrap();
        let (webhook, metrics) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let process = Command::new(program)
            .args(["operator", "--namespace", "quotakeeper", "--identity", name])
            .args(["--webhook-listen", &format!("127.0.0.1:{webhook}"), "--metrics", &metrics])
            .args(["--limiter", &format!("https://{limiter}"), "--token-file", token.to_str().unwrap()])
            .args(["--proxy-image", "localhost/quotakeeper-proxy:1"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Replica { name, webhook, process, metrics }
    }

    /// What an address of its probes answers.
    pub fn probe(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(&self.metrics) else { return String::new() };
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub fn is_ready(&self) -> bool {
        self.probe("/readyz").starts_with("HTTP/1.1 200")
    }

    /// The certificate that its webhook presents, to a client that trusts these CAs and knows it by its Service.
    pub fn presents(&self, cas: &str) -> Option<Vec<u8>> {
        let config = quotakeeper_transport::tls::client_config(cas).unwrap();
        let name = ServerName::try_from("quotakeeper-webhook.quotakeeper.svc").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", self.webhook)).ok()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).ok()?;
        }
        connection.peer_certificates()?.first().map(|leaf| leaf.to_vec())
    }

    /// Ends it as a kubelet does, by SIGTERM; when its webhook was last seen to answer.
    pub fn end(&mut self, cas: &str) -> Option<Timestamp> {
        let ended = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(ended.success());
        let mut answered = None;
        while self.process.try_wait().unwrap().is_none() {
            let now = Timestamp::now();
            answered = self.presents(cas).map(|_| now).or(answered);
        }
        answered
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An entry of a Secret, or another field of bytes, as text.
pub fn text(bytes: &Value) -> Option<String> {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(bytes.clone()).ok()?;
    String::from_utf8(bytes.0).ok()
}
