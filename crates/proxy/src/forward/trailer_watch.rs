//! Rejections in the trailers of a gRPC answer, which may come without a message, or after some.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use quotakeeper_dialects::Head;
use quotakeeper_dialects::grpc::is_grpc;
use quotakeeper_engine::event::CallClass;

use super::stream_watch::StreamRejection;
use crate::account::Account;

/// Watches for the trailers of one answer.
pub(super) struct TrailerWatch {
    account: Arc<Account>,
    class: CallClass,
    headers: HeaderMap,
}

impl TrailerWatch {
    /// A watch for an answer with this head; `None` where it is not gRPC's.
    pub(super) fn new(
        account: &Arc<Account>,
        class: &CallClass,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let account = Arc::clone(account);
        let watch = || Self { account, class: class.clone(), headers: headers.clone() };
        (status.is_success() && is_grpc(headers)).then(watch)
    }

    /// The rejection that the head says of an answer without messages.
    pub(super) fn of_head(&self) -> Option<StreamRejection> {
        self.rejection(&self.headers)
    }

    /// The rejection that the trailers say.
    pub(super) fn rejection(&self, trailers: &HeaderMap) -> Option<StreamRejection> {
        let endpoint = self.class.endpoint.as_deref();
        let head = Head { status: StatusCode::OK, headers: &self.headers, endpoint };
        let (status, reading) =
            self.account.profile.rejection_in_trailers(head, trailers, Timestamp::now())?;
        StreamRejection::new(status, reading, &self.account, &self.class)
    }
}
