//! What holds care back.

use genesis_storage::{BackupLevel, BackupRecord, BackupState, VerifiedBackup};
use jiff::Timestamp;

use super::{instance, standing, who};
use crate::operations::database::config::Instance;
use crate::operations::database::preflight::{
    self, ACTIVE, BACKUP, DISK, Disk, Situation, TRADES, TradesSeen,
};
use crate::operations::database::record::{Item, Truth};
use crate::outside::database::facts::{Invalid, Replica, Standing};

fn backup() -> VerifiedBackup {
    VerifiedBackup::Yes(Box::new(BackupRecord {
        id: "01A".into(),
        source: "trades".into(),
        engine: "postgres".into(),
        tool: "builtin".into(),
        state: BackupState::Complete,
        place: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        ended_at: None,
        bytes: 0,
        system_identifier: "7".into(),
        level: Some(BackupLevel::Checksums),
        verified_at: None,
        detail: String::new(),
        run_id: String::new(),
    }))
}

struct Given {
    standing: Standing,
    direct: bool,
    backup: VerifiedBackup,
    trades: Truth,
    disk: Result<Disk, String>,
    largest: u64,
    instance: Instance,
}

fn given() -> Given {
    Given {
        standing: standing(),
        direct: true,
        backup: backup(),
        trades: Truth::Pass,
        disk: Ok(Disk { free: 500, total: 1_000 }),
        largest: 0,
        instance: instance(""),
    }
}

fn judge(given: &Given) -> Vec<Item> {
    let trades = TradesSeen { truth: given.trades, value: "0".into(), evidence: "as told".into() };
    let situation = Situation {
        standing: &given.standing,
        direct: given.direct,
        backup: &given.backup,
        trades: &trades,
        disk: given.disk.clone(),
        largest: given.largest,
        own_leftovers: &[],
        foreign_leftovers: &[],
    };
    preflight::judge(&given.instance, &situation)
}

/// The items that hold it back.
fn unmet(given: &Given) -> Vec<(String, Truth)> {
    let unmet = judge(given).into_iter().filter(|item| !item.clear());
    unmet.map(|item| (item.name, item.truth)).collect()
}

#[test]
fn each_item_holds_care_back_and_nothing_else_does() {
    type Change = fn(&mut Given);
    let table: [(&str, Truth, Change); 17] = [
        (BACKUP, Truth::Fail, |it| it.backup = VerifiedBackup::No("too old".into())),
        (BACKUP, Truth::Unknown, |it| it.backup = VerifiedBackup::Unknown("clock".into())),
        (ACTIVE, Truth::Fail, |it| it.standing.busy = (0..10).map(|pid| who(pid, 1)).collect()),
        (TRADES, Truth::Fail, |it| it.trades = Truth::Fail),
        (TRADES, Truth::Unknown, |it| it.trades = Truth::Unknown),
        // Exactly 20 % is not more than 20 %.
        (DISK, Truth::Fail, |it| it.disk = Ok(Disk { free: 200, total: 1_000 })),
        (DISK, Truth::Fail, |it| {
            it.disk = Ok(Disk { free: 20_000_000_000, total: 100_000_000_000 })
        }),
        (DISK, Truth::Fail, |it| it.largest = 400),
        (DISK, Truth::Unknown, |it| it.disk = Err("another host".into())),
        (DISK, Truth::Unknown, |it| it.disk = Ok(Disk { free: 0, total: 0 })),
        ("not-in-recovery", Truth::Fail, |it| it.standing.in_recovery = true),
        ("direct-connection", Truth::Fail, |it| it.direct = false),
        ("privileges", Truth::Fail, |it| it.standing.maintainable = 0),
        ("no-foreign-ddl", Truth::Fail, |it| it.standing.ddl = vec![who(1, 1)]),
        ("old-snapshots", Truth::Fail, |it| it.standing.pinning = vec![who(1, 3_600_001)]),
        ("replication-lag", Truth::Fail, |it| {
            let (name, state) = ("standby".into(), "streaming".into());
            it.standing.replicas = vec![Replica { name, state, lag_ms: Some(300_001) }];
        }),
        ("replication-lag", Truth::Fail, |it| {
            let (name, state) = ("standby".into(), "catchup".into());
            it.standing.replicas = vec![Replica { name, state, lag_ms: None }];
        }),
    ];
    for (name, truth, change) in table {
        let mut given = given();
        change(&mut given);
        assert_eq!(unmet(&given), [(name.to_owned(), truth)]);
    }
}

