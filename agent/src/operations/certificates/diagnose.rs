//! Why an attempt failed, as far as it can be found out from here, and what to do about it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use genesis_storage::CertificateTrouble;

use super::config::Certificate;
use super::failed::Failed;
use super::{Certificates, plan};
use crate::outside::acme::Answer;
use crate::outside::names::Names;

/// All of it takes no longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many domains are looked at.
const DOMAINS: usize = 5;

/// A code, what it is about, and what to do.
type Found = (String, String, String);

fn found(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Found {
    (code.to_owned(), subject.into(), message.into())
}

impl Certificates {
    /// What can be found out about a failed attempt. It takes 20 s at most; what could not be looked at is said.
    pub(super) async fn diagnose(&self, certificate: &Certificate, failed: &Failed) -> Vec<Found> {
        let looked = tokio::time::timeout(PATIENCE, self.look_into(certificate, failed)).await;
        let mut all = looked.unwrap_or_else(|_| {
            vec![found("DIAGNOSIS_INCOMPLETE", &certificate.name, "looking into it took too long")]
        });
        all.extend(self.what_is_left(certificate));
        all
    }

    async fn look_into(&self, certificate: &Certificate, failed: &Failed) -> Vec<Found> {
        let mut all = Vec::new();
        let config = self.config.load_full();
        let mut names = BTreeSet::new();
        for ca in certificate.cas.iter().filter_map(|name| config.ca(name)) {
            let (name, directory) = (&ca.authority.name, &ca.authority.directory);
            match self.outside.acme.directory(&ca.authority).await {
                Ok(seen) => {
                    all.push(found("CA_REACHABLE", name, format!("{directory} answers")));
                    names.extend(seen.caa_identities);
                    if let Some(profile) = &ca.profile
                        && !seen.profiles.contains(profile)
                    {
                        let there = match seen.profiles.is_empty() {
                            true => "it has none".to_owned(),
                            false => format!("it has {}", seen.profiles.join(", ")),
                        };
                        let message = format!(
                            "there is no profile {profile:?}, {there}: mend `profile` of [[certificates.acme]] {name}"
                        );
                        all.push(found("CA_PROFILE_UNKNOWN", name, message));
                    }
                    if seen.external_account_required && ca.authority.external.is_none() {
                        let message = format!(
                            "{name} wants an account that it knows: set eab_key_id and eab_key_file"
                        );
                        all.push(found("CA_WANTS_ACCOUNT", name, message));
                    }
                }
                Err(trouble) => {
                    let message = format!(
                        "{directory}: {}; look at the CA's status page, and at this host's way out",
                        trouble.message
                    );
                    all.push(found("CA_UNREACHABLE", name, message));
                }
            }
        }
        if failed.trouble == CertificateTrouble::Clock
            || failed.trouble == CertificateTrouble::Local
        {
            return all;
        }
        let names = names.into_iter().collect::<Vec<String>>();
        match Names::asking(&config.resolvers) {
            Err(why) => all.push(found(
                "DNS_UNKNOWN",
                &certificate.name,
                format!("no name server can be asked: {why}"),
            )),
            Ok(servers) => {
                // Those that the CA complained of first.
                let mut domains: Vec<&String> = failed.identifiers.iter().collect();
                domains.extend(
                    certificate.identifiers.iter().filter(|it| !failed.identifiers.contains(it)),
                );
                for domain in domains.into_iter().take(DOMAINS) {
                    if domain.parse::<IpAddr>().is_err() {
                        all.extend(look_at_domain(&servers, certificate, domain, &names).await);
                    }
                }
            }
        }
        all
    }

    /// What the CAs still allow, and what is there for need.
    fn what_is_left(&self, certificate: &Certificate) -> Vec<Found> {
        let mut all = Vec::new();
        if let Ok(budgets) = self.budget(&certificate.name) {
            for (_, ca, used) in budgets.into_iter().filter(|(_, _, used)| used.next_at.is_some()) {
                let at = used.next_at.map(|at| at.to_string()).unwrap_or_default();
                let message = format!(
                    "{ca}: {} of {} are used of {}, the next at {at}",
                    used.used, used.allowed, used.limit
                );
                all.push(found("BUDGET_EXHAUSTED", used.subject, message));
            }
        }
        let name = &certificate.name;
        let Ok(standing) = self.standing(name) else { return all };
        let now = self.now();
        match &standing.backup {
            Some(it) if plan::usable(it, &certificate.identifiers, now).is_ok() => {
                let message = format!(
                    "one is kept for need, until {}; it takes over by itself when none else is left",
                    it.not_after
                );
                all.push(found("BACKUP_CERTIFICATE", name, message));
            }
            _ => {
                let message = format!(
                    "none is kept for need: `genesisctl cert install-backup --domain {name} --fullchain FILE --key FILE`"
                );
                all.push(found("BACKUP_CERTIFICATE_MISSING", name, message));
            }
        }
        all
    }
}

async fn look_at_domain(
    servers: &Names,
    certificate: &Certificate,
    domain: &str,
    cas: &[String],
) -> Vec<Found> {
    let mut all = Vec::new();
    let (bare, wildcard) = match domain.strip_prefix("*.") {
        Some(bare) => (bare, true),
        None => (domain, false),
    };
    match servers.allowed(bare, wildcard).await {
        Err(why) => {
            let message = format!("its CAA records can't be had, and CAs refuse then: {why}");
            all.push(found("DNS_CAA_UNKNOWN", domain, message));
        }
        Ok(None) => {}
        Ok(Some(allowed)) => {
            if !cas.is_empty() && !allowed.issuers.iter().any(|it| cas.contains(it)) {
                let message = format!(
                    "update DNS: the CAA records of {} allow {}; add `{} CAA 0 issue \"{}\"`",
                    allowed.at,
                    if allowed.issuers.is_empty() {
                        "nobody".to_owned()
                    } else {
                        allowed.issuers.join(", ")
                    },
                    allowed.at,
                    cas[0]
                );
                all.push(found("DNS_CAA_FORBIDS", domain, message));
            }
        }
    }
    match &certificate.answer {
        Answer::DnsUpdate(_) | Answer::DnsHook { .. } => {
            let name = format!("_acme-challenge.{bare}");
            match servers.texts(&name).await {
                Err(why) => all.push(found(
                    "DNS_TXT_UNKNOWN",
                    domain,
                    format!("{name} can't be looked up: {why}"),
                )),
                Ok(texts) if !texts.is_empty() => {
                    let message = format!(
                        "update DNS: {name} still has {} TXT record(s) of an earlier attempt; remove them",
                        texts.len()
                    );
                    all.push(found("DNS_TXT_LEFT", domain, message));
                }
                Ok(_) => {
                    let message = format!(
                        "nobody answers for {name} now, as it should be between attempts: look whether the record was set where the zone's own servers have it"
                    );
                    all.push(found("DNS_TXT_ABSENT", domain, message));
                }
            }
        }
        _ => all.extend(look_at_addresses(servers, domain, bare).await),
    }
    all
}

async fn look_at_addresses(servers: &Names, domain: &str, bare: &str) -> Vec<Found> {
    let own = own_addresses();
    let shown = |addresses: &[IpAddr]| {
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let record = |address: &IpAddr| match address {
        IpAddr::V4(address) => format!("`{bare} A {address}`"),
        IpAddr::V6(address) => format!("`{bare} AAAA {address}`"),
    };
    let wanted = || {
        let records: Vec<String> = own.iter().filter(|it| is_public(it)).map(record).collect();
        match records.is_empty() {
            // Behind a translation of addresses the host does not know what it is called outside.
            true => "the address by which this host is reached from outside".to_owned(),
            false => records.join(" or "),
        }
    };
    match servers.addresses(bare).await {
        Err(why) => vec![found("DNS_UNKNOWN", domain, format!("it can't be looked up: {why}"))],
        Ok(addresses) if addresses.is_empty() => {
            let message = format!("update DNS: it has no address; add {}", wanted());
            vec![found("DNS_ABSENT", domain, message)]
        }
        Ok(addresses) => {
            let elsewhere: Vec<IpAddr> = addresses
                .iter()
                .filter(|it| !own.contains(it) && !it.is_loopback())
                .copied()
                .collect();
            match elsewhere.is_empty() {
                true => {
                    vec![found("DNS_FITS", domain, format!("it leads here: {}", shown(&addresses)))]
                }
                false => {
                    let message = format!(
                        "it leads to {}, which is no address of this host: where nothing there hands the CA's requests on, update DNS to {}",
                        shown(&elsewhere),
                        wanted()
                    );
                    vec![found("DNS_ELSEWHERE", domain, message)]
                }
            }
        }
    }
}

/// The addresses of this host, as the kernel knows them.
fn own_addresses() -> Vec<IpAddr> {
    crate::outside::host::addresses()
}

fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => !(it.is_private() || it.is_loopback() || it.is_link_local()),
        IpAddr::V6(it) => {
            !(it.is_loopback()
                || it.segments()[0] & 0xffc0 == 0xfe80
                || it.segments()[0] & 0xfe00 == 0xfc00)
        }
    }
}
