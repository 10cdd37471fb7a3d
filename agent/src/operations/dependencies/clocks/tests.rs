//! Clocks over restarts, reboots and steps of the host's time.

use std::time::Duration;

use genesis_advisories::finding::{Finding, Kind};
use genesis_advisories::severity::{Rating, Severity};
use genesis_storage::{Moment, VulnerabilityClockRecord};
use jiff::Timestamp;

use super::super::config::{Ignored, Managed, Project};
use super::super::locked::Unjudged;
use super::super::plan::Verdict;
use super::super::scan::{Found, ProjectScan};
use super::{Phase, after_scan, elapsed, passed, phase};

const HOUR: u64 = 3_600;

fn moment(wall: u64, boot: &str, since_boot: u64) -> Moment {
    Moment {
        wall: Timestamp::from_second(i64::try_from(wall * HOUR).unwrap()).unwrap(),
        boot: boot.to_owned(),
        since_boot: Duration::from_secs(since_boot * HOUR),
    }
}

fn finding(ids: &[&str], rating: Rating, exploited: Option<bool>) -> Found {
    let ids: Vec<String> = ids.iter().map(|it| (*it).to_owned()).collect();
    let finding = Finding {
        id: ids[0].clone(),
        ids,
        ecosystem: genesis_advisories::Ecosystem::PyPI,
        package: "a".to_owned(),
        version: "1".to_owned(),
        kind: Kind::Vulnerability,
        certain: true,
        why: Vec::new(),
        fixed_in: None,
        severity: Severity { rating, score: None, vector: None },
        exploited,
        exploitation: None,
        likelihood: None,
        summary: String::new(),
        references: Vec::new(),
        published: None,
    };
    Found { finding, file: String::new(), line: 0, ignored: None }
}

fn scan(findings: Vec<Found>, verdict: Verdict) -> ProjectScan {
    ProjectScan {
        project: Project {
            name: "p".to_owned(),
            root: "/p".into(),
            manifests: Vec::new(),
            managed: Managed::default(),
            ignored: Vec::new(),
        },
        verdict,
        findings,
        judged: 1,
        unjudged: Vec::new(),
        unmanaged: Vec::new(),
    }
}

fn critical() -> Found {
    finding(&["CVE-1", "GHSA-1"], Rating::Critical, None)
}

/// The clock of something critical that is seen for the first time.
fn opened(now: &Moment) -> VulnerabilityClockRecord {
    let all = after_scan(&[], &scan(vec![critical()], Verdict::Findings), true, now);
    assert_eq!(all.len(), 1);
    all.into_iter().next().unwrap()
}

/// The clock as it is kept when it was counted at a time.
fn counted(clock: &VulnerabilityClockRecord, now: &Moment) -> VulnerabilityClockRecord {
    VulnerabilityClockRecord {
        elapsed: elapsed(clock, now),
        counted_at: now.clone(),
        ..clock.clone()
    }
}

#[test]
fn no_restart_reboot_or_step_of_the_time_moves_a_clock() {
    let mut clock = opened(&moment(1_000, "a", 10));
    let hours =
        |clock: &VulnerabilityClockRecord, now: &Moment| elapsed(clock, now).as_secs() / HOUR;
    assert_eq!(hours(&clock, &moment(1_005, "a", 15)), 5);
    // The time is set a year on, and ten years back, within one boot.
    assert_eq!(hours(&clock, &moment(10_000, "a", 16)), 6);
    assert_eq!(hours(&clock, &moment(1, "a", 16)), 6);
    clock = counted(&clock, &moment(10_000, "a", 16));
    // The host is started anew, with a time that is right again, and behind: what was counted stays.
    assert_eq!(hours(&clock, &moment(1_007, "b", 0)), 6);
    clock = counted(&clock, &moment(1_007, "b", 0));
    assert_eq!(hours(&clock, &moment(1_009, "b", 2)), 8);
    clock = counted(&clock, &moment(1_009, "b", 2));
    // It was off for ten hours, which count.
    assert_eq!(hours(&clock, &moment(1_019, "c", 0)), 18);
}

