//! What differs between two configurations in force, by the names of keys.

use std::collections::BTreeMap;

/// The keys, with their section, whose value differs between two texts in force, is new or is gone. An entry of a list
/// is told by what stands first in it, and as a whole where all of it is new or gone.
pub(super) fn changed_lines(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (Sections::of(old), Sections::of(new));
    let mut changed = Vec::new();
    for (name, keys) in new.0.iter().chain(old.0.iter().filter(|(name, _)| !new.has(name))) {
        let listed = name.ends_with(']');
        match (old.get(name), new.get(name)) {
            (Some(was), Some(is)) => {
                let differs = |key: &&String| was.get(*key) != is.get(*key);
                let all = is.keys().chain(was.keys().filter(|key| !is.contains_key(*key)));
                changed.extend(all.filter(differs).map(|key| format!("{name}.{key}")));
            }
            _ if listed => changed.push(name.clone()),
            _ => changed.extend(keys.keys().map(|key| format!("{name}.{key}"))),
        }
    }
    changed
}

/// The sections of a text in force, by their names.
struct Sections(Vec<(String, BTreeMap<String, String>)>);

impl Sections {
    fn of(text: &str) -> Self {
        let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
        // The entries of lists that what follows may belong to: `database.instance` and its name in full.
        let mut lists: Vec<(String, String)> = Vec::new();
        let mut open: Option<String> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("[[").and_then(|line| line.strip_suffix("]]")) {
                // Named by its first key.
                open = Some(name.to_owned());
                found.push((String::new(), BTreeMap::new()));
            } else if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
                open = None;
                found.push((within(&lists, name), BTreeMap::new()));
            } else if let Some((key, value)) = line.split_once(" = ") {
                if let Some(list) = open.take() {
                    let own = format!("{}[{}]", within(&lists, &list), value.trim_matches('"'));
                    let alike = found.iter().filter(|(name, _)| name.starts_with(&own)).count();
                    let own = if alike == 0 { own } else { format!("{own}[{alike}]") };
                    lists.retain(|(name, _)| list.starts_with(&format!("{name}.")));
                    lists.push((list, own.clone()));
                    if let Some((name, _)) = found.last_mut() {
                        *name = own;
                    }
                }
                if let Some((_, keys)) = found.last_mut() {
                    keys.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        Self(found)
    }

    fn get(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, keys)| keys)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// The name of a section, within the entry of a list that it belongs to.
fn within(lists: &[(String, String)], name: &str) -> String {
    let around = lists.iter().rev().find_map(|(list, own)| {
        Some(format!("{own}{}", name.strip_prefix(list).filter(|it| it.starts_with('.'))?))
    });
    around.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_carry_their_section() {
        let old = "[logs]\na = 1\nb = 2\n\n[listen]\na = 1\n";
        let new = "[logs]\na = 3\n\n[listen]\na = 1\n";
        assert_eq!(changed_lines(old, new), ["logs.a", "logs.b"]);
    }

    #[test]
    fn entries_of_lists_are_told_by_name_when_they_change_come_or_go() {
        let entry =
            |name: &str, most: u32| format!("[[db.one]]\nname = \"{name}\"\nmost = {most}\n\n");
        let bench = |name: &str| format!("[[db.one.bench]]\nname = \"{name}\"\nsql = \"x\"\n\n");
        let old = entry("a", 3) + &bench("q") + &entry("b", 3) + &bench("q");
        let same = entry("b", 3) + &bench("q") + &entry("a", 3) + &bench("q");
        assert_eq!(changed_lines(&old, &same), Vec::<String>::new());
        // The values of the other one do not hide it.
        let less = entry("a", 3) + &bench("q") + &entry("b", 10);
        assert_eq!(changed_lines(&old, &less), ["db.one[b].most", "db.one[b].bench[q]"]);
        let gone = entry("a", 3) + &bench("q");
        assert_eq!(changed_lines(&old, &gone), ["db.one[b]", "db.one[b].bench[q]"]);
        assert_eq!(changed_lines(&gone, &old), ["db.one[b]", "db.one[b].bench[q]"]);
    }
}
