//! What is looked after between two renewals: copies that somebody has changed, names that were added, files that
//! everybody can read, pins of what nobody trusts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use genesis_tests::acme::{Bind9, Fault, Kind, Pebble};
use genesis_tests::alerts::secret;
use genesis_tests::certificates::{by_updates, certificate, pebble};
use genesis_tests::clock::wait_until;
use genesis_tests::private_ca::PrivateCa;
use genesis_tests::tls_client::{certificates, fingerprint};
use rustix::process::Signal;
use serde_json::Value;

use crate::certificates::{DOMAIN, Host, mode};

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn daily_check(host: &Host) -> genesis_tests::Output {
    host.agent.ctl(&["schedule", "run", "certificates.check"])
}

#[test]
fn copies_that_somebody_has_changed_are_put_right_by_the_daily_check() {
    let host = Host::started(Pebble::start());
    let issued = host.generation(1);
    // Somebody else's certificate over both copies, and whoever serves them has taken it.
    let ca = PrivateCa::new();
    let other = ca.issue("other", &[DOMAIN]);
    std::fs::copy(&other.fullchain, &host.served.fullchain).unwrap();
    std::fs::copy(&other.key, &host.served.key).unwrap();
    let [program, arguments @ ..] = &host.server.hook_command()[..] else { panic!("no command") };
    assert!(Command::new(program).args(arguments).status().unwrap().success());
    assert_ne!(host.shown(), issued);
    host.agent.ctl(&["cert", "verify"]).exits(3).says(&["deployed", "served", "FAIL"]);
    daily_check(&host).ok().says(&["put where they should be: gw"]);
    assert_eq!(host.shown(), issued);
    // Only where it lies: what is served is right.
    open_to_all(&host.served.key, 0o644);
    std::fs::remove_file(&host.served.fullchain).unwrap();
    daily_check(&host).ok().says(&["put where they should be: gw"]);
    assert_eq!(mode(&host.served.key), 0o640);
    assert_eq!(fingerprint(&certificates(&host.served.fullchain)[0]), issued);
    host.agent.ctl(&["cert", "verify"]).ok();
    daily_check(&host).ok().says(&["nothing is due"]);
    assert_eq!(host.pebble.orders(), 1);
    // A pin stays one when what it holds is put right.
    host.renew();
    host.agent.ctl(&["cert", "rollback", "--yes"]).ok();
    std::fs::remove_file(&host.served.fullchain).unwrap();
    daily_check(&host).ok();
    let stands = host.agent.certificate("gw");
    assert_eq!((stands["current"]["number"].as_u64(), host.shown()), (Some(1), issued));
    assert!(stands["pinnedAt"].is_string(), "{stands:#}");
}

#[test]
fn what_is_put_right_is_no_reason_to_ask_a_ca_again_that_has_refused() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let refusal = Fault::problem(403, "rejectedIdentifier", "not for you");
    proxy.fail_always(Kind::NewOrder, refusal);
    host.agent.ctl(&["cert", "renew", "--force"]).exits(1).says(&["not for you"]);
    let asked = proxy.requests_of(Kind::NewOrder).len();
    std::fs::remove_file(&host.served.fullchain).unwrap();
    daily_check(&host).ok().says(&["put where they should be: gw"]);
    let stands = host.agent.wait_certificate("gw", "BACKOFF");
    assert_eq!(stands["trouble"], "CERTIFICATE_TROUBLE_POLICY", "{stands:#}");
    daily_check(&host).ok();
    assert_eq!(proxy.requests_of(Kind::NewOrder).len(), asked);
}

#[test]
fn what_was_issued_and_is_not_served_waits_for_whoever_asks_and_costs_no_second_order() {
    let mut host = Host::new(Pebble::start(), "", "");
    host.server.ignore_reloads(true);
    host.agent.start();
    wait_until("it to be in place", || {
        host.agent.certificate_events("gw").contains(&"deploy-failed".to_owned())
    });
    wait_until("the failure to be noted", || {
        host.agent.certificate("gw")["trouble"] == "CERTIFICATE_TROUBLE_LOCAL"
    });
    assert_ne!(host.shown(), host.generation(1));
    host.agent.ctl(&["cert", "renew"]).exits(1).says(&["generation 1"]);
    host.server.ignore_reloads(false);
    host.agent.ctl(&["cert", "renew"]).ok().says(&["generation 1 served"]);
    assert_eq!(host.shown(), host.generation(1));
    host.agent.wait_certificate("gw", "PROVEN");
    // The same of a later one, also by force.
    host.server.ignore_reloads(true);
    host.agent.ctl(&["cert", "renew", "--force"]).exits(1);
    assert_eq!(host.shown(), host.generation(1));
    host.server.ignore_reloads(false);
    host.agent.ctl(&["cert", "renew", "--force"]).ok().says(&["generation 2 served"]);
    assert_eq!((host.shown(), host.pebble.orders()), (host.generation(2), 2));
}

