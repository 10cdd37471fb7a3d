//! What is decided of updates, as tables.

use genesis_advisories::Ecosystem::{self, CratesIo, PyPI};
use genesis_advisories::bounds::Strategy;
use genesis_advisories::finding::{Finding, Kind};
use genesis_advisories::severity::{Rating, Severity};
use genesis_storage::{ChangeRecord, DependencyReleaseRecord, UpdateState, Verdict};

use super::super::config::Ignored;
use super::super::locked::Locked;
use super::super::scan::Found;
use super::plan::{
    AFTER_CRASH, At, Chosen, Fate, Safe, after_crash, brought, changes, expired, note_fixes, ways,
};

fn locked(ecosystem: &Ecosystem, name: &str, version: &str) -> Locked {
    Locked {
        ecosystem: ecosystem.clone(),
        name: name.to_owned(),
        version: version.to_owned(),
        extras: Vec::new(),
        marker: None,
        file: "x".to_owned(),
        line: 1,
    }
}

fn chosen(all: &[(&str, &str)]) -> Vec<Chosen> {
    let each = all
        .iter()
        .map(|(name, version)| Chosen { name: (*name).to_owned(), version: (*version).to_owned() });
    each.collect()
}

pub(super) fn found(package: &str, version: &str, ids: &[&str], kind: Kind) -> Found {
    let ids: Vec<String> = ids.iter().map(|it| (*it).to_owned()).collect();
    let finding = Finding {
        id: ids[0].clone(),
        ids,
        ecosystem: PyPI,
        package: package.to_owned(),
        version: version.to_owned(),
        kind,
        certain: true,
        why: Vec::new(),
        fixed_in: None,
        severity: Severity { rating: Rating::Unknown, score: None, vector: None },
        exploited: None,
        exploitation: None,
        likelihood: None,
        summary: String::new(),
        references: Vec::new(),
        published: None,
    };
    Found { finding, file: String::new(), line: 0, ignored: None }
}

#[test]
fn limits_hold_for_every_package_and_tell_what_breaks_them() {
    let all =
        [locked(&PyPI, "A_b", "1.2.3"), locked(&PyPI, "c", "0.4.0"), locked(&PyPI, "odd", "x-y")];
    let none = Safe::new();
    for (strategy, requirements) in [
        (Strategy::Conservative, [">=1.2.3,<1.3", ">=0.4.0,<0.5"]),
        (Strategy::Moderate, [">=1.2.3,<2", ">=0.4.0,<0.5"]),
        (Strategy::Aggressive, [">=1.2.3", ">=0.4.0"]),
    ] {
        let ways = ways(&all, strategy, &none);
        assert_eq!(ways.len(), 1, "{strategy:?}");
        let each: Vec<&str> = ways[0].each.iter().map(|it| it.requirement.as_str()).collect();
        assert_eq!(each, [requirements[0], requirements[1], "===x-y"], "{strategy:?}");
        assert!(ways[0].upgrade);
        assert_eq!(ways[0].without.len(), 1, "what has no order has no limit, and that is said");
    }
    let limits = &ways(&all, Strategy::Conservative, &none)[0];
    assert!(limits.broken(&chosen(&[("a-b", "1.2.9"), ("c", "0.4.0"), ("new", "9")])).is_empty());
    for wrong in [
        [("a.b", "1.3.0")],
        [("A-B", "1.2.2")],
        [("c", "0.5")],
        [("c", "1!0.4.1")],
        [("c", "0.4.1rc1")],
    ] {
        assert_eq!(limits.broken(&chosen(&wrong)).len(), 1, "{wrong:?}");
    }
    // A crate in two versions that go together with no other: each within one of its limits.
    let twice = [locked(&CratesIo, "d", "1.0.0"), locked(&CratesIo, "d", "0.3.1")];
    let limits = &ways(&twice, Strategy::Conservative, &none)[0];
    assert!(limits.broken(&chosen(&[("d", "1.0.9"), ("d", "0.3.4")])).is_empty());
    assert_eq!(limits.broken(&chosen(&[("d", "0.4.0")])).len(), 1);
}

#[test]
fn what_is_vulnerable_goes_to_its_safe_version_by_the_way_that_changes_least() {
    let all = [
        locked(&PyPI, "bad", "1.0"),
        locked(&PyPI, "hopeless", "1.0"),
        locked(&PyPI, "good", "1.0"),
    ];
    let key = |name: &str| (name.to_owned(), "1.0".to_owned());
    let safe = Safe::from([(key("bad"), Some("1.4".to_owned())), (key("hopeless"), None)]);
    let ways = ways(&all, Strategy::Security, &safe);
    let each: Vec<Vec<&str>> = ways
        .iter()
        .map(|way| way.each.iter().map(|it| it.requirement.as_str()).collect())
        .collect();
    assert_eq!(
        each,
        [
            ["==1.4", "==1.0", "==1.0"],
            ["==1.4", "==1.0", ">=1.0,<2"],
            [">=1.4,<2", "==1.0", ">=1.0,<2"],
        ]
    );
    assert!(ways.iter().all(|way| !way.upgrade), "what need not move stays");
}

