//! The check of a ServiceAccount token by published keys: signature, issuer, audience, validity, and the
//! pod that it is bound to.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use quotakeeper_wire::bootstrap::AUDIENCE;
use serde::Deserialize;

use super::keys::Keys;

/// The tolerated difference between the API server's clock and this one, in seconds.
const LEEWAY: u64 = 10;

/// The error for valid tokens that are bound to no pod.
pub(super) const NOT_A_PODS: &str = "the token is bound to no pod; mount a projected ServiceAccount token";

/// Why a token opens no session by these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It names a key that is unknown or can't be used here: perhaps a new one.
    UnknownKey,
    /// It is wrong, as a sentence for the proxy's log.
    Refused(String),
}

/// The pod that a token is bound to (KEP 1205).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID, which no later pod of the same name has.
    pub uid: String,
    /// The ServiceAccount that it runs as.
    pub service_account: String,
}

/// The claims of Kubernetes in a token (KEP 1205, bound tokens).
#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    pod: Option<Named>,
    serviceaccount: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

impl Keys {
    /// Checks a token, and returns the pod that it is bound to. The pod may not exist any more.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn check(&self, token: &str) -> Result<BoundPod, Rejected> {
        let Some(Bound { namespace, pod: Some(pod), serviceaccount }) = self.claims(token)?.kubernetes else {
            return Err(Rejected::Refused(NOT_A_PODS.to_owned()));
        };
        let Named { name, uid } = pod;
        Ok(BoundPod { namespace, pod: name, uid, service_account: serviceaccount.name })
    }

    /// Checks a token, and returns the user that it is made for: `system:serviceaccount:NAMESPACE:NAME`.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn user(&self, token: &str) -> Result<String, Rejected> {
        Ok(self.claims(token)?.sub)
    }

    fn claims(&self, token: &str) -> Result<Claims, Rejected> {
        let refused = |why: &str| Rejected::Refused(why.to_owned());
        let no_token = || refused("the token is no signed ServiceAccount token; mount a projected one");
        // An algorithm that is not known may be that of a key that can't be used.
        let header = decode_header(token)
            .map_err(|_| if self.incomplete { Rejected::UnknownKey } else { no_token() })?;
        let id = header.kid.ok_or_else(no_token)?;
        let (algorithm, key) = self.keys.get(&id).ok_or(Rejected::UnknownKey)?;
        let mut rules = Validation::new(*algorithm);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        rules.set_audience(&[AUDIENCE]);
        rules.set_issuer(&[&self.issuer]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        Ok(decode(token, key, &rules).map_err(|error| rejection(error.kind()))?.claims)
    }
}

fn rejection(kind: &ErrorKind) -> Rejected {
    Rejected::Refused(match kind {
        ErrorKind::ExpiredSignature => {
            "the token has expired; the kubelet renews it, so look at the node's clock".to_owned()
        }
        ErrorKind::ImmatureSignature => "the token is not valid yet; look at the node's clock".to_owned(),
        ErrorKind::InvalidAudience => {
            format!("the token is for others; project one with the audience {AUDIENCE}")
        }
        ErrorKind::InvalidIssuer => {
            "the token is another cluster's; use one of the limiter's cluster".to_owned()
        }
        ErrorKind::MissingRequiredClaim(claim) => {
            format!("the token has no valid claim {claim:?}; mount a projected ServiceAccount token")
        }
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => {
            "the token's signature is not the cluster's; use a token of the limiter's cluster".to_owned()
        }
        _ => "the token can't be decoded; mount a projected ServiceAccount token".to_owned(),
    })
}
