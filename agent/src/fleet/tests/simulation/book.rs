//! What people did and what etcd was told, written down beside the agents; and what follows from that, whatever they do. A
//! panic of this file is a promise that was broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use genesis_storage::EmergencyRecord;
use serde_json::Value;

use crate::fleet::emergency::FleetEmergency;
use crate::fleet::keys::Keys;
use crate::fleet::locks::Held;
use crate::outside::coordinator::{Change, Entry};

/// Who ends emergencies.
pub(super) const RELEASES: &str = "rita";

/// An emergency that somebody wished to be the whole fleet's.
#[derive(Debug, Clone)]
struct Wish {
    at: Duration,
    /// When this host first saw, at etcd and after that, that it is in force.
    told: Option<Duration>,
    /// Whoever declared it was told that it is.
    done: bool,
}

/// What is known of a host.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Whether the emergency in force there is its own, and no release of the fleet's ends it; `None`: it can't be said.
    own: Option<bool>,
    wish: Option<Wish>,
    /// The number of the emergency that somebody was told to be durable.
    durable: Option<u64>,
    /// So many people release it there at this moment.
    releasing: u32,
    /// Why it was released there.
    released: BTreeSet<String>,
}

/// See the module.
pub(super) struct Book {
    keys: Keys,
    /// Etcd was put back, or wiped, or lost a key: then what was released may be in force again, and tokens come again.
    pub(super) forgetful: bool,
    /// When the fleet's emergency was released, by why: no two are alike.
    releases: BTreeMap<String, Duration>,
    /// The last token of each lock.
    tokens: BTreeMap<String, i64>,
    /// What all have in common, by revision; for each time that etcd was put back another.
    common: Vec<BTreeMap<i64, Arc<Vec<Entry>>>>,
    hosts: BTreeMap<usize, Known>,
    /// Locks that somebody holds, or believes to hold.
    held: Vec<(String, usize, Weak<Held>)>,
}

/// What a key holds, where it can be read.
fn json(entry: &Entry) -> Option<Value> {
    serde_json::from_slice(&entry.value).ok()
}

fn emergency(entry: Option<&Entry>) -> Option<FleetEmergency> {
    serde_json::from_slice(&entry?.value).ok()
}

impl Default for Book {
    fn default() -> Self {
        Self {
            keys: Keys::of("prod"),
            forgetful: false,
            releases: BTreeMap::new(),
            tokens: BTreeMap::new(),
            common: Vec::new(),
            hosts: BTreeMap::new(),
            held: Vec::new(),
        }
    }
}

/// What etcd is told.
impl Book {
    /// What all have in common is this from a revision on.
    pub(super) fn common(&mut self, timeline: usize, revision: i64, entries: Vec<Entry>) {
        if self.common.len() <= timeline {
            self.common.push(BTreeMap::new());
        }
        self.common[timeline].insert(revision, Arc::new(entries));
    }

    /// A host has looked at the fleet's emergency.
    pub(super) fn looked(&mut self, host: usize, now: Duration, entry: Option<&Entry>) {
        if emergency(entry).is_some_and(|it| it.active()) {
            self.told(host, now);
        }
    }

    fn told(&mut self, host: usize, now: Duration) {
        if let Some(wish) = self.hosts.entry(host).or_default().wish.as_mut() {
            wish.told.get_or_insert(now);
        }
    }

    /// A key has changed: by a host, or by somebody who is none, whom no rule binds.
    pub(super) fn change(
        &mut self,
        (now, by): (Duration, Option<usize>),
        before: Option<&Entry>,
        change: &Change,
        entries: &BTreeMap<String, Entry>,
    ) {
        let (Change::Put(entry), Some(host)) = (change, by) else { return };
        let key = entry.key.as_str();
        let (locks, steps) = (self.keys.locks(), self.keys.step(""));
        if key == self.keys.emergency() {
            self.emergency_changed((now, host), before, entry);
        } else if let Some(name) = key.strip_prefix(&locks) {
            assert_eq!(entry.created, entry.modified, "lock {name} is taken from its holder");
            assert_ne!(entry.lease, 0, "lock {name} stays for ever");
            let last = self.tokens.insert(name.to_owned(), entry.created);
            let grows = self.forgetful || last.is_none_or(|last| last < entry.created);
            assert!(grows, "the token {} of lock {name} comes after {last:?}", entry.created);
        } else if let Some(name) = key.strip_prefix(&steps) {
            let token = json(entry).and_then(|it| it["token"].as_i64());
            let lock = entries.get(&self.keys.lock(name)).map(|lock| lock.created);
            assert_eq!(token, lock, "host {host} makes a step without the lock {name}");
        } else if key == self.keys.matrix() {
            self.matrix_changed(host, before, entry, entries);
        } else if key.starts_with(&self.keys.parameters()) {
            let version = |it: &Entry| json(it).and_then(|it| it["version"].as_u64()).unwrap();
            let (old, new) = (before.map_or(0, version), version(entry));
            assert!(new > old, "version {new} of {key} comes after {old}");
            assert!(self.forgetful || new == old + 1, "version {new} of {key} after {old}");
        } else if key.starts_with(&self.keys.members()) {
            assert_ne!(entry.lease, 0, "the member {key} stays for ever");
        }
    }

