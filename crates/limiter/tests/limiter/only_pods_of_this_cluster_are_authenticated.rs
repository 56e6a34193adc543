//! A session is opened by a token of a pod that exists, for this limiter, and by nothing else.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::runtime::watcher::Event;
use quotakeeper_limiter::auth::Authenticator;
use quotakeeper_limiter::auth::pods::Pods;
use quotakeeper_limiter::auth::token::BoundPod;
use quotakeeper_transport::{Authenticate, PodIdentity, Unauthenticated};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Key, base64, claims, injected, object, uid, unix_seconds};

fn authenticator(cluster: &Cluster) -> (Authenticator<Cluster>, Pods) {
    let pods = Pods::default();
    pods.apply(Event::Apply(object("sales", "enrich-1")));
    (Authenticator::new(cluster.clone(), pods.clone()), pods)
}

fn enrich_1() -> PodIdentity {
    PodIdentity {
        namespace: "sales".to_owned(),
        pod: "enrich-1".to_owned(),
        uid: uid("enrich-1"),
        service_account: "runner".to_owned(),
        consumer: "sales/Job/enrich-1".into(),
        labels: injected(),
    }
}

fn bound() -> BoundPod {
    let PodIdentity { namespace, pod, uid, service_account, .. } = enrich_1();
    BoundPod { namespace, pod, uid, service_account }
}

#[tokio::test]
async fn a_pods_token_is_checked_without_a_request_each_time() {
    for key in [Key::rsa("one"), Key::ecdsa("one")] {
        let cluster = Cluster::new(key);
        let (authenticator, _) = authenticator(&cluster);
        let token = cluster.token("sales", "enrich-1");
        for _ in 0..100 {
            assert_eq!(authenticator.authenticate(&token).await, Ok(enrich_1()));
        }
        assert_eq!((cluster.keys_asked.load(Ordering::Relaxed), cluster.reviews()), (1, 0));
    }
}

fn changed(changes: Value) -> Value {
    let mut claims = claims("sales", "enrich-1");
    json_patch::merge(&mut claims, &changes);
    claims
}

#[tokio::test]
async fn hostile_tokens_are_refused_without_a_request() {
    let cluster = Cluster::new(Key::rsa("one"));
    let (authenticator, _) = authenticator(&cluster);
    let good = cluster.token("sales", "enrich-1");
    let parts: Vec<&str> = good.split('.').collect();
    let header = |header: Value| base64(header.to_string());
    // HMAC keyed by what everybody knows: the public key, as its modulus.
    let modulus = cluster.key.public()["n"].as_str().unwrap().to_owned();
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, modulus.as_bytes());
    let message = format!("{}.{}", header(json!({"alg": "HS256", "kid": "one"})), parts[1]);
    let keyed = format!("{message}.{}", base64(ring::hmac::sign(&secret, message.as_bytes())));
    let other = Key::ecdsa("one");
    let now = unix_seconds();
    let cases = [
        ("nothing signed", format!("{}.{}.", header(json!({"alg": "none", "kid": "one"})), parts[1])),
        ("HS256 with the public key", keyed),
        ("another's key under the same id", other.sign(&claims("sales", "enrich-1"))),
        (
            "a signature of other claims",
            format!("{}.{}.{}", parts[0], base64(claims("sales", "enrich-2").to_string()), parts[2]),
        ),
        ("no key id", format!("{}.{}.{}", header(json!({"alg": "RS256"})), parts[1], parts[2])),
        ("no token", "rubbish".to_owned()),
        ("empty", String::new()),
        (
            "for the API server",
            cluster.key.sign(&changed(json!({"aud": ["https://kubernetes.default.svc"]}))),
        ),
        ("for nobody", cluster.key.sign(&changed(json!({"aud": null})))),
        ("of another cluster", cluster.key.sign(&changed(json!({"iss": "https://elsewhere"})))),
        ("expired", cluster.key.sign(&changed(json!({"exp": now - 60})))),
        ("without an end", cluster.key.sign(&changed(json!({"exp": null})))),
        ("with a text for an end", cluster.key.sign(&changed(json!({"exp": "never"})))),
        ("not valid yet", cluster.key.sign(&changed(json!({"nbf": now + 600})))),
        ("with a text for a beginning", cluster.key.sign(&changed(json!({"nbf": "soon"})))),
        ("of a ServiceAccount alone", cluster.key.sign(&changed(json!({"kubernetes.io": {"pod": null}})))),
        ("without Kubernetes' claims", cluster.key.sign(&changed(json!({"kubernetes.io": null})))),
    ];
    for (what, token) in cases {
        let refused = authenticator.authenticate(&token).await;
        let Err(Unauthenticated::Refused(sentence)) = &refused else {
            panic!("{what}: {refused:?}");
        };
        assert!(token.is_empty() || !sentence.contains(&token), "{what}: {sentence}");
    }
    assert_eq!(cluster.reviews(), 0);
    assert_eq!(authenticator.authenticate(&good).await, Ok(enrich_1()));
}