#[test]
fn what_is_marked_while_it_comes_into_service_does_not_stay_there() {
    let host = Host::started(Pebble::start());
    host.renew();
    host.server.ignore_reloads(true);
    let before = host.server.reloads();
    let mut rollback = host.agent.ctl_command(&["cert", "rollback", "--to", "1", "--yes"]);
    let mut rollback = rollback.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    host.server.wait_reloads(before + 1);
    let mark = ["cert", "mark", "--compromised", "--reason", "it was in a ticket", "--yes"];
    host.agent.ctl(&[&mark[..], &["--generation", "1"]].concat()).ok();
    host.server.ignore_reloads(false);
    assert_eq!(rollback.wait().unwrap().code(), Some(1));
    assert_eq!(host.shown(), host.generation(2));
    let stands = host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!((&stands["current"]["number"], &stands["pinnedAt"]), (&2.into(), &Value::Null));
    let earlier = &stands["earlier"][0];
    assert!(earlier["compromisedAt"].is_string(), "{stands:#}");
    host.agent.ctl(&["cert", "rollback", "--to", "1", "--yes"]).exits(4);
}

#[test]
fn a_name_that_is_added_is_ordered_at_once_and_only_once() {
    let host = Host::started(Pebble::start());
    let more = [DOMAIN, "fix.example.test"];
    let own = certificate(&host.pebble, "gw", &more, &host.served.deployed_to(Some(&host.server)));
    host.agent.configure(&format!("[certificates]\n{}{own}", pebble(&host.pebble, "")));
    host.agent.signal(Signal::HUP);
    wait_until("the second generation", || host.agent.certificate("gw")["current"]["number"] == 2);
    let stands = host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!(stands["current"]["identifiers"], serde_json::json!(["fix.example.test", DOMAIN]));
    assert_eq!(host.shown(), host.generation(2));
    daily_check(&host).ok().says(&["nothing is due"]);
    assert_eq!(host.pebble.orders(), 2);
    // The one before lacks a name.
    let back = host.agent.ctl(&["cert", "rollback", "--yes"]);
    back.exits(4).says(&["GENERATION_UNUSABLE", "fix.example.test"]);
}

#[test]
fn a_secret_of_a_ca_or_a_name_server_that_everybody_can_read_is_noticed() {
    let bind = Bind9::start("example.test");
    let mut host = Host::new(Pebble::start(), "", "");
    let key = secret(host.folder(), "eab", &"A".repeat(64));
    let ca = pebble(&host.pebble, &format!("eab_key_id = \"kid-1\"\neab_key_file = {key:?}"));
    let own = format!(
        "[[certificates.certificate]]\nname = \"gw\"\ndomains = [{DOMAIN:?}]\n{}",
        by_updates(&bind)
    );
    host.agent.configure(&format!("[health]\n[certificates]\n{ca}{own}"));
    host.agent.start();
    let looked = || host.agent.ctl(&["health", "check", "--check", "secrets"]);
    looked().ok().says(&["OK"]);
    for file in [key.as_path(), bind.key_file()] {
        open_to_all(file, 0o644);
        looked().says(&["secrets", "WARN", file.to_str().unwrap()]);
        open_to_all(file, 0o600);
        looked().ok().says(&["OK"]);
    }
}

#[test]
fn one_that_signs_itself_is_not_pinned() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    proxy.fail_always(Kind::Any, Fault::Status(503));
    host.agent.start();
    host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    let pinned = host.agent.ctl(&["cert", "pin", "--reason", "it is quiet now"]);
    pinned.exits(4).says(&["GENERATION_UNUSABLE", "signs itself"]);
    let back = host.agent.ctl(&["cert", "rollback", "--to", "1", "--yes"]);
    back.exits(4).says(&["GENERATION_UNUSABLE", "signs itself"]);
    assert!(host.agent.certificate("gw")["pinnedAt"].is_null());
}
