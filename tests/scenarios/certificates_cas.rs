//! Several CAs in order, accounts that are bound to others, profiles.

use std::time::Duration;

use genesis_tests::Signal;
use genesis_tests::acme::{FaultProxy, Kind, Pebble};
use genesis_tests::alerts::secret;
use genesis_tests::certificates::{ca, pebble, proxied};
use genesis_tests::clock::wait_until;
use jiff::SignedDuration;

use crate::certificates::Host;
use crate::certificates_ca::{codes, two_looks};
use genesis_tests::wall_clock::WallClock;

const SECRET: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

#[test]
fn with_nothing_in_service_the_second_ca_is_asked_as_soon_as_the_first_one_fails() {
    let mut first = Pebble::start();
    let second = Pebble::options().http_port(first.http_port()).start();
    let cas = pebble(&first, "")
        + &ca("second", &second.directory(), second.roots_file(), second.issuer_roots_file(), "");
    first.stop();
    let mut host = Host::of_cas(second, "", &cas);
    host.agent.start();
    let stands = host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!(stands["current"]["ca"], "second", "{stands:#}");
    assert_eq!((first.orders(), host.pebble.orders()), (0, 1));
}

#[test]
fn the_second_ca_is_left_alone_until_half_of_the_time_for_a_renewal_has_gone_by() {
    let validity = Duration::from_secs(8 * 3_600);
    let first = Pebble::options().validity(validity).start();
    let second = Pebble::options().validity(validity).http_port(first.http_port()).start();
    let proxies = [&first, &second].map(FaultProxy::start);
    let cas = proxied(&first, &proxies[0], "")
        + &ca(
            "second",
            &proxies[1].directory(),
            proxies[1].roots_file(),
            second.issuer_roots_file(),
            "",
        );
    let mut host = Host::of_cas(first, "", &cas);
    let clock = WallClock::of(&mut host.agent);
    host.agent.start();
    assert_eq!(host.agent.wait_certificate("gw", "PROVEN")["current"]["ca"], "pebble");
    let later = |host: &mut Host, minutes: i64| {
        host.agent.terminate();
        let later = SignedDuration::from_mins(minutes);
        clock.ahead(later);
        proxies.iter().for_each(|proxy| proxy.skew(later));
        host.agent.start();
    };
    host.pebble.stop();
    later(&mut host, 5 * 60);
    host.agent.wait_certificate("gw", "BACKOFF");
    two_looks();
    assert_eq!(second.orders(), 0);
    later(&mut host, 6 * 60 + 10);
    wait_until("the second CA's", || host.agent.certificate("gw")["current"]["ca"] == "second");
    host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!((host.pebble.orders(), second.orders()), (1, 1));
}

#[test]
fn an_account_that_is_bound_to_another_needs_the_right_key() {
    let accounts = vec![("kid-1".to_owned(), SECRET.to_owned())];
    let server = Pebble::options().external_accounts(accounts).start();
    let mut host = Host::new(server, "", "");
    let file = |name: &str, text: &str| secret(host.folder(), name, text);
    let bad = file("bad", &"A".repeat(64));
    let good = file("good", SECRET);
    host.agent.start();
    let stands = host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    assert_eq!(stands["trouble"], "CERTIFICATE_TROUBLE_POLICY", "{stands:#}");
    assert!(codes(&stands).contains(&"CA_WANTS_ACCOUNT".to_owned()), "{stands:#}");
    let bound = |host: &Host, key: &std::path::Path| {
        let text = format!("eab_key_id = \"kid-1\"\neab_key_file = {key:?}");
        host.configure("", &pebble(&host.pebble, &text), "");
        host.agent.signal(Signal::HUP);
    };
    bound(&host, &bad);
    let wrong = |host: &Host| {
        let stands = host.agent.certificate("gw");
        stands["trouble"] == "CERTIFICATE_TROUBLE_POLICY"
            && !codes(&stands).contains(&"CA_WANTS_ACCOUNT".to_owned())
    };
    wait_until("the key to be refused", || wrong(&host));
    assert_eq!((host.pebble.accounts(), host.pebble.orders()), (0, 0));
    bound(&host, &good);
    host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!((host.pebble.accounts(), host.pebble.orders()), (1, 1));
    let shown = host.agent.ctl(&["cert", "show", "gw", "-o", "json"]).ok().text();
    assert!(!shown.contains(SECRET) && !host.agent.stderr().contains(SECRET));
}

#[test]
fn a_profile_that_the_ca_has_not_waits_for_the_configuration_and_one_that_it_has_is_ordered() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "profile = \"longlived\"");
    proxy.set_profiles(&[("shortlived", "six days")]);
    host.agent.start();
    let stands = host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    assert_eq!(stands["trouble"], "CERTIFICATE_TROUBLE_POLICY", "{stands:#}");
    assert!(stands["heldUntil"].is_null(), "{stands:#}");
    assert!(codes(&stands).contains(&"CA_PROFILE_UNKNOWN".to_owned()), "{stands:#}");
    let before = host.agent.certificate_events("gw").len();
    two_looks();
    host.agent.restart();
    two_looks();
    assert_eq!(host.agent.certificate_events("gw").len(), before, "no other attempt");
    assert_eq!((proxy.requests_of(Kind::NewOrder).len(), host.pebble.orders()), (0, 0));
    let cas = proxied(&host.pebble, &proxy, "profile = \"shortlived\"");
    host.configure("", &cas, "");
    host.agent.signal(Signal::HUP);
    host.agent.wait_certificate("gw", "PROVEN");
    let orders = proxy.requests_of(Kind::NewOrder);
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].payload.as_ref().unwrap()["profile"], "shortlived");
}
