//! What is known of the keys that every member follows.

use std::collections::BTreeMap;

use crate::outside::coordinator::{Change, Entry, Listed, Seen};

/// Keys as they were at a revision of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirror {
    entries: BTreeMap<String, Entry>,
    revision: i64,
    cluster: u64,
}

impl Mirror {
    /// A key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All keys that begin so.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> {
        let from = self.entries.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry)
    }

    /// All that happened up to here is known; 0: nothing is.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// From where a watch goes on, at a cluster whose keys are these (their values do not matter); `None`: everything must
    /// be listed anew. This is another cluster, or one that was put back to an earlier state and may have come further than
    /// what is known since: then keys that are known are not there, or are others, of which no watch would tell.
    pub fn resumes(&self, cluster: u64, theirs: &Listed) -> Option<i64> {
        if self.revision == 0 || self.cluster != cluster || self.revision > theirs.revision {
            return None;
        }
        let mut left = self.entries.len();
        for entry in &theirs.entries {
            let known = self.entries.get(&entry.key);
            left -= usize::from(known.is_some());
            // What has changed since is told by the watch.
            let same =
                |known: &Entry| (known.created, known.modified) == (entry.created, entry.modified);
            if entry.modified <= self.revision && !known.is_some_and(same) {
                return None;
            }
        }
        // Of one that is gone it can't be known whether it ever was there.
        (left == 0).then_some(self.revision + 1)
    }

    /// Of the keys that are as they are known by their revisions, the one that was changed last. An etcd that was put back may
    /// have come by other changes to the same revisions; then it did so with this one too, whose value tells.
    pub fn witness(&self, theirs: &Listed) -> Option<&Entry> {
        let unchanged = theirs.entries.iter().filter(|entry| entry.modified <= self.revision);
        let known = unchanged.filter_map(|entry| self.entries.get(&entry.key));
        // Of those that one change made, the one that says the most.
        known.max_by_key(|entry| (entry.modified, entry.value.len()))
    }

    /// Nothing can be resumed any more; what is known stays until it is listed anew.
    pub fn forget_place(&mut self) {
        self.revision = 0;
    }

    /// Takes over what was listed; the keys that are other than before.
    pub fn replace(&mut self, listed: Listed, cluster: u64) -> Vec<String> {
        let new: BTreeMap<String, Entry> =
            listed.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        let gone = self.entries.keys().filter(|key| !new.contains_key(*key));
        let other = new.iter().filter(|(key, entry)| self.entries.get(*key) != Some(entry));
        let mut changed: Vec<String> =
            gone.cloned().chain(other.map(|(key, _)| key.clone())).collect();
        changed.sort();
        *self = Self { entries: new, revision: listed.revision, cluster };
        changed
    }

    /// Takes over what a watch has seen; the keys that changed, each once. What was known already changes nothing.
    pub fn apply(&mut self, seen: Seen) -> Vec<String> {
        let mut changed = Vec::new();
        for change in seen.changes {
            let (key, at) = match &change {
                Change::Put(entry) => (entry.key.clone(), entry.modified),
                Change::Gone { key, revision } => (key.clone(), *revision),
            };
            if at <= self.revision {
                continue;
            }
            match change {
                Change::Put(entry) => self.entries.insert(key.clone(), entry),
                Change::Gone { .. } => self.entries.remove(&key),
            };
            if !changed.contains(&key) {
                changed.push(key);
            }
        }
        self.revision = self.revision.max(seen.revision);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str, modified: i64) -> Entry {
        Entry { key: key.into(), value: value.into(), created: 1, modified, lease: 0 }
    }

    fn listed(entries: &[Entry], revision: i64) -> Listed {
        Listed { entries: entries.to_vec(), revision }
    }

    fn seen(revision: i64, changes: Vec<Change>) -> Seen {
        Seen { revision, changes }
    }

    #[test]
    fn each_change_counts_once() {
        let mut mirror = Mirror::default();
        assert_eq!(mirror.resumes(7, &listed(&[], 3)), None, "nothing is known");
        assert_eq!(mirror.replace(listed(&[entry("a", "1", 2)], 5), 7), ["a"]);
        let b = Change::Put(entry("b", "1", 6));
        assert_eq!(mirror.apply(seen(6, vec![b.clone()])), ["b"]);
        // The same again, as after a connection that was lost: nothing changes, and nothing goes back.
        assert!(mirror.apply(seen(6, vec![b])).is_empty());
        assert!(mirror.apply(seen(4, vec![Change::Put(entry("a", "old", 4))])).is_empty());
        assert_eq!(mirror.get("a").unwrap().value, b"1");
        assert_eq!(mirror.revision(), 6);
        let gone = Change::Gone { key: "a".into(), revision: 8 };
        assert_eq!(mirror.apply(seen(8, vec![gone])), ["a"]);
        assert!(mirror.get("a").is_none());
        // How far was looked, without a change.
        assert!(mirror.apply(seen(20, Vec::new())).is_empty());
        assert_eq!(mirror.resumes(7, &listed(&[entry("b", "", 6)], 20)), Some(21));
    }

    #[test]
    fn another_cluster_or_an_earlier_state_is_listed_anew() {
        let mut mirror = Mirror::default();
        let (a, b) = (entry("a", "1", 2), entry("b", "1", 3));
        mirror.replace(listed(&[a.clone(), b.clone()], 9), 7);
        let there = |entries: &[Entry], revision| mirror.resumes(7, &listed(entries, revision));
        let both = [a.clone(), b.clone()];
        assert_eq!(there(&both, 9), Some(10));
        assert_eq!(there(&both, 8), None, "it has gone back");
        assert_eq!(mirror.resumes(8, &listed(&both, 100)), None, "another cluster");
        // It has gone on since, by changes that a watch tells.
        let new = [a.clone(), entry("b", "2", 11), entry("c", "1", 12)];
        assert_eq!(there(&new, 100), Some(10));
        // It had gone back, and has come further than what is known.
        assert_eq!(there(std::slice::from_ref(&a), 100), None, "one is not there");
        assert_eq!(there(&[a.clone(), entry("b", "1", 4)], 100), None, "one is another");
        assert_eq!(there(&[a, b, entry("c", "1", 9)], 100), None, "one was never heard of");
        // Only what is other is told.
        let now = listed(&[entry("b", "1", 3), entry("c", "1", 4)], 4);
        assert_eq!(mirror.replace(now, 8), ["a", "c"]);
        assert_eq!(mirror.revision(), 4);
    }

    #[test]
    fn the_newest_key_that_has_not_changed_since_bears_witness() {
        let mut mirror = Mirror::default();
        assert_eq!(mirror.witness(&listed(&[], 1)), None);
        let known = [
            entry("a", "1", 2),
            entry("b", "number 7", 5),
            entry("c", "7", 5),
            entry("d", "1", 8),
            entry("e", "1", 9),
        ];
        mirror.replace(listed(&known, 9), 7);
        let theirs = |e: i64, d: i64, b: i64| {
            let names = known.iter().map(|entry| Entry { value: Vec::new(), ..entry.clone() });
            let mut names: Vec<Entry> = names.collect();
            (names[1].modified, names[3].modified, names[4].modified) = (b, d, e);
            mirror.witness(&listed(&names, 20)).map(|entry| entry.key.clone())
        };
        assert_eq!(theirs(9, 8, 5).unwrap(), "e");
        assert_eq!(theirs(10, 8, 5).unwrap(), "d");
        assert_eq!(theirs(10, 11, 5).unwrap(), "b", "it says more than c");
        assert_eq!(theirs(10, 11, 12).unwrap(), "c");
    }

    #[test]
    fn what_begins_so_is_found() {
        let mut mirror = Mirror::default();
        let all = ["x/a", "x/b", "xy", "z"].map(|key| entry(key, "", 1));
        mirror.replace(listed(&all, 1), 1);
        let found: Vec<&str> = mirror.under("x/").map(|entry| entry.key.as_str()).collect();
        assert_eq!(found, ["x/a", "x/b"]);
    }
}
