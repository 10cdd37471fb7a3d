//! What is seen, at the sizes that people have.

use genesis_client::v1::*;
use ratatui::style::Color;

use super::*;
use crate::commands::health_dashboard::section::Section;

/// Several nodes: one is well, one is ill, one does not answer.
fn three(looks: Looks) -> App {
    let mut app = app(&["web-1:7443", "web-2:7443", "web-3:7443"], looks);
    app.told(0, Ok(well("web-1")), at(0));
    app.told(1, Err(unreachable()), at(0));
    app.told(2, Ok(ill("web-3")), at(0));
    app.tick(at(5));
    app
}

#[test]
fn a_node_at_80x24() {
    let mut app = told(ill("web-1"));
    app.told(0, Ok(ill("web-1")), at(2));
    let expected = [
        " GENESIS  web-1  web-1:7443                                 every 2s  12:00:02Z",
        "1Overview 2Health 3History 4Alerts 5Runs 6Certs 7Data 8Logs 9Stats 0Oplog",
        "  CRITICAL   3 checks: 2 OK, 1 CRITICAL · 1 issue",
        " issues           ▃▃ 1   runs           ▃▃ 0   memory           ▃▃ 9.3 MB",
        "",
        " Open issues  1",
        " ISSUE     STATE     SEVERITY  SINCE           ATTEMPTS  NOTE  DETAIL",
        " disk:/#3  COOLDOWN  HIGH      11-28 11:59:00         2  -     7 % free",
        "",
        " Checks  3",
        " CHECK   STATE     TREND             LIMIT       TOOK  DETAIL",
        " disk:/  CRITICAL                ▃▃  below 10 %   3ms  7 % free",
        " clock   OK                      ▃▃  below 10 %   3ms  2ms off",
        " memory  OK                      ▃▃  below 10 %   3ms  41 % used",
        "",
        " Objectives of the last 30 days  2",
        " OBJECTIVE        GOAL  SUCCESS  MET  SUCCEEDED  FAILED  NOT COUNTED",
        " operations    99.50 %    100 %  yes        200       0  -",
        " remediations     90 %    100 %  yes          3       0  -",
        "",
        " Domains  1",
        " DOMAIN  CONDITION  SUMMARY",
        " logs    OK         2 sources",
        " ? help  q quit  Enter details  / filter  p pause  r now                 1 of 7",
    ];
    assert_eq!(screen(&mut app, (80, 24)), expected);
}

#[test]
fn an_emergency_is_said_on_every_page_at_any_width() {
    let mut node = ill("web-1");
    node.status.emergency = true;
    let mut app = told(node);
    for key in "1234567890".chars() {
        press(&mut app, KeyCode::Char(key));
        for size in [(40, 12), (80, 24), (120, 40)] {
            let shown = screen(&mut app, size);
            assert!(shown[2].contains("CRITICAL   EMERGENCY "), "{key} {size:?}: {}", shown[2]);
        }
    }
}

#[test]
fn several_nodes_at_120x40_and_one_that_does_not_answer() {
    let mut app = three(PLAIN);
    app.merge = true;
    app.tick(at(5));
    let shown = screen(&mut app, (120, 40));
    assert_eq!(shown[2], " 1 OK   1 UNREACHABLE   1 CRITICAL");
    assert!(shown[4].starts_with(" NODE        STATE        CHECKS "), "{}", shown[4]);
    assert!(shown[5].starts_with(" web-1:7443  OK           3 OK "), "{}", shown[5]);
    assert!(shown[6].starts_with(" web-2:7443  UNREACHABLE  - "), "{}", shown[6]);
    assert!(shown[6].contains("for 5s: no agent ans"), "{}", shown[6]);
    press(&mut app, KeyCode::Down);
    let head = screen(&mut app, (120, 40))[1].clone();
    assert!(head.starts_with(" Nodes  web-2:7443: since 12:00:00Z (5s): no agent"), "{head}");
    press(&mut app, KeyCode::Up);
    assert!(shown[7].starts_with(" web-3:7443  CRITICAL     2 OK, 1 CRITICAL"), "{}", shown[7]);
    let merged = shown.iter().find(|line| line.starts_with(" merged")).unwrap();
    assert!(merged.contains("CRITICAL     5 OK, 1 CRITICAL"), "{merged}");
    // Who is silent is not well.
    app.told(2, Err(unreachable()), at(6));
    let shown = screen(&mut app, (120, 40));
    let merged = shown.iter().find(|line| line.starts_with(" merged")).unwrap();
    assert!(merged.contains("UNKNOWN") && !merged.contains("CRITICAL"), "{merged}");
}

