//! Which scopes of pauses and rejections cover the calls of a lane.

use std::sync::Arc;

use super::{Lanes, Limit};
use crate::event::{Scope, Selector};
use crate::queue::LaneId;

impl Lanes {
    /// Whether a pause of this scope holds the lane's calls.
    pub(in crate::account) fn covers(&self, lane: LaneId, scope: &Scope) -> bool {
        let limit = scope.limit.as_ref().and_then(|name| self.limit_named(name));
        let class = self.class_of(lane);
        scope.endpoint.covers(class.endpoint.as_deref())
            && self.covers_model(&scope.model, class)
            && limit.is_none_or(|limit| self.lane(lane).limits.contains(&limit.place))
    }

    fn limit_named(&self, name: &str) -> Option<&Arc<Limit>> {
        self.limits.iter().find(|limit| limit.config.name == name)
    }

    /// The scope of a rejection of the lane's calls, which may name less than what the provider counts together:
    /// a limit that counts models apart rejects calls of one model alone.
    pub(in crate::account) fn counted_scope(&self, lane: LaneId, scope: Scope) -> Scope {
        let class = self.class_of(lane);
        let limit = scope.limit.as_ref().and_then(|name| self.limit_named(name));
        let of_one_model = limit.is_some_and(|limit| limit.config.per_model);
        let endpoint = match scope.endpoint {
            Selector::Named(name) => Selector::Named(self.counted_endpoint(&name).to_owned()),
            other => other,
        };
        let scope = Scope { endpoint, ..scope };
        match scope.model {
            Selector::Any if !of_one_model => scope,
            // As it is counted: beyond many models the others are one, and so are those that share a limit.
            Selector::Any | Selector::Named(_) => Scope { model: self.model_counted(class), ..scope },
            Selector::Unnamed => scope,
        }
    }
}
