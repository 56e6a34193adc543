//! A ServiceAccount token's check by published keys: its signature, who it is from and for, when it
//! is valid, and which pod it is bound to.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use quotakeeper_wire::bootstrap::AUDIENCE;
use serde::Deserialize;

use super::keys::Keys;

/// How far the API server's clock and this one's may stand apart, in seconds.
const LEEWAY: u64 = 10;

/// Said of tokens that are valid and no pod's.
pub(super) const NOT_A_PODS: &str =
    "the token is bound to no pod; mount a projected ServiceAccount token instead of a made one";

/// Why a token opens no session by these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It names a key that is not among them, or can't be used here: perhaps a new one.
    UnknownKey,
    /// It is wrong, as a sentence for the proxy's log.
    Refused(String),
}

/// The pod that a token is bound to (KEP 1205), as the token says.
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

/// What a token says that matters here: the claims of Kubernetes (KEP 1205, bound tokens).
#[derive(Deserialize)]
struct Claims {
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
    /// Whose token it is. Whether that pod exists is not asked here.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn check(&self, token: &str) -> Result<BoundPod, Rejected> {
        let refused = |why: &str| Rejected::Refused(why.to_owned());
        let no_token = || refused("it is no signed ServiceAccount token; mount a projected one");
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
        let claims: Claims = decode(token, key, &rules).map_err(|error| told(error.kind()))?.claims;
        let Some(Bound { namespace, pod: Some(pod), serviceaccount }) = claims.kubernetes else {
            return Err(refused(NOT_A_PODS));
        };
        let Named { name, uid } = pod;
        Ok(BoundPod { namespace, pod: name, uid, service_account: serviceaccount.name })
    }
}

fn told(kind: &ErrorKind) -> Rejected {
    Rejected::Refused(match kind {
        ErrorKind::ExpiredSignature => {
            "the token has expired; the kubelet renews it, so look at the node's clock".to_owned()
        }
        ErrorKind::ImmatureSignature => "the token is not valid yet; look at the node's clock".to_owned(),
        ErrorKind::InvalidAudience => {
            format!("the token is for others; project one with the audience {AUDIENCE}")
        }
        ErrorKind::InvalidIssuer => "the token is another cluster's".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no valid claim {claim:?}"),
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => {
            "the token's signature is not the cluster's".to_owned()
        }
        _ => "the token can't be read".to_owned(),
    })
}
