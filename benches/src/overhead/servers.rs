//! The processes between which calls travel. Each is ended when its value is dropped.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use super::load::Target;

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(60);

/// No limit at the provider: what is measured is the way to it. A stream has an event in a millisecond.
const RULES: &str = r#"{"accounts": {"bench": {"limits": [], "streamMillis": 1}}}"#;

/// What is called.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// The provider's name.
    pub provider: &'static str,
    /// Its host, which the provider of the benchmark answers for.
    pub host: &'static str,
    /// The path there.
    pub path: &'static str,
    /// What each call sends.
    pub body: &'static str,
}

/// A way that calls can take.
pub trait Server {
    /// Where calls enter it.
    fn target(&self) -> Target;
    /// The process of the proxy, if there is one.
    fn proxy(&self) -> Option<u32>;
}

/// A process that ends with its value.
struct Process(Child);

impl Process {
    fn start(name: &str, command: &mut Command, room: &Path) -> anyhow::Result<Process> {
        let log = room.join(format!("{name}.log"));
        let errors = File::create(&log).with_context(|| format!("{} can't be written", log.display()))?;
        let child = command.stderr(errors).spawn();
        let program = command.get_program().to_string_lossy();
        Ok(Process(child.with_context(|| format!("{program} can't be started; use `make bench`"))?))
    }

    /// Waits until `ready` has something; an end or a long silence is told with what was said.
    fn wait<T>(&mut self, name: &str, room: &Path, ready: impl Fn() -> Option<T>) -> anyhow::Result<T> {
        let end = Instant::now() + START;
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            let said = || fs::read_to_string(room.join(format!("{name}.log"))).unwrap_or_default();
            if let Some(status) = self.0.try_wait()? {
                bail!("{name} ended with {status}: {}", said());
            }
            ensure!(Instant::now() < end, "{name} was not ready after {START:?}: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The counting provider.
pub struct Provider {
    _process: Process,
    address: SocketAddr,
    authority: PathBuf,
    tls: Arc<ClientConfig>,
    api: Api,
}

#[derive(Deserialize)]
struct Ready {
    https: SocketAddr,
}

impl Provider {
    /// Starts it with TLS.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(binaries: &Path, room: &Path, api: Api) -> anyhow::Result<Provider> {
        let (rules, ready) = (room.join("rules.json"), room.join("provider.json"));
        let authority = room.join("provider-ca.pem");
        fs::write(&rules, RULES)?;
        let mut command = Command::new(binaries.join("counting-provider"));
        command.args(["--https", "127.0.0.1:0", "--rules"]).arg(&rules).stdout(Stdio::null());
        command.arg("--ready").arg(&ready).arg("--ca-out").arg(&authority);
        let mut process = Process::start("counting-provider", &mut command, room)?;
        let text = process.wait("counting-provider", room, || fs::read_to_string(&ready).ok())?;
        let Ready { https: address } = serde_json::from_str(&text).context("the provider's addresses")?;
        let tls = trusting(&authority)?;
        Ok(Provider { _process: process, address, authority, tls, api })
    }
}

impl Server for Provider {
    fn target(&self) -> Target {
        let Api { host, path, body, .. } = self.api;
        let tls = Some(Arc::clone(&self.tls));
        Target { address: self.address, tls, host: host.to_owned(), path: path.to_owned(), body }
    }

    fn proxy(&self) -> Option<u32> {
        None
    }
}

fn trusting(authority: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// `quotakeeper run` around a command that waits.
pub struct Wrapped {
    process: Process,
    address: SocketAddr,
    api: Api,
}

impl Wrapped {
    /// Starts it in front of the provider, in a folder of its own, with a quota of this file.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        binaries: &Path,
        room: &Path,
        provider: &Provider,
        quota_yaml: &str,
    ) -> anyhow::Result<Wrapped> {
        fs::create_dir_all(room)?;
        let (quota, api) = (room.join("quota.yaml"), provider.api);
        fs::write(&quota, quota_yaml)?;
        let address = free_address()?;
        let mut command = Command::new(binaries.join("quotakeeper"));
        command.arg("run").arg("-f").arg(&quota).arg("--listen").arg(address.to_string());
        command.arg("--resolve").arg(format!("{}:443:{}", api.host, provider.address));
        command.arg("--upstream-ca").arg(&provider.authority).args(["--progress", "off", "--hosts", "off"]);
        command.arg("--state").arg(room.join("state"));
        // It ends when its input does.
        command.args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut process = Process::start("quotakeeper", &mut command, room)?;
        process.wait("quotakeeper", room, || TcpStream::connect(address).ok())?;
        Ok(Wrapped { process, address, api })
    }

    /// Lets the command end, and the run with it.
    ///
    /// # Errors
    /// When the run did not end well.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.process.0.stdin.take());
        let status = self.process.0.wait()?;
        ensure!(status.success(), "quotakeeper run ended with {status}");
        Ok(())
    }
}

impl Server for Wrapped {
    fn target(&self) -> Target {
        let (host, path) = (self.address.to_string(), format!("/{}{}", self.api.provider, self.api.path));
        Target { address: self.address, tls: None, host, path, body: self.api.body }
    }

    fn proxy(&self) -> Option<u32> {
        Some(self.process.0.id())
    }
}

/// nginx as a plain reverse proxy.
pub struct Nginx {
    process: Process,
    address: SocketAddr,
    api: Api,
}

impl Nginx {
    /// Starts it in front of the provider: no log, connections kept on both sides, the provider's
    /// certificate verified, as many workers as cores.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: &Path, room: &Path, provider: &Provider) -> anyhow::Result<Nginx> {
        let address = free_address()?;
        let file = room.join("nginx.conf");
        fs::write(&file, configuration(room, address, provider))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(room).args(["-e", "stderr"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Process::start("nginx", &mut command, room)?;
        process.wait("nginx", room, || TcpStream::connect(address).ok())?;
        Ok(Nginx { process, address, api: provider.api })
    }
}

fn configuration(room: &Path, address: SocketAddr, provider: &Provider) -> String {
    let (room, upstream, authority) = (room.display(), provider.address, provider.authority.display());
    let host = provider.api.host;
    format!(
        "daemon off;
pid {room}/nginx.pid;
worker_processes auto;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {room}/nginx-body;
  proxy_temp_path {room}/nginx-proxy;
  fastcgi_temp_path {room}/nginx-fastcgi;
  uwsgi_temp_path {room}/nginx-uwsgi;
  scgi_temp_path {room}/nginx-scgi;
  upstream provider {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen {address};
    keepalive_requests 100000000;
    location / {{
      proxy_pass https://provider;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_set_header Connection \"\";
      proxy_set_header Host {host};
      proxy_ssl_name {host};
      proxy_ssl_server_name on;
      proxy_ssl_protocols TLSv1.2 TLSv1.3;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {authority};
    }}
  }}
}}
"
    )
}

impl Server for Nginx {
    fn target(&self) -> Target {
        let (host, path) = (self.address.to_string(), self.api.path.to_owned());
        Target { address: self.address, tls: None, host, path, body: self.api.body }
    }

    fn proxy(&self) -> Option<u32> {
        Some(self.process.0.id())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A master that is killed leaves its workers behind; one that is asked takes them along.
        let asked = Command::new("kill").arg("-TERM").arg(self.process.0.id().to_string()).status();
        if asked.is_ok_and(|status| status.success()) {
            let _ = self.process.0.wait();
        }
    }
}

/// Taken and given back: another program may take it meanwhile, which the start would then tell.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
