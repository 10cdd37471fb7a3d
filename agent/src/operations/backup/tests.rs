//! The decisions of backups, as tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_storage::{BackupLevel, BackupRecord, BackupState};
use jiff::Timestamp;

use super::act::Proof;
use super::plan::{self, *};
use super::tools::{self, Listed};
use crate::config::{Config, Places};
use crate::events::Severity;
use crate::scheduler::calendar::Schedule;

const HOUR: i64 = 3_600;
/// 2026-03-02T12:00:00Z, a Monday.
const NOW: i64 = 1_772_452_800;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn source(kind: Kind, tool: Tool) -> Source {
    Source {
        name: "trades".to_owned(),
        kind,
        tool,
        command: vec!["tool".to_owned(), "--repo=1".to_owned()],
        schedule: Some(Schedule::parse("01:00").unwrap()),
        keep: 2,
        level: BackupLevel::Checksums,
        max_age: Duration::from_secs(26 * 3_600),
        min_level: BackupLevel::Checksums,
        queries: Vec::new(),
        row_counts: Vec::new(),
        timeout: Duration::from_secs(60),
    }
}

fn sqlite() -> Source {
    source(Kind::Sqlite("/db".into()), Tool::Builtin)
}

/// A backup that was begun so many hours ago; its id says so.
fn made(hours: i64, state: BackupState, level: Option<BackupLevel>) -> BackupRecord {
    BackupRecord {
        id: format!("{:04}", 9_999 - hours),
        source: "trades".to_owned(),
        engine: "sqlite".to_owned(),
        tool: "builtin".to_owned(),
        state,
        place: format!("/b/{hours}"),
        started_at: at(NOW - hours * HOUR),
        ended_at: Some(at(NOW - hours * HOUR)),
        bytes: 10,
        system_identifier: "one".to_owned(),
        level,
        verified_at: None,
        detail: "why".to_owned(),
        run_id: String::new(),
    }
}

fn good(hours: i64) -> BackupRecord {
    made(hours, BackupState::Complete, Some(BackupLevel::Checksums))
}

fn recorded(hours: i64) -> BackupRecord {
    made(hours, BackupState::Complete, Some(BackupLevel::Recorded))
}

fn broken(hours: i64) -> BackupRecord {
    made(hours, BackupState::Broken, None)
}

#[test]
fn what_is_over_goes_but_never_the_last_verified_one() {
    let hours = |records: &[BackupRecord], keep| {
        let over = plan::expired(records, keep, BackupLevel::Checksums, at(NOW));
        over.iter().map(|id| 9_999 - id.parse::<i64>().unwrap()).collect::<Vec<_>>()
    };
    for (what, records, keep, over) in [
        ("none", vec![], 2, vec![]),
        ("as many as are kept", vec![good(1), good(2)], 2, vec![]),
        ("more", vec![good(4), good(1), good(3), good(2)], 2, vec![3, 4]),
        ("the last verified is old", vec![recorded(1), recorded(2), good(3), good(4)], 2, vec![4]),
        ("none is verified", vec![recorded(1), recorded(2), recorded(3)], 1, vec![2, 3]),
        (
            "those that are still to come take nobody's place",
            vec![good(-3), good(-2), good(1)],
            1,
            vec![],
        ),
        ("nor are they over", vec![good(-3), good(-2), good(1), good(2)], 1, vec![2]),
        ("a broken one is newer", vec![broken(1), good(2), good(3)], 1, vec![3]),
        ("a broken one is older", vec![good(1), broken(2), good(3)], 2, vec![2]),
        ("only broken ones", vec![broken(1), broken(2)], 1, vec![]),
        (
            "failed and expired ones have nothing",
            vec![
                good(1),
                made(2, BackupState::Failed, None),
                made(3, BackupState::Expired, None),
                good(4),
            ],
            1,
            vec![4],
        ),
        ("one is being made", vec![made(0, BackupState::Running, None), good(1)], 1, vec![]),
    ] {
        assert_eq!(hours(&records, keep), over, "{what}");
    }
}

