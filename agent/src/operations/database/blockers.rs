//! Who holds up whom, who is at the root of it, and who may be ended. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::outside::database::sessions::{Backend, Look, NO_KILL, Named, Prepared, Way};

/// A session that idles for less may be about to be used.
pub const IDLE_LEAST: Duration = Duration::from_secs(1);
/// What a vacuum that keeps the server from losing data says of itself.
const WRAPAROUND: &str = "(to prevent wraparound)";

/// One that waits, or is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Who.
    pub who: Who,
    /// Whom it waits for; empty: it is at the root.
    pub waits_for: Vec<i32>,
    /// For so long.
    pub waiting: Duration,
    /// So many wait for it, directly or through others.
    pub holds_up: usize,
    /// The longest of them for so long.
    pub longest: Duration,
    /// Why it is not ended; `None`: nothing speaks against it.
    pub protected: Option<String>,
}

/// A session, or what is left of one.
#[allow(clippy::large_enum_variant)] // There are a few of them at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// A session.
    Session(Backend),
    /// A prepared transaction, which has none.
    Prepared(Prepared),
}

impl Shown {
    /// It waits for nobody, and others for it.
    pub fn is_root(&self) -> bool {
        self.waits_for.is_empty() && self.holds_up > 0
    }

    /// In a few words.
    pub fn words(&self) -> String {
        match &self.who {
            Who::Session(backend) => words(backend),
            Who::Prepared(prepared) => format!(
                "the prepared transaction {:?} of {} in {}",
                prepared.name, prepared.owner, prepared.database
            ),
        }
    }

    /// The session, in what it does now.
    pub fn named(&self) -> Option<Named> {
        match &self.who {
            Who::Session(backend) => backend.named(),
            Who::Prepared(_) => None,
        }
    }
}

/// A session in a few words.
pub fn words(backend: &Backend) -> String {
    let application = match backend.application.as_str() {
        "" => String::new(),
        application => format!(", {application}"),
    };
    let client = match backend.client.as_str() {
        "" => String::new(),
        client => format!(" from {client}"),
    };
    let Backend { pid, user, database, state, .. } = backend;
    format!("pid {pid} ({user} in {database}{application}{client}; {state})")
}

/// A node of who waits for whom: a process, or the name of a prepared transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node<'a> {
    Pid(i32),
    Prepared(&'a str),
}

/// Whom each waits for. Those that are gone by now, and itself, count for nothing.
fn edges(look: &Look) -> BTreeMap<Node<'_>, BTreeSet<Node<'_>>> {
    let there: BTreeSet<i32> = look.backends.iter().map(|backend| backend.pid).collect();
    let of = |backend: &'_ Backend| -> BTreeSet<Node<'_>> {
        let pids = backend.waits_for.iter().filter(|pid| there.contains(pid));
        pids.filter(|pid| **pid != backend.pid).map(|pid| Node::Pid(*pid)).collect()
    };
    let waiting = look.backends.iter().filter(|backend| backend.waiting_since.is_some());
    waiting
        .map(|backend| {
            let mut whom = of(backend);
            whom.extend(backend.prepared.iter().map(|name| Node::Prepared(name)));
            (Node::Pid(backend.pid), whom)
        })
        .filter(|(_, whom)| !whom.is_empty())
        .collect()
}

/// Everyone that waits for `node`, directly or through others; itself where it is on a ring.
fn behind<'a>(
    node: Node<'a>,
    edges: &BTreeMap<Node<'a>, BTreeSet<Node<'a>>>,
) -> BTreeSet<Node<'a>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![node]);
    while let Some(next) = open.pop() {
        for (waiter, whom) in edges {
            if whom.contains(&next) && found.insert(*waiter) {
                open.push(*waiter);
            }
        }
    }
    found
}

/// Everyone that waits or is waited for: the roots first, who holds up most before the others, each followed by those
/// that it holds up, and last the rings, which the server itself breaks.
pub fn chains(look: &Look, spared: &[String]) -> Vec<Shown> {
    let edges = edges(look);
    let nodes: BTreeSet<Node<'_>> =
        edges.iter().flat_map(|(waiter, whom)| whom.iter().copied().chain([*waiter])).collect();
    let mut shown: BTreeMap<Node<'_>, Shown> = BTreeMap::new();
    let mut held: BTreeMap<Node<'_>, BTreeSet<Node<'_>>> = BTreeMap::new();
    for node in nodes {
        let behind = behind(node, &edges);
        let others = behind.iter().filter(|other| **other != node);
        let longest = others.clone().filter_map(|other| match other {
            Node::Pid(pid) => look.backend(*pid).map(|backend| look.age(backend.waiting_since)),
            Node::Prepared(_) => None,
        });
        let (longest, holds_up) = (longest.max().unwrap_or_default(), others.count());
        let whom = edges.get(&node).into_iter().flatten();
        let waits_for: BTreeSet<i32> =
            whom.map(|node| if let Node::Pid(pid) = node { *pid } else { 0 }).collect();
        let waits_for: Vec<i32> = waits_for.into_iter().collect();
        let one = match node {
            Node::Pid(pid) => look.backend(pid).map(|backend| Shown {
                who: Who::Session(backend.clone()),
                waiting: look.age(backend.waiting_since),
                protected: protected(backend, spared),
                waits_for,
                holds_up,
                longest,
            }),
            Node::Prepared(name) => {
                look.prepared.iter().find(|prepared| prepared.name == name).map(|prepared| Shown {
                    who: Who::Prepared(prepared.clone()),
                    waiting: Duration::ZERO,
                    protected: Some(
                        "it is a prepared transaction: only its owner knows whether it commits"
                            .to_owned(),
                    ),
                    waits_for,
                    holds_up,
                    longest,
                })
            }
        };
        shown.extend(one.map(|one| (node, one)));
        held.insert(node, behind);
    }
    let mut roots: Vec<Node<'_>> =
        shown.iter().filter(|(_, one)| one.is_root()).map(|(node, _)| *node).collect();
    roots.sort_by_key(|node| std::cmp::Reverse(shown.get(node).map_or(0, |one| one.holds_up)));
    let mut order: Vec<Node<'_>> = Vec::new();
    for root in roots {
        let mut after: Vec<Node<'_>> = held.get(&root).into_iter().flatten().copied().collect();
        // Who has waited longest was there first.
        after.sort_by_key(|node| std::cmp::Reverse(shown.get(node).map(|one| one.waiting)));
        for node in std::iter::once(root).chain(after) {
            if !order.contains(&node) {
                order.push(node);
            }
        }
    }
    let rest: Vec<Node<'_>> = shown.keys().filter(|node| !order.contains(node)).copied().collect();
    order.extend(rest);
    order.iter().filter_map(|node| shown.remove(node)).collect()
}

