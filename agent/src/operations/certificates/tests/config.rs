//! What the configuration says, and what is wrong with it.

use std::path::{Path, PathBuf};

use super::super::budget::Limits;
use super::super::config::{Config, Content};
use super::*;
use crate::config::{Config as AgentConfig, Places};
use crate::outside::acme::Answer;

fn read(text: &str) -> (Option<Config>, Vec<String>) {
    let places = Places { state: "/var/lib/genesis".into(), socket: "/run/genesis.sock".into() };
    let checked = AgentConfig::parse(text, "test", &places);
    let said = checked.problems.iter().map(ToString::to_string).collect();
    (checked.config.map(|config| config.certificates), said)
}

const CA: &str = "[[certificates.acme]]\nname = \"ca\"\ndirectory = \"https://ca.example/d\"\nterms_agreed = true\n";

/// A certificate with these lines, the CA before it.
fn one(lines: &str) -> String {
    let domains = if lines.contains("domains") { "" } else { "domains = [\"gw.example.com\"]\n" };
    format!("{CA}\n[[certificates.certificate]]\nname = \"gw\"\n{domains}{lines}\n")
}

fn copies(copies: &[&str]) -> String {
    let each =
        copies.iter().map(|lines| format!("\n[[certificates.certificate.deploy]]\n{lines}\n"));
    one(&each.collect::<String>())
}

#[test]
fn a_full_example_is_read() {
    let text = r#"
        [certificates]
        schedule = "03:15"
        splay = "10m"
        keep = "7"
        self_signed_for = "2h"
        resolvers = ["192.0.2.53:53"]

        [[certificates.acme]]
        name = "le"
        directory = "https://acme-v02.api.letsencrypt.org/directory"
        contact = ["mailto:ops@example.com"]
        terms_agreed = true
        profile = "shortlived"

        [[certificates.acme]]
        name = "own"
        directory = "https://ca.example/directory"
        terms_agreed = true
        eab_key_id = "kid"
        eab_key_file = "/etc/genesis/eab"
        roots_file = "/etc/genesis/roots.pem"
        issuer_roots_file = "/etc/genesis/issuers.pem"
        limits = "none"

        [[certificates.certificate]]
        name = "gw"
        domains = ["GW.example.com", "*.example.com", "gw.example.com"]
        acme = ["own", "le"]
        challenge = "dns-01"
        dns_server = "192.0.2.1:53"
        dns_zone = "example.com"
        dns_key_name = "acme"
        dns_key_algorithm = "hmac-sha512"
        dns_key_file = "/etc/genesis/tsig"
        renew_before = "20d"
        key = "ecdsa-p384"
        hook = { command = ["/usr/bin/systemctl", "reload", "nginx"], timeout = "30s" }
        probe = "127.0.0.1:443"

        [[certificates.certificate.deploy]]
        content = "combined"
        path = "/etc/haproxy/gw.pem"
        owner = "root"
        group = "haproxy"
        mode = "0640"

        [[certificates.certificate.deploy]]
        content = "fullchain"
        path = "/etc/ssl/gw.pem"
        mode = "0644"

        [[certificates.certificate]]
        name = "address"
        domains = ["192.0.2.9", "2001:DB8::1"]
        challenge = "tls-alpn-01"
    "#;
    let (config, said) = read(text);
    assert_eq!(said, [""; 0]);
    let config = config.unwrap();
    assert_eq!((config.keep, config.splay), (7, seconds(600)));
    assert_eq!(config.self_signed_for, seconds(7_200));
    let own = config.ca("own").unwrap();
    assert_eq!(own.limits, Limits::None);
    assert_eq!(own.authority.external.as_ref().map(|it| it.key_id.as_str()), Some("kid"));
    assert_eq!(own.authority.accounts, Path::new("/var/lib/genesis/certs/.accounts"));
    let le = config.ca("le").unwrap();
    assert_eq!((le.limits, le.profile.as_deref()), (Limits::LetsEncrypt, Some("shortlived")));
    let gw = &config.certificates[0];
    assert_eq!(gw.identifiers, ["*.example.com", "gw.example.com"], "sorted, each once");
    assert_eq!(
        (gw.cas.as_slice(), gw.challenge()),
        (&["own".to_owned(), "le".to_owned()][..], "dns-01")
    );
    assert!(gw.p384 && gw.hook.is_some());
    let probe = gw.probe.as_ref().unwrap();
    assert_eq!(
        (probe.address.as_str(), probe.server_name.as_str()),
        ("127.0.0.1:443", "gw.example.com")
    );
    assert_eq!((gw.deployments[0].content, gw.deployments[0].mode), (Content::Combined, 0o640));
    assert_eq!(gw.deployments[1].mode, 0o644);
    let address = &config.certificates[1];
    assert_eq!(address.identifiers, ["192.0.2.9", "2001:db8::1"]);
    assert_eq!(address.cas, ["le", "own"], "all of them, in their order");
    assert!(matches!(address.answer, Answer::TlsAlpn(at) if at.port() == 443));
    assert_eq!(config.secrets(), ["/etc/genesis/eab", "/etc/genesis/tsig"].map(PathBuf::from));
    // What it failed with says nothing of another one.
    let mut other = config.clone();
    assert_eq!(gw.digest(&config), gw.digest(&other));
    other.authorities[0].profile = None;
    assert_ne!(gw.digest(&config), gw.digest(&other));
}