#[test]
fn nothing_is_known_of_a_node_that_never_answered() {
    let mut app = three(PLAIN);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Enter);
    for tab in Tab::ALL {
        open(&mut app, tab);
        let shown = screen(&mut app, (80, 24));
        assert!(shown[2].starts_with("  UNREACHABLE   since 12:00:00Z (5s)"), "{}", shown[2]);
        assert_eq!(shown[3], " nothing is known of it");
        assert!(!shown[2..].iter().any(|line| line.contains(" OK")));
    }
}

#[test]
fn what_was_well_is_not_shown_as_well() {
    for failed in [false, true] {
        let mut app = told(well("web-1"));
        assert!(screen(&mut app, (80, 24)).join(" ").contains(" OK "));
        if failed {
            app.told(0, Err(unreachable()), at(30));
        }
        app.tick(at(30));
        for tab in [Tab::Overview, Tab::Health] {
            open(&mut app, tab);
            let shown = screen(&mut app, (80, 24));
            let body = shown[3..].join("\n");
            assert!(body.contains("what was known at 12:00:00Z"), "{body}");
            assert!(body.contains("(OK)") && !body.contains(" OK"), "{body}");
        }
    }
    let mut app = app(&["a", "b"], PLAIN);
    app.told(0, Ok(well("a")), at(0));
    app.tick(at(30));
    let shown = screen(&mut app, (120, 24));
    assert!(shown[5].contains("STALE  -"), "{}", shown[5]);
    assert!(shown[5].contains("30s old; was OK: 3"), "{}", shown[5]);
}

#[test]
fn little_room_is_enough_and_too_little_is_said() {
    let mut app = told(ill("web-1"));
    let shown = screen(&mut app, (40, 10));
    assert_eq!(shown[1], "1Ov 2He 3Hi 4Al 5Ru 6Ce 7Da 8Lo 9St 0Op");
    assert!(shown[2].starts_with("  CRITICAL   3 checks"));
    let shown = screen(&mut app, (20, 5));
    assert_eq!(shown[1], " 1 Overview  1/10");
    assert!(shown[0].starts_with(" GENESIS"), "{}", shown[0]);
    for size in [(19, 5), (20, 4), (9, 1)] {
        let shown = screen(&mut app, size);
        assert!("too small".starts_with(&shown[0]), "{size:?}: {shown:?}");
    }
    let mut app = three(PLAIN);
    assert!(screen(&mut app, (20, 5))[3].starts_with(" we"), "the row that is chosen");
    press(&mut app, KeyCode::Char('?'));
    assert!(screen(&mut app, (40, 10))[9].starts_with(" Help: Esc goes back"));
}

#[test]
fn colours_are_there_where_they_may_be_and_nowhere_else() {
    let coloured = |app: &mut App| {
        let buffer = buffer(app, (120, 40));
        let cells = buffer.content().iter();
        cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    for place in ["list", "node", "help", "detail"] {
        let (mut plain, mut colour) = (three(PLAIN), three(COLOUR));
        for app in [&mut plain, &mut colour] {
            match place {
                "list" => {}
                "help" => text(app, "?"),
                _ => {
                    press(app, KeyCode::End);
                    press(app, KeyCode::Enter);
                    if place == "detail" {
                        press(app, KeyCode::Enter);
                    }
                }
            }
            app.paused = true;
        }
        assert_eq!(coloured(&mut plain), 0, "{place}");
        assert!(coloured(&mut colour) > 0, "{place}");
        assert_eq!(screen(&mut plain, (120, 40)), screen(&mut colour, (120, 40)), "{place}");
    }
}

#[test]
fn terminals_of_ascii_get_nothing_else() {
    let mut app = three(Looks { colour: false, unicode: false });
    let mut base = ill("日本");
    base.health.checks[0].detail = "é…日".into();
    app.told(2, Ok(base), at(5));
    for keys in [vec![], vec![KeyCode::End, KeyCode::Enter], vec![KeyCode::Enter]] {
        for key in keys {
            press(&mut app, key);
        }
        let shown = screen(&mut app, (80, 24)).join("\n");
        assert!(shown.is_ascii(), "{shown}");
    }
}

#[test]
fn what_others_wrote_drives_no_terminal() {
    let mut base = ill(HOSTILE);
    for check in &mut base.health.checks {
        check.check = HOSTILE.into();
        check.detail = HOSTILE.into();
    }
    base.health.issues[0].detail = HOSTILE.into();
    base.health.dry_run = true;
    base.health.attempts[0].plan = vec![HOSTILE.into()];
    base.status.domains[0].summary = HOSTILE.into();
    let mut app = app(&[HOSTILE, "other"], COLOUR);
    app.told(0, Ok(base), at(0));
    let message = HOSTILE.to_owned();
    app.told(1, Err(Error::new(Kind::Unreachable, "X", HOSTILE, message, HOSTILE)), at(0));
    let mut shown = screen(&mut app, (200, 50));
    press(&mut app, KeyCode::Enter);
    for tab in Tab::ALL {
        open(&mut app, tab);
        shown.extend(screen(&mut app, (200, 50)));
        press(&mut app, KeyCode::End);
        press(&mut app, KeyCode::Enter);
        app.explained(0, HOSTILE, Ok(vec!["x".into()]));
        shown.extend(screen(&mut app, (200, 50)));
    }
    let shown = shown.join("\n");
    let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!shown.chars().any(hostile), "{shown:?}");
    assert!(shown.contains("a\\x1b[2J"), "{shown}");
}