#[test]
fn a_source_is_due_once_its_time_has_come_since_the_newest() {
    let by_hand = Source { schedule: None, ..sqlite() };
    for (what, source, newest, due) in [
        ("never backed up", sqlite(), None, true),
        ("by hand only", by_hand, None, false),
        ("today at one", sqlite(), Some(NOW - 11 * HOUR), false),
        ("before one o'clock", sqlite(), Some(NOW - 12 * HOUR), true),
        ("still to come", sqlite(), Some(NOW + HOUR), true),
    ] {
        assert_eq!(plan::due(&source, newest.map(at), at(NOW)), due, "{what}");
    }
}

#[test]
fn each_level_is_possible_or_says_why_not() {
    let postgres = || {
        Kind::Postgres(crate::outside::database::Postgres {
            url: "postgres:///x".to_owned(),
            password_file: None,
            fence: None,
        })
    };
    let asked =
        Source { row_counts: vec![RowCount { table: "t".into(), within: None }], ..sqlite() };
    use BackupLevel::{Queried, Recorded, Restored};
    for (what, source, deepest) in [
        ("nothing is asked", sqlite(), Restored),
        ("something is asked", asked, Queried),
        ("the agent", source(Kind::Agent, Tool::Builtin), Restored),
        ("restic", source(postgres(), Tool::Restic), Restored),
        ("pgbackrest", source(postgres(), Tool::PgBackRest), Restored),
        ("wal-g", source(postgres(), Tool::WalG), Recorded),
    ] {
        for level in BackupLevel::ALL {
            let possible = source.possible(level);
            assert_eq!(possible.is_ok(), level <= deepest, "{what} {level}");
            let code = possible.err().map(|error| error.code);
            assert!(code.is_none_or(|code| code == "LEVEL_NOT_POSSIBLE"), "{what}");
        }
        assert_eq!(source.deepest(Queried), deepest, "{what}");
        assert_eq!(source.deepest(Recorded), Recorded, "{what}");
    }
}

#[test]
fn every_row_of_the_table_after_a_crash_is_reached_and_none_is_left_out() {
    let mut reached = BTreeSet::new();
    for bits in 0..16_u8 {
        let bit = |at: u8| bits & (1 << at) != 0;
        let world = World { running: bit(0), partial: bit(1), whole: bit(2), elsewhere: bit(3) };
        let (fate, verdict, what) = plan::after_crash(world);
        reached.extend(AFTER_CRASH.iter().position(|(.., text)| *text == what));
        // A backup that is not running any more is never touched, and one that is not whole never counts as made.
        assert!(world.running || fate == Fate::Leave, "{world:?}");
        assert!(fate != Fate::Complete || (world.whole && !world.partial), "{world:?} {verdict:?}");
    }
    assert_eq!(reached.len(), AFTER_CRASH.len(), "{reached:?}");
}

#[test]
fn a_target_is_where_nothing_is_and_nothing_runs() {
    let live = [(PathBuf::from("/live/db"), "database x".to_owned())];
    use Standing::{EmptyFolder, Nothing, Something};
    for (engine, into, standing, allowed) in [
        ("postgres", "/new", Nothing, true),
        ("postgres", "/new", EmptyFolder, true),
        ("postgres", "/new", Something, false),
        ("redb", "/new", EmptyFolder, true),
        ("sqlite", "/new", Nothing, true),
        ("sqlite", "/new", EmptyFolder, false),
        ("sqlite", "/new", Something, false),
        ("postgres", "new", Nothing, false),
        ("postgres", "/a/../new", Nothing, false),
        ("postgres", "/", EmptyFolder, false),
        ("sqlite", "/live/db", Nothing, false),
        ("postgres", "/live/db/base", Nothing, false),
        ("postgres", "/live/db2", Nothing, true),
    ] {
        let found = plan::target(engine, Path::new(into), standing, &live);
        assert_eq!(found.is_ok(), allowed, "{engine} {into} {standing:?}");
        assert!(found.err().is_none_or(|error| error.code == "RESTORE_TARGET_INVALID"));
    }
}

