//! A client of one request, that trusts one CA.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A connection that has agreed on TLS.
pub async fn connect(address: SocketAddr, ca: String) -> Result<TlsStream<TcpStream>, Failed> {
    connect_from(Ipv4Addr::LOCALHOST.into(), address, ca).await
}

/// The same from this address.
pub async fn connect_from(
    from: IpAddr,
    address: SocketAddr,
    ca: String,
) -> Result<TlsStream<TcpStream>, Failed> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(address).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

pub async fn send(
    address: SocketAddr,
    ca: &str,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<Answer, Failed> {
    let stream = connect(address, ca.to_owned()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "webhook");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes().to_vec();
    Ok(Answer { status, body })
}
