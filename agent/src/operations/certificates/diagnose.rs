//! Why an attempt failed, as far as it can be found out from here, and what to do about it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use genesis_storage::CertificateTrouble;

use super::config::{Ca, Certificate};
use super::failed::Failed;
use super::{Certificates, plan};
use crate::outside::acme::{Answer, Directory};
use crate::outside::names::{Allowed, Names};

/// A CA has so long to say something.
const CA: Duration = Duration::from_secs(6);
/// Of a domain each thing is found out within this.
const DOMAIN: Duration = Duration::from_secs(12);
/// So many domains are looked at.
const DOMAINS: usize = 5;

/// A code, what it is about, and what to do.
type Found = (String, String, String);

/// What was found of a domain, and which CAs may issue for it, where its records say so.
type Seen = (Vec<Found>, Option<(String, Allowed)>);

fn found(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Found {
    (code.to_owned(), subject.into(), message.into())
}

impl Certificates {
    /// What can be found out about a failed attempt. Everything is looked at at once, and each thing has its own time, 12 s
    /// at most: what does not answer keeps nothing from being told that does.
    pub(super) async fn diagnose(&self, certificate: &Certificate, failed: &Failed) -> Vec<Found> {
        let (cas, domains) =
            tokio::join!(self.look_at_cas(certificate), self.look_at_domains(certificate, failed));
        let (mut all, issuers) = cas;
        for (found, allowed) in domains {
            all.extend(
                allowed.and_then(|(domain, allowed)| forbidden(&domain, &allowed, &issuers)),
            );
            all.extend(found);
        }
        all.extend(self.what_is_left(certificate));
        all
    }

    /// What the CAs say of themselves, and the names by which CAA records allow them.
    async fn look_at_cas(&self, certificate: &Certificate) -> (Vec<Found>, Vec<String>) {
        let config = self.config.load_full();
        let asked =
            certificate.cas.iter().filter_map(|name| config.ca(name)).map(|ca| async move {
                let directory = self.outside.acme.directory(&ca.authority);
                (ca, tokio::time::timeout(CA, directory).await)
            });
        let (mut all, mut issuers) = (Vec::new(), BTreeSet::new());
        for (ca, answer) in join_all(asked).await {
            let (name, directory) = (&ca.authority.name, &ca.authority.directory);
            let why = match answer {
                Ok(Ok(seen)) => {
                    all.extend(fits(ca, &seen));
                    issuers.extend(seen.caa_identities);
                    continue;
                }
                Ok(Err(trouble)) => trouble.message,
                Err(_) => format!("no answer within {} s", CA.as_secs()),
            };
            let message = format!(
                "{directory}: {why}; look at the CA's status page, and at this host's way out"
            );
            all.push(found("CA_UNREACHABLE", name, message));
        }
        (all, issuers.into_iter().collect())
    }

    /// What the domain name system says, by domain: and who may issue for it, where it says that.
    async fn look_at_domains(&self, certificate: &Certificate, failed: &Failed) -> Vec<Seen> {
        if matches!(failed.trouble, CertificateTrouble::Clock | CertificateTrouble::Local) {
            return Vec::new();
        }
        let servers = match Names::asking(&self.config.load().resolvers) {
            Ok(servers) => servers,
            Err(why) => {
                let message = format!("no name server can be asked: {why}");
                return vec![(vec![found("DNS_UNKNOWN", &certificate.name, message)], None)];
            }
        };
        // Those that the CA complained of first.
        let others = certificate.identifiers.iter().filter(|it| !failed.identifiers.contains(it));
        let mut domains: Vec<&String> =
            failed.identifiers.iter().chain(others).take(DOMAINS).collect();
        domains.retain(|domain| domain.parse::<IpAddr>().is_err());
        let each = domains.into_iter().map(|it| look_at_domain(&servers, certificate, it));
        join_all(each).await
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

/// A CA that answers, and what of our configuration does not fit it.
fn fits(ca: &Ca, seen: &Directory) -> Vec<Found> {
    let (name, directory) = (&ca.authority.name, &ca.authority.directory);
    let mut all = vec![found("CA_REACHABLE", name, format!("{directory} answers"))];
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
        let message =
            format!("{name} wants an account that it knows: set eab_key_id and eab_key_file");
        all.push(found("CA_WANTS_ACCOUNT", name, message));
    }
    all
}

async fn look_at_domain(servers: &Names, certificate: &Certificate, domain: &str) -> Seen {
    let (bare, wildcard) = match domain.strip_prefix("*.") {
        Some(bare) => (bare, true),
        None => (domain, false),
    };
    let shown = async {
        match &certificate.answer {
            Answer::DnsUpdate(_) | Answer::DnsHook { .. } => {
                look_at_texts(servers, domain, bare).await
            }
            _ => look_at_addresses(servers, domain, bare).await,
        }
    };
    let (allowed, shown) = tokio::join!(
        tokio::time::timeout(DOMAIN, servers.allowed(bare, wildcard)),
        tokio::time::timeout(DOMAIN, shown)
    );
    let late = || {
        let message = format!("looking it up takes longer than {} s", DOMAIN.as_secs());
        vec![found("DIAGNOSIS_INCOMPLETE", domain, message)]
    };
    let (mut all, allowed) = match allowed {
        Err(_) => (late(), None),
        Ok(Err(why)) => {
            let message = format!("its CAA records can't be had, and CAs refuse then: {why}");
            (vec![found("DNS_CAA_UNKNOWN", domain, message)], None)
        }
        Ok(Ok(allowed)) => (Vec::new(), allowed.map(|allowed| (domain.to_owned(), allowed))),
    };
    all.extend(shown.unwrap_or_else(|_| late()));
    (all, allowed)
}

/// What is wrong where CAA records allow none of the CAs, by the names that they go by there.
fn forbidden(domain: &str, allowed: &Allowed, cas: &[String]) -> Option<Found> {
    if cas.is_empty() || allowed.issuers.iter().any(|it| cas.contains(it)) {
        return None;
    }
    let message = format!(
        "update DNS: the CAA records of {} allow {}; add `{} CAA 0 issue \"{}\"`",
        allowed.at,
        if allowed.issuers.is_empty() { "nobody".to_owned() } else { allowed.issuers.join(", ") },
        allowed.at,
        cas[0]
    );
    Some(found("DNS_CAA_FORBIDS", domain, message))
}

async fn look_at_texts(servers: &Names, domain: &str, bare: &str) -> Vec<Found> {
    let name = format!("_acme-challenge.{bare}");
    let (code, message) = match servers.texts(&name).await {
        Err(why) => ("DNS_TXT_UNKNOWN", format!("{name} can't be looked up: {why}")),
        Ok(texts) if !texts.is_empty() => (
            "DNS_TXT_LEFT",
            format!(
                "update DNS: {name} still has {} TXT record(s) of an earlier attempt; remove them",
                texts.len()
            ),
        ),
        Ok(_) => (
            "DNS_TXT_ABSENT",
            format!(
                "nobody answers for {name} now, as it should be between attempts: look whether the record was set where the zone's own servers have it"
            ),
        ),
    };
    vec![found(code, domain, message)]
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
