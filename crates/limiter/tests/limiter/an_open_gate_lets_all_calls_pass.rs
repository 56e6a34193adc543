//! The gate: one switch that lets every call pass without limits, and that works while everything else is
//! being removed.

use jiff::Timestamp;
use quotakeeper_engine::config::Mode;
use quotakeeper_limiter::Configuration;
use quotakeeper_wire::account::CompiledAccount;
use test_support::wait::until;

use crate::proxy::Proxy;
use crate::world::{World, admitting, at_once, quota};

/// When the watch would close it.
const UNTIL: Timestamp = Timestamp::MAX;

fn gate(accounts: Vec<CompiledAccount>, open: bool) -> Configuration {
    let gate_open_until = open.then_some(UNTIL);
    Configuration { accounts, gate_open_until, ..Configuration::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_passes_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = vec![quota("gtm/openai", 5), admitting(quota("platform/hubspot", 5), &["platform"])];
    let world = World::start(folder.path(), accounts.clone()).await;
    let token = world.pod("gtm", "pod-1");
    let proxy = Proxy::start(&world, (1, &token), "gtm/Job/a", &["gtm/openai", "platform/hubspot"]);
    proxy.ask(0, 40);
    proxy.ask(1, 2);
    until("the quota is used up", || proxy.granted(0) == at_once(5)).await;
    until("the other does not admit it", || proxy.absence(1).is_some()).await;

    world.configure(gate(accounts.clone(), true)).await;
    until("all waiting calls have passed", || proxy.granted(0) == 40).await;
    until("also where it is not admitted", || proxy.granted(1) == 2).await;
    for account in [0, 1] {
        assert_eq!(proxy.in_force(account).unwrap().engine.mode, Mode::Disabled);
    }
    let report = world.limiter().health().await.unwrap().report;
    assert_eq!(report.gate_open_until, Some(UNTIL));
    assert!(report.gate_open && report.accounts.iter().all(|account| account.mode == Mode::Disabled));

    // An uninstallation takes the quotas away after that.
    world.configure(gate(Vec::new(), true)).await;
    proxy.ask(0, 10);
    until("calls pass on", || proxy.granted(0) == 50).await;

    world.configure(gate(accounts, false)).await;
    until("it is closed again", || {
        proxy.in_force(0).is_some_and(|account| account.engine.mode == Mode::Enforce)
    })
    .await;
    until("also where it is not admitted", || proxy.absence(1).is_some()).await;
    proxy.ask(0, 3);
    until("calls wait again", || proxy.sessions() >= 3).await;
    world.waiting("gtm/openai", 3).await;
    assert_eq!(proxy.granted(0), 50);
    let report = world.limiter().health().await.unwrap().report;
    assert_eq!((report.gate_open, report.gate_open_until), (false, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_shows_when_all_proxies_have_the_state_of_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = vec![quota("gtm/openai", 5)];
    let world = World::start(folder.path(), accounts.clone()).await;
    let mut proxies = Vec::new();
    for number in 1..=5 {
        let token = world.pod("gtm", &format!("pod-{number}"));
        proxies.push(Proxy::start(&world, (number, &token), "gtm/Job/a", &["gtm/openai"]));
    }
    world.configure(gate(accounts, true)).await;
    for _ in 0..3000 {
        let report = world.limiter().health().await.unwrap().report;
        assert!(report.proxies.current <= report.proxies.connected);
        if report.gate_open && (report.proxies.current, report.proxies.connected) == (5, 5) {
            let opened = |proxy: &Proxy| proxy.in_force(0).unwrap().engine.mode == Mode::Disabled;
            assert!(proxies.iter().all(opened));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not all proxies have received it");
}