#[test]
fn nothing_configured_is_nothing_managed() {
    let (config, said) = read("");
    let config = config.unwrap();
    assert_eq!(said, [""; 0]);
    assert!(config.certificates.is_empty() && config.authorities.is_empty());
    assert_eq!((config.keep, config.splay), (5, seconds(1_800)));
    assert_eq!(config.schedule, crate::scheduler::calendar::Schedule::constant("02:00"));
}

#[test]
fn every_problem_is_reported_where_it_is() {
    let dns = "challenge = \"dns-01\"\n";
    for (text, key, part) in [
        (CA.replace("terms_agreed = true\n", ""), "terms_agreed", "must be true"),
        (format!("{CA}eab_key_id = \"kid\"\n"), "eab_key_id", "needs eab_key_file"),
        (format!("{CA}eab_key_file = \"/k\"\n"), "eab_key_id", "needs eab_key_file"),
        (format!("{CA}eab_key_id = \"kid\"\neab_key_file = \"k\"\n"), "eab_key_file", "absolute"),
        (format!("{CA}roots_file = \"r.pem\"\n"), "roots_file", "absolute"),
        (format!("{CA}issuer_roots_file = \"r.pem\"\n"), "issuer_roots_file", "absolute"),
        (format!("{CA}limits = \"few\"\n"), "limits", "neither"),
        (CA.replace("https", "http"), "directory", "https://"),
        (CA.replace("https://", "https://me:secret@"), "directory", "no user or password"),
        (CA.replace("\"ca\"", "\"../ca\""), "name", "is no name"),
        (CA.replace("\"ca\"", "\".accounts\""), "name", "is no name"),
        (format!("{CA}{CA}"), "name", "is there twice"),
        (one("acme = [\"other\"]"), "acme", "there is no [[certificates.acme]] named \"other\""),
        (one("domains = []"), "domains", "must name from 1 to 100"),
        (one("domains = [\"localhost\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"bücher.example\"]"), "domains", "xn--"),
        (one("domains = [\"a_b.example.com\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"-a.example.com\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"a..example.com\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"gw.example.com.\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"*.com\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"a.*.example.com\"]"), "domains", "neither a DNS name"),
        (one("domains = [\"192.0.2.1/24\"]"), "domains", "neither a DNS name"),
        (one(&format!("domains = [\"{}.com\"]", "a".repeat(64))), "domains", "neither a DNS name"),
        (one("domains = [\"*.example.com\"]"), "challenge", "must be \"dns-01\""),
        (one(dns), "challenge", "dns-01 needs"),
        (
            one(&format!("{dns}dns_server = \"192.0.2.1:53\"\ndns_key_file = \"/k\"")),
            "challenge",
            "dns-01 needs",
        ),
        (
            one(&format!(
                "{dns}dns_hook = {{ command = [\"/h\"] }}\ndns_server = \"192.0.2.1:53\""
            )),
            "challenge",
            "dns-01 needs",
        ),
        (
            one(&format!("domains = [\"192.0.2.1\"]\n{dns}dns_hook = {{ command = [\"/h\"] }}")),
            "challenge",
            "no record shows an address",
        ),
        (one("dns_server = \"ns.example.com\""), "dns_server", "no address and port"),
        (one("challenge = \"http-02\""), "challenge", "not one of"),
        (one("webroot = \"www\""), "webroot", "absolute"),
        (one("key = \"rsa\""), "key", "neither"),
        (one("probe = \"gw.example.com\""), "probe", "host:port"),
        (one("probe = \"gw.example.com:0\""), "probe", "host:port"),
        (one("probe_name = \"*.example.com\""), "probe_name", "no name that TLS can ask for"),
        (one("probe_name = \"gw example\""), "probe_name", "no name that TLS can ask for"),
        (one("probe_name = \"gw.example.com:443\""), "probe_name", "no name that TLS can ask for"),
        (one("renew_before = \"1h\""), "renew_before", ""),
        (one("surprise = \"1\""), "surprise", ""),
        (
            format!(
                "{}\n[[certificates.certificate]]\nname = \"gw\"\ndomains = [\"b.example.com\"]\n",
                one("")
            ),
            "name",
            "is there twice",
        ),
        (copies(&["content = \"key\"\npath = \"gw.key\""]), "path", "absolute"),
        (
            copies(&["content = \"key\"\npath = \"/gw.key\"\nmode = \"0644\""]),
            "mode",
            "at most \"0640\"",
        ),
        (
            copies(&["content = \"combined\"\npath = \"/gw.key\"\nmode = \"0444\""]),
            "mode",
            "at most \"0640\"",
        ),
        (
            copies(&["content = \"chain\"\npath = \"/gw.pem\"\nmode = \"0664\""]),
            "mode",
            "is not a mode",
        ),
        (
            copies(&["content = \"chain\"\npath = \"/gw.pem\"\nmode = \"0200\""]),
            "mode",
            "is not a mode",
        ),
        (copies(&["content = \"everything\"\npath = \"/gw.pem\""]), "content", "is not one of"),
        (
            copies(&["content = \"key\"\npath = \"/gw\"", "content = \"chain\"\npath = \"/gw\""]),
            "path",
            "is there twice",
        ),
        ("[certificates]\nkeep = \"4\"\n".to_owned(), "keep", "from 5 to 100"),
        ("[certificates]\nresolvers = [\"ns\"]\n".to_owned(), "resolvers", "no address and port"),
        ("[certificates]\nself_signed_for = \"2d\"\n".to_owned(), "self_signed_for", ""),
    ] {
        let (config, said) = read(&text);
        assert!(config.is_none(), "{text}");
        let found = said.iter().any(|it| it.contains(key) && it.contains(part));
        assert!(found, "{key}: {part}\n{text}\n{said:#?}");
        assert!(said.iter().all(|it| !it.contains("secret")), "{said:?}");
    }
}

#[test]
fn the_same_path_of_two_certificates_is_there_twice() {
    let copy = "\n[[certificates.certificate.deploy]]\ncontent = \"chain\"\npath = \"/gw.pem\"\n";
    let other = one("").replace(CA, "").replace("\"gw\"", "\"other\"");
    let (config, said) = read(&format!("{}{copy}{other}{copy}", one("")));
    assert!(config.is_none() && said.iter().any(|it| it.contains("is there twice")), "{said:?}");
}