#[tokio::test]
async fn an_unseen_pod_is_looked_up_and_a_deleted_one_refused() {
    let cluster = Cluster::new(Key::ecdsa("one"));
    let (authenticator, pods) = authenticator(&cluster);
    let token = cluster.token("sales", "enrich-1");
    pods.apply(Event::Delete(object("sales", "enrich-1")));
    let refused = authenticator.authenticate(&token).await;
    assert!(matches!(refused, Err(Unauthenticated::Refused(_))), "{refused:?}");

    cluster.vouch(&token, "system:serviceaccount:sales:runner", Some(bound()));
    assert_eq!(authenticator.authenticate(&token).await, Ok(enrich_1()));
    assert_eq!(cluster.reviews(), 2);
}

/// The limiter watches injected pods: of another it would never hear that it is gone.
#[tokio::test]
async fn a_pod_that_was_not_injected_is_refused() {
    let cluster = Cluster::new(Key::ecdsa("one"));
    let (authenticator, _) = authenticator(&cluster);
    let token = cluster.token("sales", "plain-1");
    let bound = BoundPod { pod: "plain-1".to_owned(), uid: uid("plain-1"), ..bound() };
    cluster.vouch(&token, "system:serviceaccount:sales:runner", Some(bound));
    let refused = authenticator.authenticate(&token).await;
    assert!(
        matches!(&refused, Err(Unauthenticated::Refused(why)) if why.contains("not injected")),
        "{refused:?}"
    );
}

/// It has a token that the cluster has signed, and tries again and again.
#[tokio::test(start_paused = true)]
async fn a_pod_that_was_not_injected_delays_no_review_of_others() {
    let cluster = Cluster::new(Key::ecdsa("one"));
    let (authenticator, pods) = authenticator(&cluster);
    let plain = cluster.token("sales", "plain-1");
    let of_plain = BoundPod { pod: "plain-1".to_owned(), uid: uid("plain-1"), ..bound() };
    cluster.vouch(&plain, "system:serviceaccount:sales:runner", Some(of_plain));
    for _ in 0..300 {
        let refused = authenticator.authenticate(&plain).await;
        assert!(matches!(&refused, Err(Unauthenticated::Refused(why)) if why.contains("not injected")));
    }
    assert_eq!(cluster.reviews(), 1);
    let token = cluster.token("sales", "enrich-1");
    cluster.vouch(&token, "system:serviceaccount:sales:runner", Some(bound()));
    pods.apply(Event::Delete(object("sales", "enrich-1")));
    assert_eq!(authenticator.authenticate(&token).await, Ok(enrich_1()), "it is not seen yet");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(authenticator.authenticate(&plain).await.is_err());
    assert_eq!(cluster.reviews(), 3, "after a while the API server is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_fetched_but_unknown_keys_cause_few_requests() {
    let cluster = Cluster::new(Key::ecdsa("one"));
    let (authenticator, _) = authenticator(&cluster);
    assert!(authenticator.authenticate(&cluster.token("sales", "enrich-1")).await.is_ok());

    let new = Key::ecdsa("two");
    cluster.publish(new.public());
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    let token = new.sign(&claims("sales", "enrich-1"));
    assert_eq!(authenticator.authenticate(&token).await, Ok(enrich_1()));
    assert_eq!((cluster.keys_asked.load(Ordering::Relaxed), cluster.reviews()), (2, 0));

    // Somebody makes up keys.
    let mut unavailable = 0;
    for made_up in 0..1000 {
        let token = Key::ecdsa(&format!("made-up-{made_up}")).sign(&claims("sales", "enrich-1"));
        match authenticator.authenticate(&token).await {
            Err(Unauthenticated::Unavailable(_)) => unavailable += 1,
            Err(Unauthenticated::Refused(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(cluster.reviews() <= 250, "{} reviews", cluster.reviews());
    assert!(unavailable >= 700, "{unavailable}");
    assert!(cluster.keys_asked.load(Ordering::Relaxed) <= 3);
    // Pods are checked as before.
    assert_eq!(authenticator.authenticate(&token).await, Ok(enrich_1()));
}