#[test]
fn changes_are_told_by_package() {
    let mut here = locked(&PyPI, "elsewhere", "1");
    here.marker = Some("sys_platform == 'win32'".to_owned());
    let old =
        [locked(&PyPI, "Same", "1"), locked(&PyPI, "moved", "1"), locked(&PyPI, "gone", "1"), here];
    let new = chosen(&[("same", "1"), ("moved", "2"), ("come", "3")]);
    let found = changes(&old, &new, &PyPI);
    let shown: Vec<(&str, Option<&str>, Option<&str>)> = found
        .iter()
        .map(|it| (it.package.as_str(), it.from.as_deref(), it.to.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [("come", None, Some("3")), ("gone", Some("1"), None), ("moved", Some("1"), Some("2"))]
    );
}

#[test]
fn what_a_change_brings_and_what_it_mends() {
    let vulnerable = |version: &str, ids: &[&str]| found("a", version, ids, Kind::Vulnerability);
    let before = [vulnerable("1", &["CVE-1", "GHSA-1"]), vulnerable("1", &["CVE-2"])];
    let renamed = [vulnerable("2", &["GHSA-1"])];
    assert!(brought(&before, &renamed).is_empty(), "the same by another name");
    // What nobody looks after is none.
    let after = [
        vulnerable("2", &["CVE-1", "GHSA-1"]),
        found("a", "2", &["RUSTSEC-9"], Kind::Unmaintained),
    ];
    assert!(brought(&before, &after).is_empty());
    let new = [vulnerable("2", &["CVE-3"])];
    assert_eq!(brought(&before, &new).len(), 1);
    let other = [found("b", "2", &["CVE-1"], Kind::Vulnerability)];
    assert_eq!(brought(&before, &other).len(), 1, "in another package it is new");
    let mut ignored = new;
    ignored[0].ignored = Some(Ignored {
        id: "CVE-3".to_owned(),
        until: jiff::Timestamp::UNIX_EPOCH,
        reason: String::new(),
        by: String::new(),
    });
    assert!(brought(&before, &ignored).is_empty());
    // What was ignored and comes back in another version is new.
    let mut known = before.clone();
    known[1].ignored.clone_from(&ignored[0].ignored);
    assert_eq!(brought(&known, &[vulnerable("2", &["CVE-2"])]).len(), 1);

    let mut all = vec![ChangeRecord {
        package: "A".to_owned(),
        from: Some("1".to_owned()),
        to: Some("2".to_owned()),
        fixes: Vec::new(),
    }];
    note_fixes(&mut all, &PyPI, &before, &after);
    assert_eq!(all[0].fixes, ["CVE-2"], "the other one stays");
}

#[test]
fn releases_are_kept_and_those_in_use_whatever_their_number() {
    let release = |generation| DependencyReleaseRecord {
        project: "p".to_owned(),
        generation,
        folder: String::new(),
        digest: String::new(),
        packages: 0,
        made_at: jiff::Timestamp::UNIX_EPOCH,
        deployed_at: None,
        update_id: String::new(),
        proven: true,
    };
    let all: Vec<_> = [3, 9, 1, 7, 5].map(release).into();
    for (keep, in_use, gone) in [
        (5, &[9, 7][..], &[][..]),
        (3, &[9, 7], &[3, 1]),
        (2, &[9, 7], &[5, 3, 1]),
        // Back at an old one, with what was in service before.
        (3, &[1, 9], &[5, 3]),
        (2, &[1, 3], &[9, 7, 5]),
    ] {
        let over: Vec<u64> = expired(&all, keep, in_use).iter().map(|it| it.generation).collect();
        assert_eq!(over, gone, "{keep} {in_use:?}");
    }
}

#[test]
fn each_row_of_the_table_after_a_crash_is_reached_and_nothing_else_is_touched() {
    use UpdateState::{Backup, Build, Commit, Deploy, Health, Resolve, Restart, Scan, Test};

    let states = [Backup, Resolve, Scan, Build, Test, Deploy, Restart, Health, Commit];
    let mut reached = std::collections::BTreeSet::new();
    for state in states {
        for undoing in [false, true] {
            for at in [At::Old, At::New, At::Elsewhere] {
                let (fate, verdict, what) = after_crash(state, undoing, at);
                let row = AFTER_CRASH.iter().position(|it| it.5 == what);
                reached.extend(row);
                let here = format!("{state:?} {undoing} {at:?}: {fate:?}");
                // Before the link may have moved nothing is restarted, and nothing is moved back.
                if state < Deploy {
                    assert!(matches!(fate, Fate::Discard | Fate::Hold), "{here}");
                }
                // What is not where it should be is somebody else's.
                if at == At::Elsewhere && state >= Deploy {
                    assert_eq!((fate, verdict), (Fate::Hold, Verdict::Held), "{here}");
                }
                // Only what has proven itself, and is not being taken back, is finished.
                assert_eq!(
                    fate == Fate::Finish,
                    (state, undoing, at) == (Commit, false, At::New),
                    "{here}"
                );
                if at == At::New && state >= Deploy && fate != Fate::Finish {
                    assert_eq!(fate, Fate::BackAndRestart, "{here}");
                }
            }
        }
    }
    assert_eq!(reached.len(), AFTER_CRASH.len(), "a row that nothing reaches");
}