    fn emergency_changed(
        &mut self,
        (now, host): (Duration, usize),
        before: Option<&Entry>,
        entry: &Entry,
    ) {
        let new = emergency(Some(entry)).unwrap();
        let old = emergency(before);
        match (&new.release, old) {
            (Some(release), old) => {
                let same = FleetEmergency { release: None, ..new.clone() };
                assert_eq!(old, Some(same), "what is released is not what was in force");
                let again = self.releases.insert(release.reason.clone(), now);
                assert_eq!(again, None, "{} is made twice", release.reason);
            }
            (None, old) => {
                let over = old.as_ref().is_none_or(|old| !old.active());
                assert!(over, "an emergency in force is written over: {old:?} by {new:?}");
                let grows = old.as_ref().is_none_or(|old| old.epoch < new.epoch);
                assert!(grows, "an emergency has no new number: {old:?} before {new:?}");
                self.told(host, now);
            }
        }
    }

    fn matrix_changed(
        &mut self,
        host: usize,
        before: Option<&Entry>,
        entry: &Entry,
        entries: &BTreeMap<String, Entry>,
    ) {
        let current = |it: &Entry| json(it).map(|it| it["current"].clone()).unwrap();
        let new = current(entry);
        let number = |it: &Value| it["number"].as_u64().unwrap();
        let old = before.map_or(0, |before| number(&current(before)));
        assert!(number(&new) > old, "matrix {} comes after {old}", number(&new));
        let lock = entries.get(&self.keys.lock("matrices")).and_then(json);
        let holder = lock.map(|it| it["host_id"].clone());
        assert_eq!(holder, Some(new["host_id"].clone()), "host {host} publishes without the lock");
        let parts = u32::try_from(new["parts"].as_u64().unwrap()).unwrap();
        for part in 0..parts {
            let key = self.keys.matrix_part(number(&new), part);
            assert!(entries.contains_key(&key), "{key} is not there when it is pointed to");
        }
    }
}

/// What people do.
impl Book {
    fn known(&mut self, host: usize) -> &mut Known {
        self.hosts.entry(host).or_default()
    }

    /// Whether the emergency of a host is its own is not known while somebody declares one there; what was known.
    pub(super) fn declares(&mut self, host: usize) -> Option<bool> {
        self.known(host).own.take()
    }

    /// It is known again.
    pub(super) fn owns(&mut self, host: usize, own: Option<bool>) {
        self.known(host).own = own;
    }

    /// Whether the emergency of a host is known to be the fleet's alone.
    pub(super) fn is_of_fleet(&mut self, host: usize) -> bool {
        self.known(host).own == Some(false)
    }

    /// Somebody was told that this emergency of a host is durable.
    pub(super) fn is_durable(&mut self, host: usize, epoch: u64) {
        self.known(host).durable = Some(epoch);
    }

    /// Somebody wishes that the emergency of a host be the fleet's.
    pub(super) fn wishes(&mut self, host: usize, at: Duration) {
        self.known(host).wish = Some(Wish { at, told: None, done: false });
    }

    /// Whoever wished that at this time is told what came of it.
    pub(super) fn wished(&mut self, host: usize, at: Duration, done: bool) {
        let known = self.known(host);
        match known.wish.as_mut().filter(|wish| wish.at == at) {
            Some(wish) if done => wish.done = true,
            Some(_) => known.wish = None,
            None => {}
        }
    }

    /// Somebody begins to release it on a host, for this reason.
    pub(super) fn releases(&mut self, host: usize, reason: &str) {
        let known = self.known(host);
        known.releasing += 1;
        known.released.insert(reason.to_owned());
        known.durable = None;
    }

    /// Somebody has ended doing so. One that was not told to the fleet is taken back by that.
    pub(super) fn released(&mut self, host: usize, done: bool) {
        let known = self.known(host);
        known.releasing = known.releasing.saturating_sub(1);
        if done {
            known.wish = None;
        }
    }