#[test]
fn people_hear_at_half_at_four_fifths_and_at_the_end() {
    let day = Duration::from_secs(24 * HOUR);
    let marks = |hours: f64| -> Vec<u32> {
        passed(Duration::from_secs_f64(hours * 3_600.0), day).collect()
    };
    for (hours, expected) in [
        (0.0, &[][..]),
        (11.99, &[]),
        (12.0, &[50]),
        (19.19, &[50]),
        (19.2, &[50, 80]),
        (24.0, &[50, 80, 100]),
        (1_000.0, &[50, 80, 100]),
    ] {
        assert_eq!(marks(hours), expected, "{hours}");
    }
}

#[test]
fn which_findings_have_a_clock() {
    let now = moment(1, "a", 1);
    for (what, found, has) in [
        ("critical", critical(), true),
        ("exploited", finding(&["CVE-1"], Rating::Unknown, Some(true)), true),
        ("neither", finding(&["CVE-1"], Rating::High, Some(false)), false),
        ("unknown", finding(&["CVE-1"], Rating::Unknown, None), false),
        (
            "no vulnerability",
            {
                let mut it = critical();
                it.finding.kind = Kind::Unmaintained;
                it
            },
            false,
        ),
        (
            "ignored",
            {
                let mut it = critical();
                it.ignored = Some(ignored());
                it
            },
            false,
        ),
    ] {
        let all = after_scan(&[], &scan(vec![found], Verdict::Findings), true, &now);
        assert_eq!(all.len(), usize::from(has), "{what}");
    }
}

fn ignored() -> Ignored {
    Ignored { id: "CVE-1".into(), until: Timestamp::MAX, reason: "r".into(), by: "b".into() }
}

#[test]
fn a_clock_ends_only_where_it_is_known_that_the_finding_is_gone() {
    let (begin, later) = (moment(0, "a", 0), moment(5, "a", 5));
    let clock = opened(&begin);
    // What a scan could not judge is not gone; a line about another package hides nothing.
    let line = |what: &str| Unjudged {
        what: what.to_owned(),
        why: String::new(),
        file: "x".to_owned(),
        line: 3,
    };
    let unknown =
        |what: &str| ProjectScan { unjudged: vec![line(what)], ..scan(vec![], Verdict::Unknown) };
    assert!(after_scan(std::slice::from_ref(&clock), &unknown("A"), true, &later).is_empty());
    assert_eq!(after_scan(std::slice::from_ref(&clock), &unknown("b"), true, &later).len(), 1);
    // Nor is what is mended in a lock that nobody installed.
    assert!(
        after_scan(std::slice::from_ref(&clock), &scan(vec![], Verdict::Pass), false, &later)
            .is_empty()
    );
    // Another severity, or ignored: it is there all the same.
    let milder = finding(&["CVE-1"], Rating::Low, None);
    assert!(
        after_scan(
            std::slice::from_ref(&clock),
            &scan(vec![milder], Verdict::Findings),
            true,
            &later
        )
        .is_empty()
    );
    let gone = after_scan(std::slice::from_ref(&clock), &scan(vec![], Verdict::Pass), true, &later);
    assert_eq!(phase(&gone[0]), Phase::Mended);
    assert_eq!(gone[0].mended_after, Some(Duration::from_secs(5 * HOUR)));
    // It comes back by another of its names before anybody wrote of it: the same clock goes on.
    let again = scan(vec![finding(&["GHSA-1"], Rating::Critical, None)], Verdict::Findings);
    let back = after_scan(&gone, &again, true, &moment(6, "a", 6));
    assert_eq!((back.len(), phase(&back[0])), (1, Phase::Open));
    assert_eq!(back[0].first_seen_at, clock.first_seen_at);
    // One vulnerability in two packages has two clocks.
    let mut other = critical();
    other.finding.package = "b".to_owned();
    let both = scan(vec![critical(), other], Verdict::Findings);
    let second = after_scan(std::slice::from_ref(&clock), &both, true, &later);
    assert_eq!((second.len(), second[0].name().as_str()), (1, "b/CVE-1"));
    // After its post-mortem a new one begins.
    let mut closed = gone;
    closed[0].closed_at = Some(later.wall);
    let new = after_scan(&closed, &again, true, &moment(9, "a", 9));
    assert_eq!((new.len(), phase(&new[0])), (1, Phase::Open));
    assert_eq!(new[0].first_seen_at, moment(9, "a", 9).wall);
}