#[test]
fn only_what_is_named_as_the_agent_names_it_is_taken_for_its_own() {
    let id = "01M8BCXZ7SNCZ4TZ3NX3VHW2W1";
    assert!(plan::is_scratch(id) && plan::is_partial(&format!("{id}.partial")));
    for name in ["", "x", "systemd-private-0123456789", "01M8BCXZ7SNCZ4TZ3NX3VHW2W", "lost+found"] {
        assert!(!plan::is_scratch(name) && !plan::is_partial(&format!("{name}.partial")), "{name}");
    }
    let at = |path: String| plan::is_scratch_data(Path::new("/var/lib"), Path::new(&path));
    assert!(at(format!("/var/lib/{id}/data")));
    for other in
        ["/var/lib/postgresql/15/main".to_owned(), format!("/var/lib/{id}"), format!("/{id}/data")]
    {
        assert!(!at(other.clone()), "{other}");
    }
}

#[test]
fn room_is_what_the_last_one_took_and_a_fifth_more() {
    assert_eq!(plan::wanted_room(Some(100 << 20), None), 120 << 20);
    assert_eq!(plan::wanted_room(Some(100 << 20), Some(200 << 20)), 240 << 20);
    assert_eq!(plan::wanted_room(None, None), 16 << 20);
    assert!(plan::room(10, 10, Path::new("/b")).is_ok());
    let error = plan::room(9, 10, Path::new("/b")).unwrap_err();
    assert!(error.code == "BACKUP_NO_ROOM" && error.message.contains("9 bytes are free"));
}

#[test]
fn rows_are_counted_by_themselves_or_against_the_live_ones() {
    let count = |within| RowCount { table: "t".to_owned(), within };
    for (within, restored, live, right) in [
        (None, 1, None, true),
        (None, 0, None, false),
        (Some(0.05), 95, Some(100), true),
        (Some(0.05), 94, Some(100), false),
        (Some(0.05), 106, Some(100), false),
        (Some(0.0), 0, Some(0), true),
        (Some(0.05), 1, None, false),
    ] {
        assert_eq!(
            plan::rows(&count(within), restored, live).is_ok(),
            right,
            "{within:?} {restored}"
        );
    }
}

#[test]
fn a_backup_is_found_by_its_id_its_beginning_or_its_source() {
    let id = |id: &str, hours| BackupRecord { id: id.to_owned(), ..good(hours) };
    let failed = BackupRecord { id: "01CCCC".to_owned(), ..made(0, BackupState::Failed, None) };
    let records = [id("01AAAB", 3), id("01AABC", 1), failed];
    let find = |wanted: &str| plan::find(&records, wanted).map(|record| record.id.as_str());
    assert_eq!(find("trades").unwrap(), "01AABC");
    assert_eq!(find("01aaab").unwrap(), "01AAAB");
    assert_eq!(find("01CC").unwrap(), "01CCCC");
    for none in ["01AA", "01B", "01ZZZZ", "other"] {
        assert_eq!(find(none).unwrap_err().code, "BACKUP_NOT_FOUND", "{none}");
    }
    assert!(plan::readable(&records[0]).is_ok() && plan::readable(&records[2]).is_err());
}

// What tools say.

const PGBACKREST: &str = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000004","min":"000000010000000000000001"}],
"backup":[{"archive":{"start":"000000010000000000000002","stop":"000000010000000000000002"},"backrest":{"format":5,"version":"2.45"},
"database":{"id":1,"repo-key":1},"error":false,"info":{"delta":30000000,"repository":{"delta":4000000,"size":4000000},"size":30000000},
"label":"20260301-010000F","prior":null,"reference":null,"timestamp":{"start":1772326800,"stop":1772326860},"type":"full"},
{"archive":{"start":"3","stop":"3"},"backrest":{"format":5,"version":"2.45"},"database":{"id":1,"repo-key":1},"error":true,
"info":{"delta":1,"repository":{"delta":1,"size":1},"size":30000001},"label":"20260302-010000F","prior":null,"reference":null,
"timestamp":{"start":1772413200,"stop":1772413260},"type":"full"}],"cipher":"none","db":[{"id":1,"repo-key":1,"system-id":7441234567890123456,"version":"15"}],
"name":"main","repo":[{"cipher":"none","key":1,"status":{"code":0,"message":"ok"}}],"status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;

