//! Who is in the fleet. A member is a key that ends with its agent; every host that has been one is remembered until it is
//! forgotten on purpose.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use super::{Fleet, Me};
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Entry, Guard};
use crate::plan::{Plan, PlanStep};

/// How a member stands in an emergency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// An emergency is in force there.
    pub emergency: bool,
    /// The fleet's that it knows to be in force; 0: none.
    pub fleet_epoch: u64,
}

/// What a member tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    host: String,
    version: String,
    node: String,
    since: Timestamp,
    #[serde(default)]
    stand: Stand,
}

/// An agent that lives, or the last one of a host that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The identity of its host.
    pub host_id: String,
    /// The agent's session; empty: it is only remembered.
    pub session: String,
    /// The host's name.
    pub host: String,
    /// Of its agent.
    pub version: String,
    /// Where genesisctl reaches it.
    pub node: String,
    /// When its agent started.
    pub since: Timestamp,
    /// How it stands in an emergency; `None`: what it tells can't be read by this agent.
    pub stand: Option<Stand>,
}

/// A host of the fleet, with the agents that live under its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// The newest of them, or the last that is remembered.
    pub member: Member,
    /// How many live: none, one, or more than may be.
    pub alive: usize,
    /// The names of all that live under its identity, where there is more than one.
    pub twins: Vec<String>,
}

/// What a member's key holds.
pub(super) fn member_value(me: &Me, stand: &Stand) -> Vec<u8> {
    let told = Told {
        host: me.host.clone(),
        version: me.version.clone(),
        node: me.node.clone(),
        since: me.since,
        stand: stand.clone(),
    };
    // Of strings, numbers and a time: it can be written.
    serde_json::to_vec(&told).unwrap_or_default()
}

impl Member {
    /// Of a key of a member, or of one that is remembered; `None`: it is none. One whose value can't be read is there all
    /// the same.
    pub(super) fn of(keys: &Keys, entry: &Entry) -> Option<Self> {
        let (host_id, session) = match entry.key.strip_prefix(&keys.members()) {
            Some(rest) => rest.split_once('/')?,
            None => (entry.key.strip_prefix(&keys.roster())?, ""),
        };
        let (host_id, session) = (host_id.to_owned(), session.to_owned());
        let Ok(told) = serde_json::from_slice::<Told>(&entry.value) else {
            let (host, version, node) = (host_id.clone(), String::new(), String::new());
            let since = Timestamp::UNIX_EPOCH;
            return Some(Self { host_id, session, host, version, node, since, stand: None });
        };
        let Told { host, version, node, since, stand } = told;
        Some(Self { host_id, session, host, version, node, since, stand: Some(stand) })
    }
}

/// Puts the hosts together, by name: those that live, and those that are only remembered.
pub(super) fn hosts(members: Vec<Member>) -> Vec<HostView> {
    let mut by_id: BTreeMap<String, Vec<Member>> = BTreeMap::new();
    for member in members {
        by_id.entry(member.host_id.clone()).or_default().push(member);
    }
    let mut hosts: Vec<HostView> = by_id
        .into_values()
        .filter_map(|mut of_host| {
            // The newest that lives first, what is remembered last.
            of_host.sort_by_key(|it| (it.session.is_empty(), std::cmp::Reverse(it.since)));
            let alive: Vec<&Member> = of_host.iter().filter(|it| !it.session.is_empty()).collect();
            let twins = match alive.as_slice() {
                [] | [_] => Vec::new(),
                several => several.iter().map(|it| it.host.clone()).collect(),
            };
            let alive = alive.len();
            Some(HostView { member: of_host.into_iter().next()?, alive, twins })
        })
        .collect();
    hosts.sort_by(|one, other| {
        (&one.member.host, &one.member.host_id).cmp(&(&other.member.host, &other.member.host_id))
    });
    hosts
}

impl Fleet {
    /// How this host stands.
    pub(super) fn stand(&self) -> Stand {
        let record = self.emergency.current().filter(|record| record.active());
        let mark = record.as_ref().and_then(|it| it.fleet).filter(|mark| mark.told);
        Stand { emergency: record.is_some(), fleet_epoch: mark.map_or(0, |mark| mark.epoch) }
    }

    /// Tells the fleet how this host stands, if it has not been told.
    pub(super) async fn tell_stand(&self) {
        // Without a lease it would stay for ever.
        let Some(open) = self.opened().filter(|open| open.lease != 0) else { return };
        let stand = self.stand();
        let told = Some((self.me.session.clone(), stand.clone()));
        if self.now().told == told {
            return;
        }
        let key = self.keys.session(&self.me.host_id, &self.me.session);
        let value = member_value(&self.me, &stand);
        match open.link.commit(&[], &[Act::Put { key, value, lease: open.lease }]).await {
            Ok(_) => self.now().told = told,
            Err(trouble) => self.broken(&open, &trouble),
        }
    }

    /// Who else lives under this host's identity. An agent that was killed is still there for a lease, under an older
    /// session: it is none of them before that has ended.
    pub(super) fn twins_among(&self, members: Vec<Member>) -> Vec<Member> {
        let others = members.into_iter().filter(|it| it.session != self.me.session);
        // Not by the wall clock, which may be set.
        let lives = self.clock.monotonic().saturating_sub(self.now().heard.1);
        let settled = lives >= self.config.lease * 2;
        others.filter(|other| settled || other.since > self.me.since).collect()
    }

