//! What one host of a fleet does at a time: its holder may freeze, lose its lease or be robbed, and does nothing more then.

use genesis_tests::TestAgent;
use genesis_tests::acme::Pebble;
use genesis_tests::certificates::{certificate, pebble};
use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::etcd::Etcd;
use serde_json::Value;

use crate::fleet_etcd::{LEASE, of_fleet};

const LOCKS: &str = "/genesis/prod/locks/";
const DOMAIN: &str = "shared.test";

/// A host of the fleet with a certificate for the name that all of them have.
fn host(name: &str, etcd: &Etcd, ca: &Pebble) -> TestAgent {
    let more =
        format!("[certificates]\n{}{}", pebble(ca, ""), certificate(ca, "gw", &[DOMAIN], ""));
    let config = of_fleet(&etcd.endpoints(), LEASE) + &more;
    let mut agent = TestAgent::new(|_| config);
    agent.hostname(name);
    agent
}

/// The lock of the certificate, once it is held, with who holds it and its token.
fn lock(etcd: &Etcd) -> Option<(String, String)> {
    let key = etcd.keys(LOCKS).pop()?;
    let holder: Value = serde_json::from_str(&etcd.get(&key)?).unwrap();
    Some((key, holder["host"].as_str().unwrap().to_owned()))
}

fn wait_holder(etcd: &Etcd, name: &str) -> String {
    wait_for("a holder", || lock(etcd).filter(|(_, holder)| holder == name).map(|(key, _)| key))
}

/// How the newest run of a kind ended: its state and its error.
pub(crate) fn ended_of(agent: &TestAgent, kind: &str) -> Option<(String, String)> {
    let list = agent.ctl(&["run", "list", "-o", "json"]).ok().response();
    let runs = list["runs"].as_array()?.clone();
    let run = runs.into_iter().find(|run| run["kind"] == kind)?;
    let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
    (run["state"] != "RUN_STATE_RUNNING").then(|| (text("state"), text("errorCode")))
}

fn ended(agent: &TestAgent) -> Option<(String, String)> {
    ended_of(agent, "certificates.renew")
}

#[test]
fn who_was_frozen_past_its_lease_orders_nothing_more() {
    let (etcd, ca) = (Etcd::start(), Pebble::start());
    let (mut a, mut b) = (host("a", &etcd, &ca), host("b", &etcd, &ca));
    ca.pause();
    a.start();
    let key = wait_holder(&etcd, "a");
    a.ctl(&["fleet", "locks"]).ok().says(&["certificates/shared.test", "a"]);
    let first = etcd.created(&key);
    b.start();
    wait_until("a second host that is refused", || {
        ended(&b).is_some_and(|(_, code)| code == "FLEET_HELD")
    });
    b.ctl(&["cert", "show", "gw"]).says(&["by one host of the fleet at a time"]);
    a.freeze();
    wait_until("the end of a lease", || etcd.get(&key).is_none());
    // Somebody asks for it, whatever the pause after the failure.
    let asked = std::thread::scope(|scope| {
        let renewing = scope
            .spawn(|| b.ctl(&["cert", "renew", "--domain", "gw", "--force", "--reason", "now"]));
        wait_holder(&etcd, "b");
        assert!(etcd.created(&key) > first, "tokens only grow");
        ca.resume();
        renewing.join().unwrap()
    });
    asked.ok();
    b.wait_certificate("gw", "DEPLOYED");
    let orders = ca.orders();
    a.thaw();
    let (state, code) = wait_for("the end of its run", || ended(&a));
    assert!(state != "RUN_STATE_SUCCEEDED", "{state}");
    // The connection that was being made to the CA may be the first that is noticed to have come to nothing.
    assert!(["FLEET_LOCK_LOST", "FENCED", "CA_UNAVAILABLE"].contains(&code.as_str()), "{code}");
    assert_eq!(ca.orders(), orders, "it has ordered nothing");
    a.ctl(&["cert", "renew", "--domain", "gw", "--force", "--reason", "now"]).ok();
    a.wait_certificate("gw", "DEPLOYED");
}

#[test]
fn who_does_not_know_that_its_lock_is_gone_is_refused_by_the_fleet() {
    let (etcd, ca) = (Etcd::start(), Pebble::start());
    let mut a = host("a", &etcd, &ca);
    ca.pause();
    a.start();
    let key = wait_holder(&etcd, "a");
    // It is another's now, of which this host hears nothing: its own lease is as it was.
    etcd.put(
        &key,
        r#"{"host":"x","host_id":"x","session":"x","for":"x","since":"2026-01-01T00:00:00Z"}"#,
    );
    etcd.delete(&key);
    etcd.put(
        &key,
        r#"{"host":"x","host_id":"x","session":"x","for":"x","since":"2026-01-01T00:00:00Z"}"#,
    );
    ca.resume();
    let (state, code) = wait_for("the end of its run", || ended(&a));
    assert_eq!((state.as_str(), code.as_str()), ("RUN_STATE_FAILED", "FENCED"));
    assert_eq!(ca.orders(), 0);
    assert!(etcd.get(&key).is_some(), "it does not give back what is another's");
    etcd.delete(&key);
    a.ctl(&["cert", "renew", "--domain", "gw", "--force", "--reason", "now"]).ok();
    a.wait_certificate("gw", "DEPLOYED");
    wait_until("a lock that is given back", || lock(&etcd).is_none());
}

#[test]
fn without_etcd_nothing_is_ordered_and_the_reason_is_shown() {
    let (etcd, ca) = (Etcd::start(), Pebble::start());
    let mut a = host("a", &etcd, &ca);
    etcd.kill();
    a.start();
    let (state, code) = wait_for("the end of its run", || ended(&a));
    assert_eq!((state.as_str(), code.as_str()), ("RUN_STATE_REFUSED", "FLEET_UNREACHABLE"));
    a.ctl(&["cert", "show", "gw"]).says(&["the etcd of fleet prod can't be used"]);
    assert_eq!(ca.orders(), 0);
    etcd.restart();
    a.ctl(&["cert", "renew", "--domain", "gw", "--force", "--reason", "now"]).ok();
    a.wait_certificate("gw", "DEPLOYED");
}

#[test]
fn a_lock_goes_with_a_run_that_is_cut_off() {
    let (etcd, ca) = (Etcd::start(), Pebble::start());
    let mut a = host("a", &etcd, &ca);
    ca.pause();
    a.start();
    wait_holder(&etcd, "a");
    a.ctl(&["run", "cancel", "last", "--reason", "too slow"]).ok();
    ca.resume();
    wait_until("a lock that is given back", || lock(&etcd).is_none());
    // And with an agent that is killed.
    ca.pause();
    let renewing =
        a.ctl_command(&["cert", "renew", "--domain", "gw", "--force", "--reason", "now"]).spawn();
    let mut renewing = renewing.unwrap();
    wait_holder(&etcd, "a");
    a.kill();
    let _ = renewing.wait();
    wait_until("the end of its lease", || lock(&etcd).is_none());
    ca.resume();
    a.start();
    a.ctl(&["cert", "renew", "--domain", "gw", "--force", "--reason", "now"]).ok();
}