const WALG: &str = r#"[{"backup_name":"base_0000000100000000000000AD","time":"2026-03-01T01:01:00Z","wal_file_name":"0000000100000000000000AD",
"start_time":"2026-03-01T01:00:00.123456Z","finish_time":"2026-03-01T01:01:00.5Z","date_fmt":"%Y-%m-%dT%H:%M:%S.%fZ","hostname":"db1","data_dir":"/var/lib/postgresql/15/main",
"pg_version":150020,"start_lsn":1,"finish_lsn":2,"is_permanent":false,"system_identifier":7441234567890123456,"uncompressed_size":30000000,"compressed_size":4000000}]"#;

const RESTIC: &str = r#"[{"time":"2026-03-01T02:00:00.987654321+01:00","tree":"aa","paths":["/b/trades/x.partial"],"hostname":"db1","username":"genesis",
"uid":0,"gid":0,"tags":["genesis-source=trades","genesis-system=7441234567890123456"],"id":"5f0a","short_id":"5f0a"}]"#;

#[test]
fn the_lists_of_tools_are_read() {
    for (tool, text, place, ended, bytes) in [
        (Tool::PgBackRest, PGBACKREST, "20260301-010000F", 60, 30_000_000),
        (Tool::WalG, WALG, "base_0000000100000000000000AD", 60, 4_000_000),
        (Tool::Restic, RESTIC, "5f0a", 0, 0),
    ] {
        let listed = tools::parse(tool, text.as_bytes()).unwrap();
        let first = &listed[0];
        assert_eq!((first.place.as_str(), first.bytes), (place, bytes));
        assert_eq!(first.started_at.as_second(), 1_772_326_800, "{first:?}");
        assert_eq!(first.ended_at.unwrap().as_second() - first.started_at.as_second(), ended);
        assert_eq!(first.system_identifier, "7441234567890123456");
        assert_eq!(first.wrong, "");
    }
    let listed = tools::parse(Tool::PgBackRest, PGBACKREST.as_bytes()).unwrap();
    assert!(listed[1].wrong.contains("wrong checksums"), "{listed:?}");
    assert_eq!(tools::parse(Tool::Restic, b"null").unwrap(), []);
}

#[test]
fn what_is_not_understood_is_no_list() {
    let broken = PGBACKREST.replace("\"code\":0,\"lock\"", "\"code\":99,\"lock\"");
    let two = format!("[{0},{0}]", &PGBACKREST[1..PGBACKREST.len() - 1]);
    for (tool, text) in [
        (Tool::PgBackRest, ""),
        (Tool::PgBackRest, "[]"),
        (Tool::PgBackRest, "[{\"name\":\"main\"}]"),
        (Tool::PgBackRest, broken.as_str()),
        (Tool::PgBackRest, two.as_str()),
        (Tool::WalG, "{}"),
        (Tool::WalG, "[{\"backup_name\":\"x\",\"start_time\":\"yesterday\",\"finish_time\":\"\"}]"),
        (Tool::WalG, "No backups found"),
        (Tool::Restic, "[{\"id\":\"x\"}]"),
        (Tool::Restic, "[{\"id\":\"x\",\"time\":\"noon\"}]"),
        (Tool::Restic, "Fatal: unable to open config file"),
    ] {
        let said = tools::parse(tool, text.as_bytes()).unwrap_err();
        assert!(said.contains("is not understood"), "{text}: {said}");
    }
    // Without a backup yet it is a list.
    let none = "[{\"backup\":[],\"db\":[],\"name\":\"main\",\"status\":{\"code\":2,\"message\":\"no valid backups\"}}]";
    assert_eq!(tools::parse(Tool::PgBackRest, none.as_bytes()).unwrap(), []);
}

