//! What is looked after between two renewals: copies that somebody has changed, names that were added, files that
//! everybody can read, pins of what nobody trusts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use genesis_tests::acme::{Bind9, Fault, Kind, Pebble};
use genesis_tests::alerts::secret;
use genesis_tests::certificates::{certificate, pebble};
use genesis_tests::clock::wait_until;
use genesis_tests::private_ca::PrivateCa;
use genesis_tests::tls_client::{certificates, fingerprint};
use rustix::process::Signal;

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
    let other = PrivateCa::new().issue("other", &[DOMAIN]);
    std::fs::copy(&other.fullchain, &host.served.fullchain).unwrap();
    std::fs::copy(&other.key, &host.served.key).unwrap();
    let [program, arguments @ ..] = &host.server.hook_command()[..] else { panic!("no command") };
    assert!(Command::new(program).args(arguments).status().unwrap().success());
    assert_ne!(host.shown(), issued);
    host.agent.ctl(&["cert", "verify"]).exits(1).says(&["deployed", "served", "FAIL"]);
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
        "[[certificates.certificate]]\nname = \"gw\"\ndomains = [{DOMAIN:?}]\nchallenge = \"dns-01\"\ndns_server = {:?}\n\
         dns_key_name = {:?}\ndns_key_file = {:?}\n",
        bind.server().to_string(),
        bind.key_name(),
        bind.key_file(),
    );
    host.agent.configure(&format!("[certificates]\n{ca}{own}"));
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
    assert!(host.agent.certificate("gw")["pinnedAt"].is_null());
}