#[test]
fn every_list_is_drawn_at_every_size() {
    use answers as a;
    let name = || HOSTILE.to_owned();
    let run = Run {
        id: name(),
        kind: name(),
        summary: name(),
        started_at: time(0),
        ..Default::default()
    };
    let baseline = BaselineSummary {
        operation: "orders.place".into(),
        baseline: Some(Baseline {
            quantiles: vec![BaselineQuantile {
                quantile: 0.95,
                seconds: 0.012,
                ..Default::default()
            }],
            count: 10_000,
            ..Default::default()
        }),
        window: Some(BaselineWindow {
            judgements: vec![WindowJudgement {
                quantile: 0.95,
                seconds: 0.02,
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let baselines = ListBaselinesResponse { operations: vec![baseline], ..Default::default() };
    assert_eq!(a::p95(&baselines), [("orders.place".to_owned(), Some(0.02))]);
    let logs = GetLogsStatusResponse {
        sources: vec![SourceStatus {
            log_type: name(),
            findings: vec![Finding { code: "X".into(), subject: name(), message: name() }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let backups = ListBackupsResponse {
        sources: vec![BackupSource { name: name(), ..Default::default() }],
        backups: vec![Backup { id: name(), bytes: 1 << 40, ..Default::default() }],
    };
    let alert = Alert { id: name(), title: name(), details: vec![name()], ..Default::default() };
    let status = GetAlertsStatusResponse {
        channels: vec![AlertChannel { name: name(), trouble: name(), ..Default::default() }],
        ..Default::default()
    };
    let certificate = Certificate {
        name: name(),
        left: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
        ..Default::default()
    };
    let matrix = MatrixVersion { version: 7, reason: name(), ..Default::default() };
    let sections = vec![
        a::runs(&ListRunsResponse { runs: vec![run] }),
        a::jobs(&ListJobsResponse { jobs: vec![Job { name: name(), ..Default::default() }] }),
        a::alerts(&ListAlertsResponse { alerts: vec![alert] }),
        a::channels(&status),
        a::certificates(&ListCertificatesResponse {
            certificates: vec![certificate],
            ..Default::default()
        }),
        a::databases(&ListDatabasesResponse {
            databases: vec![Database { name: name(), ..Default::default() }],
        }),
        a::baselines(&baselines),
        a::experiments(&ListExperimentsResponse {
            experiments: vec![Experiment { id: name(), ..Default::default() }],
            more: false,
        }),
        a::matrices(&ListMatricesResponse {
            versions: vec![matrix],
            active: 7,
            ..Default::default()
        }),
        Section::unknown("Backups", &unreachable()),
    ];
    let more = a::backups(&backups).into_iter().chain(a::logs(&logs));
    let sections: Vec<_> = sections.into_iter().chain(more).collect();
    let rows: usize = sections.iter().map(|section| section.rows.len()).sum();
    let mut app = told(well("web-1"));
    open(&mut app, Tab::Stats);
    let p95 = Some(a::p95(&baselines));
    app.page(0, Tab::Stats, Told { sections, p95 }, at(0));
    app.tick(at(0));
    for size in [(20, 5), (40, 10), (80, 24), (120, 40), (200, 60), (20, 60), (200, 5)] {
        for row in 0..rows {
            press(&mut app, KeyCode::Home);
            for _ in 0..row {
                press(&mut app, KeyCode::Down);
            }
            let page = screen(&mut app, size).join("");
            press(&mut app, KeyCode::Enter);
            let detail = screen(&mut app, size).join("");
            press(&mut app, KeyCode::Esc);
            assert!(!page.chars().chain(detail.chars()).any(char::is_control), "{size:?} {row}");
        }
    }
    let shown = screen(&mut app, (200, 90)).join("\n");
    for wanted in ["expired 5s ago", "* 7", "unknown: no agent answers", "12.00ms", "1.1 TB"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
}
