//! The control port: JSON over cleartext HTTP, one path for each order and each question (see the crate's first page).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::counting::Limit;
use crate::force::Force;
use crate::rules::{AfterHangUp, Rules};
use crate::shared::Shared;
use crate::tokens::OutputTokens;

const LARGEST_ORDER: usize = 4 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RulesOrder {
    account: String,
    limits: Option<Vec<Limit>>,
    rejected_counts: Option<bool>,
    answer_millis: Option<u64>,
    stream_millis: Option<u64>,
    most_under_way: Option<u64>,
    output_tokens: Option<OutputTokens>,
    tokens_per_chunk: Option<u64>,
    after_hang_up: Option<AfterHangUp>,
}

impl RulesOrder {
    fn rules(self) -> Rules {
        Rules {
            limits: self.limits,
            rejected_counts: self.rejected_counts,
            answer_millis: self.answer_millis,
            stream_millis: self.stream_millis,
            most_under_way: self.most_under_way,
            output_tokens: self.output_tokens,
            tokens_per_chunk: self.tokens_per_chunk,
            after_hang_up: self.after_hang_up,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SlowOrder {
    account: String,
    answer_millis: Option<u64>,
    stream_millis: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DownOrder {
    for_millis: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResetOrder {
    account: Option<String>,
}

/// Serves a connection to the control port.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    // A client that breaks off has its answer or doesn't want it.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST_ORDER).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return refuse(StatusCode::BAD_REQUEST, &format!("the order can't be read: {error}"));
        }
    };
    let account =
        head.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("account=")));
    let account = account.filter(|name| !name.is_empty());
    let outcome = match (&head.method, head.uri.path()) {
        (&Method::GET, "/ca") => {
            return respond(StatusCode::OK, "application/x-pem-file", shared.ca_pem.clone());
        }
        (&Method::GET, "/log") => return log(shared, account),
        (&Method::GET, "/summary") => match account {
            Some(account) => Ok(json!(shared.book().summary(account))),
            None => Err("name the account: /summary?account=KEY".to_owned()),
        },
        (&Method::GET, "/stalls") => Ok(json!(shared.stalls.all())),
        (&Method::GET, "/accounts") => {
            let row = |(account, provider, requests)| json!({"account": account, "provider": provider, "requests": requests});
            Ok(shared.book().accounts().into_iter().map(row).collect())
        }
        (&Method::POST, path) => order(shared, path, &body),
        (_, path) => {
            Err(format!("there is no {} {path}; see --help for the control port's paths", head.method))
        }
    };
    match outcome {
        Ok(value) => respond(StatusCode::OK, "application/json", value.to_string()),
        Err(message) => refuse(StatusCode::BAD_REQUEST, &message),
    }
}

fn order(shared: &Shared, path: &str, body: &[u8]) -> Result<Value, String> {
    match path {
        "/rules" => {
            let order: RulesOrder = parse(body)?;
            let account = order.account.clone();
            let rules = order.rules();
            rules.check().map_err(|error| error.to_string())?;
            shared.book().set_rules(&account, rules);
        }
        "/slow" => {
            let SlowOrder { account, answer_millis, stream_millis } = parse(body)?;
            shared.book().set_rules(&account, Rules { answer_millis, stream_millis, ..Rules::default() });
        }
        "/force" => {
            let force: Force = parse(body)?;
            force.check().map_err(|error| error.to_string())?;
            let now = shared.now();
            shared.book().force(force, now);
        }
        "/down" => shared.down(Duration::from_millis(parse::<DownOrder>(body)?.for_millis)),
        "/reset" => {
            let order = if body.is_empty() { ResetOrder::default() } else { parse(body)? };
            shared.book().reset(order.account.as_deref());
        }
        _ => {
            return Err(format!("there is no POST {path}; see --help for the control port's paths"));
        }
    }
    Ok(json!({"done": true}))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the order can't be read: {error}"))
}

fn log(shared: &Shared, account: Option<&str>) -> Response<Full<Bytes>> {
    let entries = shared.book().log(account);
    let lines: String = entries.iter().map(|entry| format!("{}\n", json!(entry))).collect();
    respond(StatusCode::OK, "application/jsonl", lines)
}

fn refuse(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    respond(status, "application/json", json!({"error": message}).to_string())
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}
