//! Which sets of ids are joined, directly or by others.

use std::collections::HashMap;

/// The indices of the sets that are one, in the order of their first members.
pub(super) fn groups(sets: &[Vec<&str>]) -> Vec<Vec<usize>> {
    // The set that each one is joined to, itself in the end.
    let mut parents: Vec<usize> = (0..sets.len()).collect();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, set) in sets.iter().enumerate() {
        for id in set {
            let other = *first.entry(id).or_insert(at);
            let (one, other) = (root(&mut parents, at), root(&mut parents, other));
            // The lower one stays, so that a group is found by its first member.
            if let Some(parent) = parents.get_mut(one.max(other)) {
                *parent = one.min(other);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); sets.len()];
    for at in 0..sets.len() {
        let root = root(&mut parents, at);
        if let Some(group) = groups.get_mut(root) {
            group.push(at);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while let Some(&parent) = parents.get(at)
        && parent != at
    {
        let above = parents.get(parent).copied().unwrap_or(parent);
        if let Some(own) = parents.get_mut(at) {
            *own = above;
        }
        at = parent;
    }
    at
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::groups;

    #[test]
    fn joined_by_others() {
        let sets = [vec!["a", "b"], vec!["c"], vec!["d", "e"], vec!["e", "b"], vec![], vec!["c"]];
        assert_eq!(groups(&sets), [vec![0, 2, 3], vec![1, 5], vec![4]]);
    }

    proptest! {
        /// Against widening one set until nothing more is added.
        #[test]
        fn as_widening(sets in proptest::collection::vec(proptest::collection::vec(0..12_usize, 0..4), 0..14)) {
            let names: Vec<String> = (0..12).map(|at| at.to_string()).collect();
            let texts: Vec<Vec<&str>> =
                sets.iter().map(|set| set.iter().map(|at| names[*at].as_str()).collect()).collect();
            let found = groups(&texts);
            prop_assert_eq!(found.iter().map(Vec::len).sum::<usize>(), sets.len());
            for group in &found {
                let mut ids: BTreeSet<usize> = sets[group[0]].iter().copied().collect();
                let mut members = BTreeSet::from([group[0]]);
                for _ in 0..sets.len() {
                    for (at, set) in sets.iter().enumerate() {
                        if set.iter().any(|id| ids.contains(id)) {
                            members.insert(at);
                            ids.extend(set);
                        }
                    }
                }
                prop_assert_eq!(group.iter().copied().collect::<BTreeSet<_>>(), members);
            }
        }
    }
}