#[test]
fn tools_are_called_by_what_is_configured() {
    let of = |tool| source(Kind::Agent, tool);
    let call = |argv: Vec<String>| argv.join(" ");
    let (staged, into) = (Path::new("/b/x.partial"), Path::new("/into"));
    assert_eq!(tools::list(&of(Tool::Builtin)), None);
    let alone = tools::restore_alone(&of(Tool::PgBackRest), "p", Path::new("/s/data"));
    assert_eq!(
        call(alone),
        "tool --repo=1 restore --set=p --pg1-path=/s/data --type=immediate --target-action=promote \
         --tablespace-map-all=/s/tablespaces"
    );
    for (tool, list, make, restore) in [
        (
            Tool::PgBackRest,
            "tool --repo=1 info --output=json",
            "tool --repo=1 backup",
            "tool --repo=1 restore --set=p --pg1-path=/into",
        ),
        (
            Tool::WalG,
            "tool --repo=1 backup-list --detail --json",
            "tool --repo=1 backup-push /data",
            "tool --repo=1 backup-fetch /into p",
        ),
        (
            Tool::Restic,
            "tool --repo=1 snapshots --json --tag genesis-source=trades",
            "tool --repo=1 backup --json --tag genesis-source=trades --tag genesis-system=s /b/x.partial",
            "tool --repo=1 restore p --target /into",
        ),
    ] {
        let source = of(tool);
        assert_eq!(call(tools::list(&source).unwrap()), list);
        assert_eq!(call(tools::make(&source, staged, "s", "/data")), make);
        assert_eq!(call(tools::restore(&source, "p", into)), restore);
    }
}

#[test]
fn records_follow_the_list_of_a_tool() {
    let source = source(Kind::Agent, Tool::WalG);
    let listed = |place: &str, wrong: &str| Listed {
        place: place.to_owned(),
        started_at: at(NOW),
        ended_at: None,
        bytes: 7,
        system_identifier: "s".to_owned(),
        wrong: wrong.to_owned(),
    };
    let record = |place: &str, state| BackupRecord {
        tool: "wal-g".to_owned(),
        place: place.to_owned(),
        ..made(1, state, Some(BackupLevel::Recorded))
    };
    let records = [
        record("known", BackupState::Complete),
        record("gone", BackupState::Complete),
        record("long gone", BackupState::Expired),
        record("there again", BackupState::Expired),
        record("gone bad", BackupState::Complete),
        // The agent's own are not the tool's.
        BackupRecord { tool: "builtin".to_owned(), ..record("here", BackupState::Complete) },
    ];
    let list = [
        listed("known", ""),
        listed("new", ""),
        listed("bad", "wrong pages"),
        listed("there again", ""),
        listed("gone bad", "wrong pages"),
    ];
    let mut number = 0;
    let changed = tools::differences(&source, &records, &list, |_| {
        number += 1;
        format!("id{number}")
    });
    let said: Vec<_> = changed.iter().map(|it| (it.place.as_str(), it.state, it.level)).collect();
    assert_eq!(
        said,
        [
            ("new", BackupState::Complete, Some(BackupLevel::Recorded)),
            ("bad", BackupState::Broken, None),
            ("there again", BackupState::Complete, Some(BackupLevel::Recorded)),
            ("gone bad", BackupState::Broken, None),
            ("gone", BackupState::Expired, Some(BackupLevel::Recorded)),
        ]
    );
}

