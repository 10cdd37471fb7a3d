//! Which backup counts as verified: a pure rule, as a table.

use std::time::Duration;

use super::*;
use crate::BackupState::{Broken, Complete, Expired, Failed, Running};

const HOUR: i64 = 3_600;
const NOW: i64 = 1_000 * HOUR;

/// A backup of system "one", made so many hours ago.
fn made(hours: i64, state: BackupState, level: Option<BackupLevel>) -> BackupRecord {
    let at = Timestamp::from_second(NOW - hours * HOUR).unwrap();
    BackupRecord {
        id: format!("{:04}", 5_000 - hours),
        source: "trades".to_owned(),
        engine: "postgres".to_owned(),
        tool: "builtin".to_owned(),
        state,
        place: String::new(),
        started_at: at,
        ended_at: Some(at),
        bytes: 1,
        system_identifier: "one".to_owned(),
        level,
        verified_at: Some(at),
        detail: "why".to_owned(),
        run_id: String::new(),
    }
}

/// "yes" with the age in hours, "no" or "unknown" with what is said.
fn judged(records: &[BackupRecord], level: BackupLevel, system: Option<&str>) -> String {
    let wanted = WantedBackup {
        source: "trades",
        level,
        max_age: Duration::from_secs(26 * 3_600),
        system_identifier: system,
    };
    match verified_backup(records, &wanted, Timestamp::from_second(NOW).unwrap()) {
        VerifiedBackup::Yes(record) => {
            format!("yes {}", (NOW - record.started_at.as_second()) / HOUR)
        }
        VerifiedBackup::No(why) => format!("no: {why}"),
        VerifiedBackup::Unknown(why) => format!("unknown: {why}"),
    }
}

#[test]
fn the_newest_that_is_verified_new_enough_and_of_this_system_counts() {
    let (l0, l1, l2) = (BackupLevel::Recorded, BackupLevel::Checksums, Some(BackupLevel::Restored));
    let good = |hours| made(hours, Complete, Some(l1));
    let other = |record: BackupRecord| BackupRecord { source: "other".into(), ..record };
    for (what, records, wanted, said) in [
        ("none", vec![], l1, "no: there is no backup"),
        ("one", vec![good(3)], l1, "yes 3"),
        ("in whatever order", vec![good(3), good(1), good(2)], l1, "yes 1"),
        ("deeper than asked", vec![made(3, Complete, l2)], l1, "yes 3"),
        ("unverified", vec![made(1, Complete, None)], l0, "no: there is no backup"),
        ("not deep enough", vec![good(1)], BackupLevel::Restored, "no: there is no backup"),
        ("an older one is deep enough", vec![made(1, Complete, Some(l0)), good(2)], l1, "yes 2"),
        ("as old as is allowed", vec![good(26)], l1, "yes 26"),
        ("too old", vec![good(27)], l1, "no: the newest backup verified to L1"),
        ("a failed one is newer", vec![made(1, Failed, None), good(2)], l1, "no: the newest"),
        ("a broken one is newer", vec![made(1, Broken, Some(l1)), good(2)], l1, "no: the newest"),
        ("a failed one is older", vec![good(1), made(2, Failed, None)], l1, "yes 1"),
        ("still to come", vec![good(-1)], l1, "unknown: backup"),
        ("expired", vec![made(1, Expired, Some(l1))], l1, "no: there is no backup"),
        ("expired, and one before", vec![made(1, Expired, Some(l1)), good(2)], l1, "yes 2"),
        ("one is being made", vec![made(0, Running, None), good(2)], l1, "yes 2"),
        ("another's", vec![other(good(1))], l1, "no: there is no backup"),
        ("another's failed", vec![other(made(1, Failed, None)), good(2)], l1, "yes 2"),
    ] {
        let found = judged(&records, wanted, Some("one"));
        assert!(found.starts_with(said), "{what}: {found}");
    }
}

#[test]
fn of_another_system_it_is_none_and_of_an_unknown_one_it_can_not_be_told() {
    let good = [made(1, Complete, Some(BackupLevel::Checksums))];
    let level = BackupLevel::Checksums;
    assert!(judged(&good, level, Some("two")).starts_with("no: backup 4999 is of system one"));
    assert!(judged(&good, level, None).starts_with("unknown: of which system"));
    assert_eq!(judged(&[], level, None), "no: there is no backup of trades that is verified to L1");
}
