//! What the webhook serves in tests.

use std::sync::Arc;

use quotakeeper_inject::tls::server_config;
use rustls::ServerConfig;
use test_support::certificates::Ca;

/// Serves a new certificate for `127.0.0.1`.
pub fn serving(ca: &Ca) -> Arc<ServerConfig> {
    let leaf = ca.issue("127.0.0.1");
    server_config(leaf.certificate.as_bytes(), leaf.key.as_bytes()).unwrap()
}