    /// Somebody holds a lock.
    pub(super) fn holds(&mut self, name: &str, host: usize, held: Weak<Held>) {
        self.held.push((name.to_owned(), host, held));
    }

    /// A host is no more. `leaving`: it has heard that its emergency is over.
    pub(super) fn killed(&mut self, host: usize, leaving: bool) {
        let known = self.known(host);
        if leaving || known.releasing > 0 {
            known.durable = None;
        }
        known.releasing = 0;
        // Whether it was written down nobody was told.
        known.wish = known.wish.take().filter(|wish| wish.done);
    }

    /// A host is there again, with this emergency.
    pub(super) fn restarted(&mut self, host: usize, current: Option<&EmergencyRecord>) {
        let known = self.known(host);
        let active = current.filter(|it| it.active());
        if let Some(durable) = known.durable {
            let epoch = active.map(|it| it.epoch);
            assert_eq!(epoch, Some(durable), "host {host} has lost an emergency that was durable");
        }
        known.own = match active {
            None => Some(false),
            // The file of one that could not be recorded any more: then it counts as the host's own.
            Some(record) if record.fleet.is_none() => None,
            Some(_) => known.own,
        };
        if active.is_none() {
            known.wish = None;
        }
    }
}

/// What follows.
impl Book {
    /// What a host knows to be common at a revision was so then.
    pub(super) fn mirrors(&self, host: usize, revision: i64, known: &[Entry]) {
        let then = |timeline: &BTreeMap<i64, Arc<Vec<Entry>>>| {
            let last = timeline.range(..=revision).next_back();
            last.is_some_and(|(_, entries)| entries.as_slice() == known)
        };
        assert!(
            self.common.iter().any(then),
            "host {host} knows at revision {revision} what never was: {known:?}"
        );
    }

    /// An emergency of a host has come into force.
    pub(super) fn came(&mut self, host: usize, record: &EmergencyRecord) {
        // By the fleet, unless somebody here has declared it, who knows better.
        if record.activated_by.contains(" by the fleet from ") || record.activated_by == "fleet" {
            self.known(host).own = Some(false);
        }
    }

    /// An emergency of a host has ended.
    pub(super) fn ended(&mut self, host: usize, record: &EmergencyRecord) {
        let Some(release) = &record.release else {
            panic!("host {host} has ended an emergency without a release: {record:?}");
        };
        let known = self.hosts.entry(host).or_default();
        if release.by == RELEASES {
            let here = known.released.contains(&release.reason);
            assert!(here, "host {host} has ended an emergency that was released elsewhere");
        } else {
            let at = self.releases.get(&release.reason);
            let Some(at) = at else { panic!("host {host} ended what nobody released: {record:?}") };
            assert_ne!(known.own, Some(true), "host {host} ended one of its own for the fleet's");
            let newer = known.wish.as_ref().filter(|wish| wish.done);
            if let Some(wish) = newer {
                assert!(
                    wish.told.is_some_and(|told| told < *at),
                    "{} of {at:?} ended an emergency of host {host} that is newer: {wish:?}",
                    release.reason
                );
            }
        }
        (known.own, known.durable) = (Some(false), None);
        // Who wishes one at this moment is told what comes of it.
        known.wish = known.wish.take().filter(|wish| !wish.done);
    }

    /// One has ended and another has begun, so fast that neither was seen.
    pub(super) fn replaced(&mut self, host: usize) {
        let known = self.known(host);
        (known.own, known.durable) = (None, None);
    }

    /// At most one host may believe to hold a lock.
    pub(super) fn excludes(&mut self) {
        self.held.retain(|(_, _, held)| held.strong_count() > 0);
        if self.forgetful {
            return;
        }
        let mut holders: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
        for (name, host, held) in &self.held {
            let Some(held) = held.upgrade().filter(|held| held.check().is_ok()) else { continue };
            let holder = (*host, held.token());
            let other = holders.insert(name, holder).filter(|other| *other != holder);
            assert_eq!(other, None, "{name} is held twice, also by {holder:?}");
        }
    }

    /// Every wish that somebody was told to be one has reached the fleet, since it was wished.
    ///
    /// # Errors
    /// In words.
    pub(super) fn all_told(&self) -> Result<(), String> {
        let untold = self.hosts.iter().find(|(_, known)| {
            known.wish.as_ref().is_some_and(|wish| wish.done && wish.told.is_none())
        });
        match untold {
            Some((host, known)) => Err(format!("the wish of host {host} is untold: {known:?}")),
            None => Ok(()),
        }
    }
}
