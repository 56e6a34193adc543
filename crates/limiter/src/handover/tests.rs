#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use jiff::Timestamp;
use quotakeeper_limiter_core::Configuration;
use quotakeeper_transport::tls::{self, Identity};
use quotakeeper_transport::{Authenticate, PodIdentity, Unauthenticated, serve};
use test_support::certificates::Ca;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::door::Began;
use crate::epoch::Change;
use crate::task::Limiter;
use crate::watches::server_name;

const EPOCH: Epoch = Epoch(7);

struct Nobody;

impl Authenticate for Nobody {
    async fn authenticate(&self, _token: &str) -> Result<PodIdentity, Unauthenticated> {
        Err(Unauthenticated::Missing)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(server_name("quotakeeper")).unwrap()
}

/// An active limiter whose certificate is of this CA, and where it hands over.
struct Active {
    address: SocketAddr,
    giver: Giver,
    desk: Desk,
    _server: AbortOnDropHandle<()>,
}

async fn active(ca: &Ca) -> Active {
    let (own, name) = (ca.issue(&server_name("quotakeeper")), server_name("quotakeeper"));
    let own = Identity { chain_pem: &own.certificate, key_pem: &own.key };
    let config = tls::server_config_beside_others(own, &ca.pem(), &name).unwrap();
    let (giver, desk) = desk();
    let limiter = Limiter::builder(Configuration::default()).start().unwrap();
    let door = Door::default();
    let began = Began { change: Change::First, at: Timestamp::now(), desk: desk.clone() };
    door.turn(Role::Active(limiter, began));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, tls) = watch::channel(config);
    let handovers = Handovers { door: door.clone() };
    let server = serve(
        listener,
        tls,
        Nobody,
        door,
        (handovers, quotakeeper_listen::ClosedConnections::default()),
        CancellationToken::new(),
    );
    Active { address, giver, desk, _server: AbortOnDropHandle::new(tokio::spawn(server)) }
}

/// With which one connects that trusts `ca`, and shows a certificate of `by` for this name.
fn showing(ca: &Ca, by: &Ca, name: &str) -> Arc<ClientConfig> {
    let own = by.issue(name);
    let own = Identity { chain_pem: &own.certificate, key_pem: &own.key };
    tls::client_config_of_a_limiter(own, &ca.pem()).unwrap()
}

fn handover() -> Handover {
    Handover {
        epoch: EPOCH,
        sent: machine_time(),
        since: EPOCH,
        lost: None,
        records: Default::default(),
        unreadable: Default::default(),
        deleted_pods: Default::default(),
    }
}

#[tokio::test]
async fn a_limiter_of_the_same_installation_gets_the_state() {
    let ca = Ca::new();
    let Active { address, giver, desk, _server } = active(&ca).await;
    let offers = Offers::default();
    let config = showing(&ca, &ca, &server_name("quotakeeper"));
    let waits = tokio::spawn({
        let offers = offers.clone();
        async move { receive(address, config, name(), &offers).await }
    });
    while desk.waiting() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(giver.is_awaited());
    assert!(giver.give(&handover()).await, "it says that it has it");
    waits.await.unwrap().unwrap();
    assert_eq!(offers.epoch(), Some(EPOCH.0));
}

/// Each is refused at once, counts as no standby, and is given nothing.
#[tokio::test]
async fn a_stranger_gets_nothing() {
    let (ca, other_ca) = (Ca::new(), Ca::new());
    let Active { address, giver, desk, _server } = active(&ca).await;
    let offers = Offers::default();
    let without = receive(address, tls::client_config(&ca.pem()).unwrap(), name(), &offers).await;
    assert!(matches!(without, Err(NotReceived::Refused(StatusCode::FORBIDDEN))), "{without:?}");
    let limiters = server_name("quotakeeper");
    let strangers = [
        ("the webhook", showing(&ca, &ca, "quotakeeper-webhook.quotakeeper.svc")),
        ("a limiter of another namespace", showing(&ca, &ca, &server_name("elsewhere"))),
        ("a limiter of another installation", showing(&ca, &other_ca, &limiters)),
    ];
    for (who, config) in strangers {
        let refused = receive(address, config, name(), &offers).await;
        assert!(matches!(refused, Err(NotReceived::Connect(_) | NotReceived::Http(_))), "{who}: {refused:?}");
    }
    assert_eq!(desk.waiting(), 0);
    assert!(!giver.is_awaited());
    assert!(!giver.give(&handover()).await);
    assert_eq!(offers.epoch(), None);
}