#[test]
fn only_what_a_tool_calls_wrong_is_wrong() {
    let sound = |proof| matches!(proof, Proof::Sound(_));
    let wrong = |proof| matches!(proof, Proof::Wrong(_));
    let unknown = |proof| matches!(proof, Proof::Unknown(_));
    let check = |tool, ok, out: &str, said: &str| {
        tools::checked(tool, "20260301-010000F", ok, out.as_bytes(), said)
    };
    assert!(sound(check(Tool::Restic, true, "no errors were found", "")));
    assert!(wrong(check(
        Tool::Restic,
        false,
        "error for tree",
        "Fatal: repository contains errors"
    )));
    assert!(unknown(check(Tool::Restic, false, "", "Fatal: unable to open repository")));
    assert!(unknown(check(Tool::PgBackRest, false, "", "ERROR: [050]: unable to acquire lock")));
    // It exits with 0 in each of these.
    let pgbackrest = |out: &str| check(Tool::PgBackRest, true, out, "");
    let wal =
        "stanza: main\nstatus: ok\n  archiveId: 15-1, total WAL checked: 4, total valid WAL: 4\n";
    let of = |label: &str, status: &str| {
        format!(
            "{wal}  backup: {label}, status: {status}, total files checked: 9, total valid files: 9\n    missing: 0\n"
        )
    };
    assert!(sound(pgbackrest(&of("20260301-010000F", "valid"))));
    assert!(wrong(pgbackrest(&of("20260301-010000F", "invalid"))));
    assert!(unknown(pgbackrest(&of("20260301-010000F", "in-progress"))));
    assert!(unknown(pgbackrest(&of("20260301-010000F_20260302-010000I", "valid"))), "another");
    assert!(unknown(pgbackrest("")));
    assert!(unknown(pgbackrest("stanza: main\nstatus: error\n  No usable backup.info file")));
    let damaged = of("20260301-010000F", "valid").replace("valid WAL: 4", "valid WAL: 3");
    assert!(wrong(pgbackrest(&damaged)));
}

#[test]
fn what_a_server_gets_its_wal_by_is_what_was_restored() {
    let settings = "# by hand\nwork_mem = '1MB'\nrestore_command = 'old'\n# Recovery settings\n\
                    restore_command = 'pgbackrest --config=/a''b archive-get %f \"%p\"'\nrecovery_target = 'immediate'\n";
    assert_eq!(
        tools::restore_command(settings).unwrap(),
        "pgbackrest --config=/a'b archive-get %f \"%p\""
    );
    for none in ["", "restore_command = 5", "#restore_command = 'x'", "restore_command"] {
        assert_eq!(tools::restore_command(none), None, "{none}");
    }
}

// What people hear.

#[test]
fn people_hear_of_what_is_broken_failed_or_not_there() {
    let failed = |hours| made(hours, BackupState::Failed, None);
    let (long, new) = (at(NOW - 1_000 * HOUR), at(NOW - HOUR));
    for (what, records, system, since, said) in [
        ("all is well", vec![good(3)], Some("one"), long, vec![]),
        ("on a new host none is expected", vec![], None, new, vec![]),
        ("by now one is", vec![], None, long, vec!["unverified"]),
        ("it is too old", vec![good(30)], Some("one"), long, vec!["unverified"]),
        ("it is not verified", vec![recorded(3)], Some("one"), long, vec!["unverified"]),
        (
            "the newest failed",
            vec![failed(1), good(3)],
            Some("one"),
            long,
            vec!["failed", "unverified"],
        ),
        ("one failed, and then not", vec![good(1), failed(3)], Some("one"), long, vec![]),
        (
            "the newest is broken",
            vec![broken(1), good(3)],
            Some("one"),
            long,
            vec!["broken", "unverified"],
        ),
        ("a broken one is behind", vec![good(1), broken(3)], Some("one"), long, vec![]),
        ("of another system", vec![good(3)], Some("two"), long, vec!["unverified"]),
        ("which system it is can't be asked", vec![good(3)], None, long, vec![]),
        (
            "one is being made",
            vec![made(0, BackupState::Running, None), good(3)],
            None,
            long,
            vec![],
        ),
    ] {
        let found = super::told::told(&sqlite(), &records, system, (at(NOW), since));
        let keys: Vec<_> = found.iter().map(|it| it.key.rsplit('/').next().unwrap()).collect();
        assert_eq!(keys, said, "{what}");
        for condition in &found {
            let critical = condition.key.ends_with("/broken");
            let wanted = if critical { Severity::Critical } else { Severity::High };
            assert_eq!(condition.severity, wanted, "{what}");
        }
    }
}

// The configuration.

fn parsed(text: &str) -> (Option<super::Config>, String) {
    let places = Places { state: "/state".into(), socket: "/state/agent.sock".into() };
    let checked = Config::parse(text, "x", &places);
    let said: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    (checked.config.map(|config| config.backup), said.join("\n"))
}

