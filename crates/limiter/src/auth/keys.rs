//! The keys that the cluster publishes, parsed.

use std::collections::BTreeMap;
use std::str::FromStr;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::cluster_api::Published;
use super::ring;

/// An issuer and its keys.
pub struct Keys {
    pub(super) issuer: String,
    /// By their ids, each for its one algorithm: a token does not choose how it is checked.
    pub(super) keys: BTreeMap<String, (Algorithm, DecodingKey)>,
    /// There are keys that can't be used here.
    pub(super) incomplete: bool,
}

impl Keys {
    /// Reads what is published. Keys of unknown kinds are skipped.
    ///
    /// # Errors
    /// When it is no JSON Web Key Set, as a sentence.
    pub fn read(published: &Published) -> Result<Keys, String> {
        ring::install();
        let set: Value =
            serde_json::from_str(&published.jwks).map_err(|error| format!("the keys: {error}"))?;
        let list = set.get("keys").and_then(Value::as_array).ok_or("the keys: there is no list `keys`")?;
        let mut keys = Keys { issuer: published.issuer.clone(), keys: BTreeMap::new(), incomplete: false };
        for key in list {
            match usable(key) {
                Some((id, algorithm, key)) => drop(keys.keys.insert(id, (algorithm, key))),
                None => keys.incomplete = true,
            }
        }
        Ok(keys)
    }
}

fn usable(key: &Value) -> Option<(String, Algorithm, DecodingKey)> {
    let key: Jwk = serde_json::from_value(key.clone()).ok()?;
    if !matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = match (&key.common.key_algorithm, &key.algorithm) {
        (Some(named), _) => Algorithm::from_str(&named.to_string()).ok()?,
        (None, AlgorithmParameters::RSA(_)) => Algorithm::RS256,
        (None, AlgorithmParameters::EllipticCurve(curve)) => match curve.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            EllipticCurve::P384 => Algorithm::ES384,
            _ => return None,
        },
        _ => return None,
    };
    if !ring::supports(algorithm) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&key).ok()?;
    Some((key.common.key_id?, algorithm, decoding))
}