#[test]
fn what_is_just_within_the_limits_holds_nothing_back() {
    let mut given = given();
    assert_eq!(unmet(&given), []);
    given.standing.busy = (0..9).map(|pid| who(pid, 1)).collect();
    given.disk = Ok(Disk { free: 201, total: 1_000 });
    given.largest = 150;
    given.standing.pinning = vec![who(1, 3_600_000)];
    let (name, state) = ("standby".into(), "streaming".into());
    given.standing.replicas = vec![Replica { name, state, lag_ms: Some(300_000) }];
    given.standing.invalid = vec![Invalid {
        oid: 1,
        schema: "public".into(),
        name: "i_ccnew".into(),
        table: 1,
        building: false,
    }];
    // Tables of other owners are left out; that is no reason to leave out all.
    given.standing.maintainable = 1;
    assert_eq!(unmet(&given), []);
}

#[test]
fn whoever_reads_an_item_knows_whom_to_call() {
    let mut given = given();
    given.standing.busy = (0..12).map(|pid| who(pid, 61_000)).collect();
    let items = judge(&given);
    let active = items.iter().find(|item| item.name == ACTIVE).unwrap();
    assert_eq!((active.value.as_str(), active.limit.as_str()), ("12", "< 10"));
    assert!(active.evidence.contains("pid 0 \"strategy\" of trader (active, 1m 1s)"), "{active:?}");
    assert!(active.evidence.ends_with("and 7 more"), "{active:?}");
}

#[test]
fn before_each_step_the_same_limits_hold_but_for_what_was_overridden() {
    let given = given();
    let (busy, none) = ((0..10).map(|pid| who(pid, 1)).collect::<Vec<_>>(), Vec::new());
    let seen = |truth| TradesSeen { truth, value: "1".into(), evidence: "order 5".into() };
    let room = Ok(Disk { free: 500, total: 1_000 });
    let hold = |busy: &[_], truth, disk, overrides: &[String]| {
        let standing = Standing { busy: busy.to_vec(), ..given.standing.clone() };
        preflight::hold(&given.instance, &standing, &seen(truth), disk, overrides)
    };
    assert_eq!(hold(&none, Truth::Pass, &room, &[]), None);
    assert!(hold(&busy, Truth::Pass, &room, &[]).unwrap().contains("active-connections is 10"));
    assert_eq!(hold(&busy, Truth::Pass, &room, &[ACTIVE.to_owned()]), None);
    assert!(hold(&none, Truth::Fail, &room, &[]).unwrap().contains("order 5"));
    assert!(hold(&none, Truth::Unknown, &room, &[]).is_some());
    assert!(hold(&none, Truth::Pass, &Err("gone".into()), &[]).unwrap().contains("gone"));
}

#[test]
fn a_role_that_sees_no_other_session_knows_nothing_of_them() {
    let mut given = given();
    given.standing.sees_all = false;
    let unknown: Vec<String> = judge(&given)
        .into_iter()
        .filter(|item| item.truth == Truth::Unknown)
        .map(|item| item.name)
        .collect();
    assert_eq!(unknown, [ACTIVE, "no-foreign-ddl", "old-snapshots", "replication-lag"]);
    let room = Ok(Disk { free: 500, total: 1_000 });
    let none = TradesSeen { truth: Truth::Pass, value: "0".into(), evidence: String::new() };
    let held = preflight::hold(&given.instance, &given.standing, &none, &room, &[]).unwrap();
    assert!(held.contains("grant it pg_monitor"), "{held}");
}
