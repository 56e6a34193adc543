//! A client by base URL that follows a redirect or the link to the next page comes through the proxy again.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::{client, limiter, world};

#[tokio::test(flavor = "multi_thread")]
async fn redirects_and_links_to_the_provider_lead_to_the_proxy() {
    let (listener, url) = world::socket().await;
    let own = url.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let own = own.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let answer = http::Response::builder();
                let answer = match request.uri().path() {
                    "/relative" => answer.status(307).header("location", "/there?a=b"),
                    "/absolute" => answer.status(308).header("location", format!("{own}/there")),
                    "/elsewhere" => answer.status(302).header("location", "https://files.example.com/x"),
                    "/pages" => answer.header(
                        "link",
                        format!("<{own}/pages?page=2>; rel=\"next\", <https://a.example/>; rel=\"x\""),
                    ),
                    _ => answer.header("x-there", "1"),
                };
                let answer = answer.body(Empty::<Bytes>::new()).unwrap();
                async move {
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
        }
    });
    let quota = world::plenty();
    let settings = world::settings(vec![world::account("demo", Some(url), quota.clone())]);
    let (proxy, peer) = world::start(settings).await;
    limiter::engine(peer, vec![quota]);
    let address = proxy.base_url_addr();
    let base = format!("http://{address}");
    let get = |path: &str| {
        let mut request = client::request("GET", path, "");
        request.headers_mut().insert("host", address.to_string().parse().unwrap());
        client::send(address, request)
    };
    for (path, location) in [
        ("/demo/relative", "/demo/there?a=b".to_owned()),
        ("/demo/absolute", format!("{base}/demo/there")),
        ("/demo/elsewhere", "https://files.example.com/x".to_owned()),
    ] {
        let got = get(path).await;
        let found = got.header("location").unwrap();
        assert_eq!(found, location, "{path}");
        if !found.starts_with("https:") {
            let followed = get(found.strip_prefix(&base).unwrap_or(found)).await;
            assert_eq!(followed.header("x-there"), Some("1"), "{path} is followed through the proxy");
        }
    }
    let links = format!("<{base}/demo/pages?page=2>; rel=\"next\", <https://a.example/>; rel=\"x\"");
    assert_eq!(get("/demo/pages").await.header("link"), Some(&links[..]));
}