const DATABASES: &str = "[[database.instance]]\nname = \"trades\"\nurl = \"postgres://g@db/trades\"\n\
     backup_max_age = \"3d\"\n[[database.instance]]\nname = \"orders\"\nurl = \"sqlite:/o.db\"\n";

#[test]
fn every_database_and_the_agent_are_sources_without_a_word() {
    let config = parsed(DATABASES).0.unwrap();
    let names: Vec<_> = config.sources.iter().map(|it| (it.name.as_str(), it.keep)).collect();
    assert_eq!(names, [("trades", 7), ("orders", 7), ("agent", 7)]);
    assert_eq!(config.folder, Path::new("/state/backups"));
    assert_eq!(config.sources[0].max_age, Duration::from_secs(3 * 86_400));
    assert_eq!(config.wakes().to_string(), "01:00");
    let more = "[backup]\nkeep = \"3\"\n[[backup.source]]\nname = \"agent\"\nenabled = false\n\
         [[backup.source]]\nname = \"trades\"\nschedule = \"*/30 * * * *\"\nkeep = \"20\"\nlevel = \"L2\"\n\
         max_age = \"2h\"\nrow_counts = [\"trades 5%\", \"public.orders\"]\n\
         [[backup.source.query]]\nname = \"one\"\nsql = \"SELECT 1;\"\n";
    let config = parsed(&format!("{DATABASES}{more}")).0.unwrap();
    assert_eq!(config.sources.iter().map(|it| it.keep).collect::<Vec<_>>(), [20, 3]);
    let trades = &config.sources[0];
    assert_eq!((trades.level, trades.max_age), (BackupLevel::Restored, Duration::from_secs(7_200)));
    assert_eq!(trades.row_counts[0], RowCount { table: "trades".into(), within: Some(0.05) });
    assert_eq!(trades.queries[0].sql, "SELECT 1");
    assert_ne!(config.wakes().to_string(), "01:00");
}

#[test]
fn what_is_wrong_is_said() {
    for (text, said) in [
        ("[[backup.source]]\nname = \"nobody\"\n", "neither \"agent\" nor"),
        (
            "[[backup.source]]\nname = \"agent\"\n[[backup.source]]\nname = \"agent\"\n",
            "is there twice",
        ),
        (
            "[[backup.source]]\nname = \"trades\"\ntool = \"wal-g\"\n",
            "must say how the tool is called",
        ),
        (
            "[[backup.source]]\nname = \"agent\"\ntool = \"wal-g\"\ncommand = [\"x\"]\n",
            "PostgreSQL only",
        ),
        ("[[backup.source]]\nname = \"orders\"\nrow_counts = [\"a b c\"]\n", "is no table"),
        ("[[backup.source]]\nname = \"orders\"\nlevel = \"L4\"\n", "L0, L1, L2, L3"),
        ("[backup]\nfolder = \"backups\"\n", "must be an absolute path"),
        ("[backup]\nkeep = \"0\"\n", "1 to 1000"),
        ("[[database.instance]]\nname = \"..\"\nurl = \"sqlite:/x\"\n", "begins with a dot"),
        ("[backup]\nkept = \"1\"\n", "did you mean \"keep\""),
        ("[[backup.source]]\nname = \"orders\"\nlevel = \"L3\"\n", "L3 asks what is configured"),
        (
            "[[backup.source]]\nname = \"trades\"\ntool = \"wal-g\"\ncommand = [\"x\"]\nlevel = \"L1\"\n",
            "L0 is all there is",
        ),
        ("[backup]\nfolder = \"/b\"\nscratch = \"/b/orders\"\n", "where the backups are kept"),
        ("[backup]\nfolder = \"/b/c\"\nscratch = \"/b\"\n", "where the backups are kept"),
    ] {
        let (config, problems) = parsed(&format!("{DATABASES}{text}"));
        assert!(config.is_none() && problems.contains(said), "{text}: {problems}");
    }
}
