//! The self-test turns a worker red when its media port does not answer, and green when it does.

use std::net::UdpSocket;
use std::time::Duration;

use roomgate::sfu::selftest::{Selftest, SelftestConfig};

use crate::sfu_rig::Rig;

async fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let found = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), found).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_worker_is_joined_from_outside_and_hidden_rooms_do_not_show() {
    let rig = Rig::start(2);
    let every = Duration::from_millis(300);
    let config = SelftestConfig::new(rig.workers.local_addrs(), every).unwrap();
    let tests = Selftest::start(&rig.sfu, config);
    assert!(tests.health(0).unwrap_err().contains("no self-test has passed"));
    until("both workers pass", || (0..2).all(|worker| tests.health(worker).is_ok())).await;
    let passed = || rig.metrics.sfu.selftests.with_label_values(&["1", "pass"]).get();
    until("it goes on", || passed() >= 4).await;
    for report in rig.sfu.reports() {
        assert_eq!((report.host.participants, report.host.rooms.len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_is_red_with_a_reason() {
    let rig = Rig::start(1);
    // Takes datagrams and never answers.
    let hole = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = SelftestConfig {
        target: hole.local_addr().unwrap(),
        every: Duration::from_millis(50),
        deadline: Duration::from_millis(400),
    };
    let tests = Selftest::start(&rig.sfu, config);
    until("the worker is red", || tests.health(0).unwrap_err().starts_with("no STUN answer within")).await;
    assert_eq!(rig.metrics.sfu.selftest_passed.with_label_values(&["0"]).get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_turns_red() {
    let rig = Rig::start(1);
    let config = SelftestConfig {
        every: Duration::from_millis(50),
        deadline: Duration::from_secs(2),
        ..SelftestConfig::new(rig.workers.local_addrs(), Duration::ZERO).unwrap()
    };
    let tests = Selftest::start(&rig.sfu, config);
    until("the worker is green", || tests.health(0).is_ok()).await;
    let (wake, asleep) = std::sync::mpsc::channel::<()>();
    let stall = Box::new(move || {
        let _ = asleep.recv_timeout(Duration::from_secs(15));
    });
    rig.workers.handle(0).unwrap().run_on(stall).unwrap();
    until("the stalled worker is red", || tests.health(0).is_err()).await;
    let reason = tests.health(0).unwrap_err();
    assert!(reason.starts_with("the worker did not take the join"), "{reason}");
    wake.send(()).unwrap();
    until("it heals", || tests.health(0).is_ok()).await;
}
