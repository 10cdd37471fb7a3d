//! How a host shows that names are its own, as configured.

use std::net::SocketAddr;
use std::time::Duration;

use super::names::{address, name_list, optional};
use crate::config::means;
use crate::config::reader::{Inline, Section};
use crate::outside::acme::{Answer, DnsUpdate};
use crate::outside::hooks::Hook;

pub(super) fn read_answer(entry: &Section<'_>, identifiers: &[String]) -> Option<Answer> {
    let challenge = entry.parsed(
        "challenge",
        Some("http-01"),
        "How the CA sees that the domains are this host's: \"http-01\", \"tls-alpn-01\" or \"dns-01\".",
        |text| match text {
            "http-01" | "tls-alpn-01" | "dns-01" => Ok(text.to_owned()),
            _ => Err(format!("{text:?} is not one of http-01, tls-alpn-01, dns-01")),
        },
    );
    let listen = entry.parsed(
        "listen",
        Some(""),
        "http-01, tls-alpn-01: where the agent answers, while it is asked. Empty: \"0.0.0.0:80\" or \"0.0.0.0:443\".",
        |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) },
    );
    let webroot = entry.parsed(
        "webroot",
        Some(""),
        "http-01: the folder that a web server serves, in place of the agent's own listener.",
        optional,
    );
    let server = entry.parsed(
        "dns_server",
        Some(""),
        "dns-01: the zone's primary server, as \"192.0.2.1:53\", for signed dynamic updates (RFC 2136).",
        |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) },
    );
    let zone = entry.text("dns_zone", Some(""), "dns-01: the zone. Empty: as that server says.");
    let key_name = entry.text("dns_key_name", Some(""), "dns-01: the name of the key.");
    let algorithm = entry.parsed(
        "dns_key_algorithm",
        Some("hmac-sha256"),
        "dns-01: \"hmac-sha256\", \"hmac-sha384\" or \"hmac-sha512\".",
        |text| match text {
            "hmac-sha256" | "hmac-sha384" | "hmac-sha512" => Ok(text.to_owned()),
            _ => Err(format!("{text:?} is not one of hmac-sha256, hmac-sha384, hmac-sha512")),
        },
    );
    let key_file = entry.parsed(
        "dns_key_file",
        Some(""),
        "dns-01: file with the key in base64, readable by nobody but its owner.",
        optional,
    );
    let hook = read_hook(
        entry,
        "dns_hook",
        "dns-01: a command that sets and removes the record, in place of updates: { command = [\"argv\", ...], timeout = \
         \"30s\" }. GENESIS_ACTION is \"present\" or \"cleanup\".",
    );
    let wait = entry.duration(
        "dns_wait",
        "2m",
        Duration::ZERO..=Duration::from_secs(1_800),
        "dns-01: how long the record is waited for before the CA is told; 0s: not at all.",
    );
    let resolvers = entry.list(
        "dns_resolvers",
        &[],
        false,
        "dns-01 with a command: the servers that must answer with the record. Empty: the zone's own.",
    );
    let resolvers = name_list(entry, "dns_resolvers", &resolvers, address);
    let (challenge, listen, webroot) = (challenge?, listen?, webroot?);
    if challenge != "dns-01" && identifiers.iter().any(|it| it.starts_with("*.")) {
        entry.problem("challenge", "must be \"dns-01\": a wildcard can't be shown otherwise");
    }
    if challenge == "dns-01" && identifiers.iter().any(|it| it.parse::<std::net::IpAddr>().is_ok())
    {
        entry.problem("challenge", "can't be \"dns-01\": no record shows an address (RFC 8738)");
    }
    let standard = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    match challenge.as_str() {
        "http-01" => Some(match webroot {
            Some(webroot) => Answer::HttpWebroot(webroot),
            None => Answer::HttpListener(listen.unwrap_or_else(|| standard(80))),
        }),
        "tls-alpn-01" => Some(Answer::TlsAlpn(listen.unwrap_or_else(|| standard(443)))),
        _ => match (server?, hook, key_file?) {
            (None, Some(hook), None) => Some(Answer::DnsHook { hook, wait, resolvers }),
            (Some(server), None, Some(key_file)) if !key_name.is_empty() => {
                let zone = (!zone.is_empty()).then_some(zone);
                let algorithm = algorithm?;
                Some(Answer::DnsUpdate(DnsUpdate {
                    server,
                    zone,
                    key_name,
                    algorithm,
                    key_file,
                    wait,
                }))
            }
            _ => {
                entry.problem(
                    "challenge",
                    "dns-01 needs dns_server, dns_key_name and dns_key_file, or a dns_hook",
                );
                None
            }
        },
    }
}

pub(super) fn read_hook(
    entry: &Section<'_>,
    key: &'static str,
    help: &'static str,
) -> Option<Hook> {
    match entry.inline(key, "", help)? {
        Inline::Table(table) => {
            let hook = means::hook(entry, key, &table);
            table.finish();
            hook
        }
        Inline::Text(_) => {
            entry.problem(key, "must be a table, such as { command = [\"/usr/bin/program\"] }");
            None
        }
    }
}