/// The roots that hold somebody up for longer than `patience`, who holds up most first.
pub fn roots(look: &Look, spared: &[String], patience: Duration) -> Vec<Shown> {
    let all = chains(look, spared).into_iter();
    all.filter(|one| one.is_root() && one.longest > patience).collect()
}

/// So many sessions have waited for others for longer than `patience`.
pub fn waiting(look: &Look, patience: Duration) -> usize {
    chains(look, &[])
        .iter()
        .filter(|one| !one.waits_for.is_empty() && one.waiting > patience)
        .count()
}

/// Whether anybody waits for this session.
pub fn waited_for(look: &Look, pid: i32) -> bool {
    look.backends.iter().any(|backend| backend.waits_for.contains(&pid))
}

/// Why a session is not ended; `None`: nothing speaks against it.
pub fn protected(backend: &Backend, spared: &[String]) -> Option<String> {
    let why = match backend.kind.as_str() {
        "" => "the agent's role may not see what it is; it needs pg_monitor".to_owned(),
        "autovacuum worker" if backend.query.contains(WRAPAROUND) => {
            "it is a vacuum against the wraparound of transaction ids".to_owned()
        }
        "client backend" | "autovacuum worker" => match () {
            () if backend.is_ours() => "it is one of the agent's own".to_owned(),
            () if backend.marked => format!("its statement says {NO_KILL}"),
            () if spared.contains(&backend.user) => {
                format!("the role {} is one of spared_roles", backend.user)
            }
            () if backend.replicates => format!("the role {} is for replication", backend.user),
            () if backend.backend_start.is_none() => {
                "the agent's role may not see since when it is there".to_owned()
            }
            () if !backend.may_end => {
                "the server does not let the agent's role end it: a superuser's session, or pg_signal_backend is missing"
                    .to_owned()
            }
            () => return None,
        },
        kind => format!("it is a {kind}"),
    };
    Some(why)
}

/// How what a session does is ended: in which order it is tried. A session without a statement has none to cancel.
pub fn ways(backend: &Backend) -> &'static [Way] {
    match backend.state.as_str() {
        "active" | "fastpath function call" => &[Way::Cancel, Way::Terminate],
        _ => &[Way::Terminate],
    }
}

/// The sessions that may go to make room, in order: those that idle, the longest first, then those that idle in a
/// transaction, the oldest first. At most a quarter of the slots that are taken, and no more than are missing to
/// `goal` percent.
pub fn resets(look: &Look, spared: &[String], goal: f64) -> Vec<Backend> {
    let mut idle: Vec<(u8, &Backend)> = Vec::new();
    for backend in look.clients().filter(|backend| protected(backend, spared).is_none()) {
        let rank = match backend.state.as_str() {
            "idle" => 0,
            "idle in transaction" | "idle in transaction (aborted)" => 1,
            _ => continue,
        };
        if look.age(backend.state_change) >= IDLE_LEAST {
            idle.push((rank, backend));
        }
    }
    idle.sort_by_key(|(rank, backend)| {
        let since = if *rank == 0 { backend.state_change } else { backend.xact_start };
        (*rank, since, backend.pid)
    });
    let wanted = (f64::from(look.usable()) * goal / 100.0).ceil() as u32;
    let missing = wanted.saturating_sub(look.available());
    let step = (look.used() / 4).max(1);
    let most = missing.min(step) as usize;
    idle.into_iter().take(most).map(|(_, backend)| backend.clone()).collect()
}

/// A session that is meant only while it goes on idling.
pub fn while_idle(backend: &Backend) -> Option<Named> {
    Some(Named { still_since: Some(backend.state_change?), ..backend.named()? })
}

/// The session whose statement was cancelled, where it has begun nothing else and yet others wait for it: a lock of the
/// session outlives its transaction. It is meant only while it goes on doing nothing.
pub fn after_cancel(look: &Look, meant: &Named) -> Option<Named> {
    let backend = look.backend(meant.pid)?;
    let named = while_idle(backend)?;
    let idles = backend.state.starts_with("idle");
    let same = named.backend_start == meant.backend_start;
    (idles && same && waited_for(look, meant.pid)).then_some(named)
}

#[cfg(test)]
mod tests;