    /// Every host of the fleet.
    ///
    /// # Errors
    /// `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn hosts(&self) -> Result<Vec<HostView>> {
        let mut members = Vec::new();
        for prefix in [self.keys.members(), self.keys.roster()] {
            let listed = self.list(&prefix).await?;
            members.extend(listed.iter().filter_map(|it| Member::of(&self.keys, it)));
        }
        Ok(hosts(members))
    }

    async fn gone(&self, name: &str) -> Result<HostView> {
        let found: Vec<HostView> = self.hosts().await?;
        let mut named: Vec<HostView> = found
            .into_iter()
            .filter(|it| it.member.host_id == name || it.member.host == name)
            .collect();
        match (named.pop(), named.is_empty()) {
            (Some(host), true) if host.alive > 0 => Err(Error::conflict(
                "MEMBER_ALIVE",
                format!(
                    "{name} is alive at {}; only a host that is gone can be forgotten",
                    host.member.node
                ),
            )),
            (Some(host), true) => Ok(host),
            (Some(_), false) => Err(Error::conflict(
                "MEMBER_UNCLEAR",
                format!(
                    "several hosts are named {name}: give the identity, as `genesisctl fleet members -v` shows it"
                ),
            )),
            (None, _) => {
                Err(Error::not_found("MEMBER_NOT_FOUND", format!("the fleet knows no host {name}")))
            }
        }
    }

    /// What forgetting a host would do.
    ///
    /// # Errors
    /// `MEMBER_NOT_FOUND`, `MEMBER_ALIVE`, `MEMBER_UNCLEAR`, `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`.
    pub async fn plan_forget(&self, name: &str) -> Result<Plan> {
        let host = self.gone(name).await?.member;
        let since = host.since.to_string();
        let step = PlanStep::new(
            "forget",
            format!("{} ({})", host.host, host.host_id),
            "it is listed no more, until its agent is there again",
        );
        Ok(Plan::new("fleet.forget", &[&host.host_id, &since], vec![step]))
    }

    /// Forgets a host that is gone.
    ///
    /// # Errors
    /// As [`Fleet::plan_forget`], and `PLAN_CHANGED`.
    pub async fn forget(&self, name: &str, plan_hash: &str) -> Result<Member> {
        self.plan_forget(name).await?.accept(plan_hash)?;
        let host = self.gone(name).await?.member;
        let (open, key) = (self.open().await?, self.keys.known(&host.host_id));
        let listed = open.link.list(&key).await.map_err(|trouble| self.unreachable(&trouble))?;
        if let Some(entry) = listed.entries.into_iter().find(|entry| entry.key == key) {
            // One that came back meanwhile has written it anew.
            let guards = [Guard::Modified(key.clone(), entry.modified)];
            // What it said of the matrix goes with it; the head of its log stays, for it may come back.
            let acts = [Act::Delete(key), Act::Delete(self.keys.matrix_ack(&host.host_id))];
            let committed = open.link.commit(&guards, &acts).await;
            let committed = committed.map_err(|trouble| self.unreachable(&trouble))?;
            if !committed.done {
                let message = format!("{name} has come back meanwhile");
                return Err(Error::conflict("MEMBER_ALIVE", message));
            }
        }
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host_id: &str, session: &str, host: &str, since: i64) -> Member {
        Member {
            host_id: host_id.into(),
            session: session.into(),
            host: host.into(),
            version: "1".into(),
            node: format!("{host}:7443"),
            since: Timestamp::from_second(since).unwrap(),
            stand: Some(Stand::default()),
        }
    }

    #[test]
    fn hosts_are_put_together_by_their_identity() {
        let views = hosts(vec![
            member("2", "s2", "b", 5),
            member("2", "", "b-was", 1),
            member("1", "", "gone", 1),
            member("3", "s3", "a", 1),
            member("3", "s4", "copy", 9),
            member("3", "", "a", 1),
        ]);
        let shown: Vec<(&str, usize, usize)> =
            views.iter().map(|it| (it.member.host.as_str(), it.alive, it.twins.len())).collect();
        assert_eq!(shown, [("b", 1, 0), ("copy", 2, 2), ("gone", 0, 0)]);
        assert_eq!(views[1].twins, ["copy", "a"]);
    }

    #[test]
    fn a_member_comes_back_as_it_was_told() {
        let keys = Keys::of("prod");
        let me = Me {
            host_id: "1".into(),
            host: "a".into(),
            session: "s".into(),
            before: String::new(),
            version: "0.1".into(),
            node: "a:7443".into(),
            since: Timestamp::UNIX_EPOCH,
        };
        let stand = Stand { emergency: true, fleet_epoch: 9 };
        let entry =
            |key: String, value: Vec<u8>| Entry { key, value, created: 1, modified: 1, lease: 1 };
        let read =
            Member::of(&keys, &entry(keys.session("1", "s"), member_value(&me, &stand))).unwrap();
        assert_eq!((read.host_id.as_str(), read.session.as_str()), ("1", "s"));
        assert_eq!(read.stand, Some(stand.clone()));
        let known = Member::of(&keys, &entry(keys.known("1"), member_value(&me, &stand))).unwrap();
        assert_eq!((known.session.as_str(), known.node.as_str()), ("", "a:7443"));
        for key in [keys.members() + "1", "x".into()] {
            assert_eq!(Member::of(&keys, &entry(key, "{}".into())), None);
        }
        // It is there, whatever it says.
        let odd = Member::of(&keys, &entry(keys.session("1", "s"), "{".into())).unwrap();
        assert_eq!((odd.host_id.as_str(), odd.host.as_str(), odd.stand), ("1", "1", None));
    }
}
