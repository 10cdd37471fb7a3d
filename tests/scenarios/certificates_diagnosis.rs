//! Why a renewal failed: what the domain name system says, and what to set in it.

use genesis_tests::acme::{Bind9, Pebble};
use genesis_tests::certificates::{by_updates, proxied};
use genesis_tests::clock::wait_until;
use serde_json::Value;

use crate::certificates::{DOMAIN, Host};
use crate::steps_kill::cut_off;

/// What was found, by its code; none of the others.
fn found(host: &Host, code: &str) -> Option<String> {
    let stands = host.agent.certificate("gw");
    let found: &Vec<Value> = stands["diagnosis"].as_array()?;
    let found = found.iter().find(|it| it["code"] == code)?;
    assert_eq!(found["subject"], DOMAIN, "{found:#}");
    found["message"].as_str().map(str::to_owned)
}

#[track_caller]
fn says(host: &Host, code: &str, parts: &[&str]) {
    let Some(message) = found(host, code) else {
        panic!("there is no {code} in {:#}", host.agent.certificate("gw")["diagnosis"]);
    };
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// Another attempt, which the CA refuses. What is to be done is in its answer too.
#[track_caller]
fn fails(host: &Host, says: &[&str]) {
    host.agent.ctl(&["cert", "renew", "--force"]).exits(1).says(says);
}

#[test]
fn a_failed_renewal_says_what_is_wrong_in_dns_and_what_to_set_there() {
    let mut bind = Bind9::start("example.test");
    let resolvers = format!("resolvers = [{:?}]", bind.server().to_string());
    // Whatever is asked for, the CA does not give it.
    let server = Pebble::options().blocked(DOMAIN).start();
    let (mut host, proxy) = Host::proxied(server, &resolvers, "");
    proxy.set_caa_identities(&["pebble.test"]);
    host.agent.start();
    host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    says(&host, "DNS_FITS", &["127.0.0.1"]);
    assert_eq!(found(&host, "DNS_CAA_FORBIDS"), None);

    // An address of another, as RFC 5737 has them for examples; only a CA of another name may issue.
    bind.add_a(DOMAIN, "192.0.2.7".parse().unwrap());
    bind.add_caa("example.test", "issue", "other.test");
    fails(&host, &["DNS_ELSEWHERE", "192.0.2.7", "DNS_CAA_FORBIDS"]);
    says(&host, "DNS_ELSEWHERE", &["192.0.2.7", "no address of this host", "update DNS to"]);
    let set = "add `example.test CAA 0 issue \"pebble.test\"`";
    says(&host, "DNS_CAA_FORBIDS", &["update DNS", "allow other.test", set]);
    assert_eq!(found(&host, "DNS_FITS"), None);

    // The nearest records decide, and these allow it. The name has no address any more.
    bind.remove(DOMAIN);
    bind.add_caa(DOMAIN, "issue", "pebble.test");
    fails(&host, &["DNS_ABSENT", "update DNS"]);
    says(&host, "DNS_ABSENT", &["update DNS", "no address"]);
    assert_eq!(found(&host, "DNS_CAA_FORBIDS"), None);

    // The records for the answers themselves.
    let cas = proxied(&host.pebble, &proxy, "");
    let own = format!(
        "[[certificates.certificate]]\nname = \"gw\"\ndomains = [{DOMAIN:?}]\n{}",
        by_updates(&bind)
    );
    host.agent.configure(&format!("[certificates]\n{resolvers}\n{cas}{own}"));
    host.agent.restart();
    let name = format!("_acme-challenge.{DOMAIN}");
    bind.add_txt(&name, "of yesterday");
    fails(&host, &["DNS_TXT_LEFT"]);
    says(&host, "DNS_TXT_LEFT", &["update DNS", &name, "1 TXT record", "remove"]);
    bind.remove(&name);
    fails(&host, &["DNS_TXT_ABSENT"]);
    says(&host, "DNS_TXT_ABSENT", &[&name]);

    // Nobody answers at all: that is said, and nothing of DNS is said to be right.
    bind.stop();
    fails(&host, &["DNS_TXT_UNKNOWN"]);
    says(&host, "DNS_CAA_UNKNOWN", &["CAs refuse then"]);
    says(&host, "DNS_TXT_UNKNOWN", &[&name]);
    for code in ["DNS_FITS", "DNS_TXT_ABSENT", "DNS_CAA_FORBIDS"] {
        assert_eq!(found(&host, code), None);
    }
}

#[test]
fn killed_before_the_run_says_what_is_wrong_it_is_known_all_the_same() {
    let bind = Bind9::start("example.test");
    let resolvers = format!("resolvers = [{:?}]", bind.server().to_string());
    let server = Pebble::options().blocked(DOMAIN).start();
    let (mut host, proxy) = Host::proxied(server, &resolvers, "");
    proxy.set_caa_identities(&["pebble.test"]);
    host.agent.start();
    host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    bind.add_caa("example.test", "issue", "other.test");
    host.agent.terminate();
    let run = cut_off(&mut host.agent, "step.diagnose", &["cert", "renew", "--force"]);
    assert_eq!(run["kind"], "certificates.renew", "{run:#}");
    wait_until("what is wrong", || found(&host, "DNS_CAA_FORBIDS").is_some());
    fails(&host, &["DNS_CAA_FORBIDS"]);
}
