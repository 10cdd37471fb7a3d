//! A CA that is down, that limits how often it is asked, and what this host allows itself.

use std::process::Stdio;
use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::acme::{Fault, FaultProxy, Kind, Pebble, RetryAfter};
use genesis_tests::certificates::{certificate, pebble};
use genesis_tests::clock::{Watch, wait_until};
use serde_json::Value;

use crate::certificates::Host;

/// Long enough for the agent to look at its certificates twice.
pub(crate) fn two_looks() {
    let watch = Watch::start();
    wait_until("two looks", || watch.elapsed() > Duration::from_secs(11));
}

fn orders(proxy: &FaultProxy) -> usize {
    proxy.requests_of(Kind::NewOrder).len()
}

pub(crate) fn codes(certificate: &Value) -> Vec<String> {
    let diagnosis = certificate["diagnosis"].as_array().into_iter().flatten();
    diagnosis.map(|it| it["code"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_ca_that_is_down_is_asked_seldom_and_people_are_told_what_to_do() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let before = host.shown();
    proxy.fail_always(Kind::Any, Fault::Status(503));
    host.agent.ctl(&["cert", "renew", "--force"]).exits(1).says(&["503"]);
    let stands = host.agent.wait_certificate("gw", "BACKOFF");
    assert_eq!(stands["trouble"], "CERTIFICATE_TROUBLE_SERVER", "{stands:#}");
    assert!(stands["heldUntil"].is_string(), "{stands:#}");
    assert!(codes(&stands).contains(&"CA_UNREACHABLE".to_owned()), "{stands:#}");
    host.agent.ctl(&["cert", "show", "gw"]).ok().says(&["status page"]);
    let asked = proxy.requests().len();
    assert!(asked < 60, "{asked} requests");
    two_looks();
    host.agent.restart();
    two_looks();
    let more = proxy.requests().len() - asked;
    assert!(more < 6, "{more} more requests: {:#?}", &proxy.requests()[asked..]);
    assert_eq!(host.shown(), before);
    proxy.heal();
    host.pebble.stop();
    host.agent.ctl(&["cert", "renew", "--force"]).exits(1).says(&["502"]);
    host.pebble.start_again();
    host.agent.ctl(&["cert", "renew", "--force"]).ok();
    host.agent.wait_certificate("gw", "PROVEN");
    assert_ne!(host.shown(), before);
}

#[test]
fn a_time_that_a_ca_names_holds_after_a_restart_and_also_by_force() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    proxy.fail(Kind::NewOrder, 1, Fault::rate_limited(RetryAfter::Seconds(3_600)));
    host.agent.start();
    let stands = host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    let until = stands["heldUntil"].as_str().unwrap_or_default().to_owned();
    assert_eq!(stands["trouble"], "CERTIFICATE_TROUBLE_RATE_LIMITED", "{stands:#}");
    let refused = |host: &Host| {
        let minute = &until[..16];
        for renew in [&["cert", "renew"][..], &["cert", "renew", "--force"]] {
            let said = host.agent.ctl(renew).exits(4);
            said.says(&["CERTIFICATE_HELD_BACK", minute]);
            host.agent.ctl(&[renew, &["--plan"]].concat()).exits(4);
        }
    };
    refused(&host);
    host.agent.restart();
    refused(&host);
    two_looks();
    host.agent.kill();
    host.agent.start();
    refused(&host);
    assert_eq!((orders(&proxy), host.pebble.orders()), (1, 0));
    // Also where it is a reload of the configuration that would begin anew.
    let ca = genesis_tests::certificates::proxied(&host.pebble, &proxy, "");
    host.configure("", &ca, "renew_before = \"20d\"");
    host.agent.restart();
    two_looks();
    assert_eq!(orders(&proxy), 1);
    host.agent.ctl(&["cert", "renew", "--force"]).exits(4);
}

#[test]
fn when_the_time_that_a_ca_named_has_come_it_is_asked_again() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    proxy.fail(Kind::NewOrder, 1, Fault::rate_limited(RetryAfter::Seconds(12)));
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let seen = proxy.requests_of(Kind::NewOrder);
    assert_eq!(seen.len(), 2);
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(11), "{seen:#?}");
}

#[test]
fn the_sixth_for_the_same_names_in_a_week_is_refused_before_anything_is_sent() {
    let server = Pebble::start();
    let (one, other) = ("one.example.test", "other.example.test");
    let text = format!(
        "{}{}{}",
        pebble(&server, ""),
        certificate(&server, "one", &[one], ""),
        certificate(&server, "other", &[other], "")
    );
    let mut agent = TestAgent::started(|_| text);
    for name in ["one", "other"] {
        agent.wait_certificate(name, "DEPLOYED");
    }
    let renew = |agent: &TestAgent, domain: &str| {
        agent.ctl(&["cert", "renew", "--domain", domain, "--force"])
    };
    for round in 0..4 {
        renew(&agent, one).ok();
        if round % 2 == 0 {
            agent.restart();
        }
    }
    assert_eq!(server.orders(), 6);
    let validations = server.validations();
    for _ in 0..2 {
        renew(&agent, one).exits(4).says(&["BUDGET_EXHAUSTED", "the next at", "nothing was sent"]);
        agent.kill();
        agent.start();
    }
    agent.ctl(&["cert", "budget", "--domain", "one"]).ok().says(&["identifier-set"]);
    assert_eq!((server.orders(), server.validations()), (6, validations));
    renew(&agent, other).ok();
    assert_eq!((server.orders(), server.issued().len()), (7, 7));
    assert_eq!(agent.certificate("one")["current"]["number"], 5);
}

#[test]
fn two_who_renew_at_once_get_one_order_and_both_are_content() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    proxy.fail(Kind::NewOrder, 1, Fault::Delay(Duration::from_secs(3)));
    let renew = || {
        let mut renew = host.agent.ctl_command(&["cert", "renew", "--force"]);
        renew.stdout(Stdio::null()).spawn().unwrap()
    };
    let both = [renew(), renew()];
    for mut one in both {
        assert!(one.wait().unwrap().success());
    }
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (2, 2));
    assert_eq!(host.shown(), host.generation(2));
}
