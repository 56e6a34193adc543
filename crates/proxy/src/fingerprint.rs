//! Fingerprints of credentials and organisations: equal for equal ones in all proxies of an installation, and
//! useless to anyone without the installation's key.

use quotakeeper_engine::event::Fingerprint;
use quotakeeper_wire::message::FingerprintKey;
use ring::hmac;

/// The fingerprint of a secret or a name by this key; 0, "not known", where there is none of either.
pub(crate) fn fingerprint(key: Option<FingerprintKey>, text: Option<&[u8]>) -> Fingerprint {
    let (Some(key), Some(text)) = (key, text) else { return Fingerprint::default() };
    let digest = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), text);
    let number = digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    Fingerprint(number.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_the_key_and_the_text_alone() {
        let [one, two] = [1, 2].map(|byte| Some(FingerprintKey([byte; 32])));
        let of = |key, text: &[u8]| fingerprint(key, Some(text));
        assert_eq!(of(one, b"sk-one"), of(one, b"sk-one"));
        assert_ne!(of(one, b"sk-one"), of(one, b"sk-two"));
        assert_ne!(of(one, b"sk-one"), of(two, b"sk-one"));
        assert_eq!([of(None, b"sk-one"), fingerprint(one, None)], [Fingerprint(0); 2], "not known");
    }
}
