//! dns-01 by commands of the operator; whether the record is there is seen at the zone's own servers.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_net::NetError;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::TokioResolver;
use serde_json::json;

use super::super::trouble::clean;
use super::wire;
use crate::outside::hooks::{self, Hook};

/// So many servers of a zone are asked, of each at most two addresses.
const SERVERS: usize = 8;
/// A name server has so long.
const LOOKUP: Duration = Duration::from_secs(3);
/// The first pause before servers are asked again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// The name of the record.
pub(super) fn name_of(domain: &str) -> String {
    format!("_acme-challenge.{domain}")
}

/// Has the hook set or remove a record.
///
/// # Errors
/// As it says.
pub(super) async fn run(
    hook: &Hook,
    action: &str,
    domain: &str,
    value: &str,
) -> Result<(), String> {
    let name = name_of(domain);
    let input = json!({ "action": action, "domain": domain, "name": name, "value": value });
    let variables = [
        ("ACTION", action.to_owned()),
        ("DOMAIN", domain.to_owned()),
        ("NAME", name),
        ("VALUE", value.to_owned()),
    ];
    let ran = hooks::run(hook, &input, &variables).await;
    ran.map(drop).map_err(|error| clean(&error.chain(), 400))
}

/// Waits until the record is seen at all servers that answer; at no server: until the zone's own ones are found.
///
/// # Errors
/// In words, when it is not seen in that time.
pub(super) async fn seen(
    domain: &str,
    value: &str,
    wait: Duration,
    resolvers: &[SocketAddr],
) -> Result<(), String> {
    if wait.is_zero() {
        return Ok(());
    }
    let name = wire::name(&name_of(domain))?;
    let mut last = "nobody has answered yet".to_owned();
    let look = async {
        let (mut pause, longest) = PAUSES;
        loop {
            match looked(&name, value, resolvers).await {
                Ok(()) => return,
                Err(why) => last = why,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    };
    let looked = tokio::time::timeout(wait, look).await;
    looked.map_err(|_| format!("{name} is not to be seen within {} s: {last}", wait.as_secs_f64()))
}

async fn looked(name: &Name, value: &str, resolvers: &[SocketAddr]) -> Result<(), String> {
    let (name, servers) = match resolvers {
        [] => own(name).await?,
        given => (name.clone(), given.to_vec()),
    };
    let asked = servers.iter().take(SERVERS).map(|server| {
        let name = &name;
        async move { (*server, wire::ask(*server, name, RecordType::TXT).await) }
    });
    let (mut answered, mut silent) = (false, None);
    for (server, answer) in join_all(asked).await {
        match answer {
            Ok(answer) if wire::holds(&answer, value) => answered = true,
            Ok(_) => return Err(format!("{server} does not have it")),
            // Such as one with an address that this host has no way to.
            Err(why) => silent = Some(why),
        }
    }
    if answered { Ok(()) } else { Err(silent.unwrap_or_else(|| "no server to ask".to_owned())) }
}

/// Where the name leads to, and the servers of that zone.
async fn own(name: &Name) -> Result<(Name, Vec<SocketAddr>), String> {
    let said = |error: NetError| format!("this host's resolver: {error}");
    let mut builder = TokioResolver::builder_tokio().map_err(said)?;
    let options = builder.options_mut();
    (options.timeout, options.attempts, options.cache_size) = (LOOKUP, 2, 0);
    found_by(&builder.build().map_err(said)?, name).await
}

async fn found_by(
    resolver: &TokioResolver,
    name: &Name,
) -> Result<(Name, Vec<SocketAddr>), String> {
    let mut name = name.clone();
    for _ in 0..wire::ALIASES {
        // That there is none is the usual answer.
        let Ok(found) = resolver.lookup(name.clone(), RecordType::CNAME).await else { break };
        let next = wire::followed(found.answers(), &name);
        if next == name {
            break;
        }
        name = next;
    }
    let mut zone = name.clone();
    let mut servers = Vec::new();
    while zone.num_labels() >= 2 && servers.is_empty() {
        if let Ok(found) = resolver.lookup(zone.clone(), RecordType::NS).await {
            for record in found.answers() {
                if let RData::NS(server) = &record.data {
                    servers.push(server.0.clone());
                }
            }
        }
        zone = zone.base_name();
    }
    servers.truncate(SERVERS);
    let found =
        join_all(servers.into_iter().map(|server| async move { resolver.lookup_ip(server).await }));
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for found in found.await.into_iter().flatten() {
        addresses.extend(found.iter().take(2).map(|address| SocketAddr::new(address, 53)));
    }
    addresses.truncate(SERVERS);
    match addresses.as_slice() {
        [] => Err(format!("the servers of {name}'s zone are not to be found")),
        _ => Ok((name, addresses)),
    }
}

#[cfg(test)]
pub(in crate::outside::acme) async fn servers_of(
    name: &str,
    by: SocketAddr,
) -> Result<(String, Vec<SocketAddr>), String> {
    use hickory_net::runtime::TokioRuntimeProvider;
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};

    let mut server = NameServerConfig::udp_and_tcp(by.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = by.port());
    let config = ResolverConfig::from_name_servers(vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = builder.build().map_err(|error| error.to_string())?;
    let (name, servers) = found_by(&resolver, &wire::name(name)?).await?;
    Ok((name.to_string(), servers))
}
