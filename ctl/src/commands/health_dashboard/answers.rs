//! The pages that agents are asked for one by one.

use std::cmp::Reverse;
use std::rc::Rc;

use genesis_client::v1::{
    GetAlertsStatusResponse, GetLogsStatusResponse, ListAlertsResponse, ListBackupsResponse,
    ListBaselinesResponse, ListCertificatesResponse, ListDatabasesResponse, ListEntriesResponse,
    ListExperimentsResponse, ListHealthHistoryResponse, ListJobsResponse, ListMatricesResponse,
    ListRunsResponse,
};

use super::super::{
    alerts, backup_list, baseline, cert, db, experiment, health_issue, logs, matrix, oplog, run,
    schedule,
};
use super::section::{More, Row, Section, Shown, TREND};
use crate::format;
use crate::render::{Cell, finding};

const HISTORY_SHOWN: &[Shown] =
    &[("AT", 0), ("CHECK", 0), ("WHAT", 0), ("OUTCOME", 0), ("BY", 3), ("DETAIL", 2)];
const ALERT_SHOWN: &[Shown] = &[
    ("STATE", 0),
    ("SEVERITY", 0),
    ("SINCE", 1),
    ("SUBJECT", 0),
    ("TOLD", 3),
    ("QUIET", 4),
    ("TITLE", 0),
];
const CHANNEL_COLUMNS: &[&str] = &["CHANNEL", "KIND", "HEARS OF", "WAITING", "TROUBLE"];
const CHANNEL_SHOWN: &[Shown] =
    &[("CHANNEL", 0), ("KIND", 1), ("HEARS OF", 2), ("WAITING", 1), ("TROUBLE", 0)];
const RUN_SHOWN: &[Shown] = &[
    ("KIND", 0),
    ("STATE", 0),
    ("STARTED", 0),
    ("TOOK", 1),
    ("ACTOR", 3),
    ("ID", 4),
    ("SUMMARY", 0),
];
const JOB_SHOWN: &[Shown] = &[
    ("JOB", 0),
    ("STATE", 0),
    ("NEXT", 0),
    ("SCHEDULE", 2),
    ("LAST DUE", 3),
    ("LAST RUN", 1),
    ("NOTE", 1),
];
const CERTIFICATE_SHOWN: &[Shown] = &[
    ("NAME", 0),
    ("STATE", 0),
    ("SERVED", 0),
    ("LEFT", 0),
    ("DUE", 2),
    ("GEN", 4),
    ("CA", 3),
    ("DOMAINS", 5),
    ("NOTE", 0),
];
const DATABASE_SHOWN: &[Shown] = &[
    ("DATABASE", 0),
    ("ENGINE", 1),
    ("OUTCOME", 0),
    ("LAST OPTIMIZED", 0),
    ("NEXT", 2),
    ("SCHEDULE", 4),
    ("PLACE", 5),
    ("NOTE", 1),
];
const SOURCE_SHOWN: &[Shown] = &[
    ("SOURCE", 0),
    ("VERIFIED", 0),
    ("LEVEL", 1),
    ("MADE", 0),
    ("NEXT", 2),
    ("WANTED", 4),
    ("EVIDENCE", 0),
];
const BACKUP_SHOWN: &[Shown] = &[
    ("SOURCE", 0),
    ("STATE", 0),
    ("LEVEL", 1),
    ("STARTED", 0),
    ("TOOK", 3),
    ("SIZE", 2),
    ("BACKUP", 4),
    ("DETAIL", 1),
];
const LOG_SHOWN: &[Shown] = &[
    ("TYPE", 0),
    ("MODE", 3),
    ("ACTIVE", 0),
    ("ROTATES AT", 4),
    ("WAITING", 0),
    ("ARCHIVED", 0),
    ("LINES' SIZE", 5),
    ("STORED", 1),
    ("KEPT LOCALLY", 6),
    ("KEPT ARCHIVED", 6),
    ("LAST VERIFIED", 1),
];
const FINDING_COLUMNS: &[&str] = &["TYPE", "FINDING"];
const FINDING_SHOWN: &[Shown] = &[("TYPE", 0), ("FINDING", 0)];
const BASELINE_SHOWN: &[Shown] = &[
    ("OPERATION", 0),
    ("STATE", 0),
    ("P50", 2),
    ("P95", 0),
    ("P99", 1),
    ("N", 3),
    ("CALCULATED", 4),
    (TREND, 1),
];
const EXPERIMENT_SHOWN: &[Shown] = &[
    ("EXPERIMENT", 0),
    ("STATE", 0),
    ("STRATEGY", 2),
    ("N", 0),
    ("LIFT", 0),
    ("p_seq", 1),
    ("SPLIT", 5),
    ("TRIES", 3),
    ("STARTED", 4),
    ("LINE", 1),
];
const MATRIX_SHOWN: &[Shown] = &[
    ("VERSION", 0),
    ("STATE", 0),
    ("CALCULATED", 0),
    ("SERIES", 1),
    ("POINTS", 2),
    ("DRIFT", 1),
    ("BY", 4),
    ("WHY", 1),
];
const OPLOG_SHOWN: &[Shown] = &[
    ("SEQ", 0),
    ("AT", 0),
    ("ACTOR", 2),
    ("ACTION", 0),
    ("TARGET", 1),
    ("OUTCOME", 0),
    ("REASON", 4),
    ("DETAIL", 3),
];

/// Issues and attempts in one order, the latest first.
pub(super) fn history(history: &ListHealthHistoryResponse, most: usize) -> Section {
    let key = |at: Option<&prost_types::Timestamp>| at.map(|at| (at.seconds, at.nanos));
    let attempts = history.attempts.iter().map(|one| {
        let more = More::Attempt(Rc::new(one.clone()));
        let row = Row::new(format!("attempt {}", one.id), health_issue::attempt_row(one), more);
        (key(one.at.as_ref()), row)
    });
    let issues = history.issues.iter().map(|one| {
        let more = More::Check(one.id.clone());
        let row = Row::new(format!("issue {}", one.id), health_issue::issue_row(one), more);
        (key(one.opened_at.as_ref()), row)
    });
    // An attempt of the same instant comes after its issue's beginning, so it stands above.
    let mut events: Vec<_> = attempts.chain(issues).collect();
    events.sort_by_key(|(at, _)| Reverse(*at));
    let rows = events.into_iter().take(most).map(|(_, row)| row).collect();
    let columns = (health_issue::ATTEMPT_COLUMNS, HISTORY_SHOWN);
    Section::new("Issues and attempts", columns, rows, "nothing has happened yet")
}

pub(super) fn alerts(list: &ListAlertsResponse) -> Section {
    let row = |one: &genesis_client::v1::Alert| {
        Row::new(format!("alert {}", one.id), alerts::row(one), More::Alert(Rc::new(one.clone())))
    };
    let rows = list.alerts.iter().map(row).collect();
    Section::new("Alerts", (alerts::COLUMNS, ALERT_SHOWN), rows, "no alerts")
}

pub(super) fn channels(status: &GetAlertsStatusResponse) -> Section {
    let row = |one: &genesis_client::v1::AlertChannel| {
        let hears: Vec<_> = one.severities().map(format::severity).collect();
        let trouble = match one.trouble.as_str() {
            "" => Cell::from(format::NONE),
            trouble => Cell::alert(trouble, true),
        };
        let cells = vec![
            Cell::from(one.name.as_str()),
            Cell::from(one.kind.as_str()),
            Cell::from(format::or_none(&hears.join(", "))),
            Cell::number(format::count(one.waiting.into())),
            trouble,
        ];
        Row::new(format!("channel {}", one.name), cells, More::Nothing)
    };
    let rows = status.channels.iter().map(row).collect();
    let columns = (CHANNEL_COLUMNS, CHANNEL_SHOWN);
    Section::new("Channels", columns, rows, "none").notes(alerts::notes(status))
}

pub(super) fn runs(list: &ListRunsResponse) -> Section {
    let row = |one: &genesis_client::v1::Run| {
        Row::new(format!("run {}", one.id), run::row(one), More::Run(Rc::new(one.clone())))
    };
    let rows = list.runs.iter().map(row).collect();
    Section::new("Runs", (run::LIST_COLUMNS, RUN_SHOWN), rows, "no runs yet")
}

pub(super) fn jobs(list: &ListJobsResponse) -> Section {
    let row = |one: &genesis_client::v1::Job| {
        let cells = schedule::rows(one, false).into_iter().next().unwrap_or_default();
        Row::new(format!("job {}", one.name), cells, More::Nothing)
    };
    let mut rows: Vec<_> = list.jobs.iter().collect();
    rows.sort_by_key(|job| job.next_at.first().map_or(i64::MAX, |at| at.seconds));
    let rows = rows.into_iter().map(row).collect();
    Section::new("Schedule", (schedule::COLUMNS, JOB_SHOWN), rows, "no jobs")
}

pub(super) fn certificates(list: &ListCertificatesResponse) -> Section {
    let row = |one: &genesis_client::v1::Certificate| {
        let cells = cert::list::row(one, false);
        Row::new(format!("certificate {}", one.name), cells, More::Nothing)
    };
    let rows = list.certificates.iter().map(row).collect();
    let columns = (cert::list::COLUMNS, CERTIFICATE_SHOWN);
    Section::new("Certificates", columns, rows, cert::list::EMPTY)
        .notes(cert::list::next_check(list))
}

pub(super) fn databases(list: &ListDatabasesResponse) -> Section {
    let row = |one: &genesis_client::v1::Database| {
        Row::new(format!("database {}", one.name), db::row(one), More::Nothing)
    };
    let rows = list.databases.iter().map(row).collect();
    let columns = (db::LIST_COLUMNS, DATABASE_SHOWN);
    Section::new("Databases", columns, rows, "no databases are configured")
}

pub(super) fn backups(list: &ListBackupsResponse) -> [Section; 2] {
    let source = |one: &genesis_client::v1::BackupSource| {
        Row::new(format!("source {}", one.name), backup_list::source_row(one), More::Nothing)
    };
    let backup = |one: &genesis_client::v1::Backup| {
        Row::new(format!("backup {}", one.id), backup_list::row(one, false), More::Nothing)
    };
    let sources = list.sources.iter().map(source).collect();
    let backups = list.backups.iter().map(backup).collect();
    [
        Section::new(
            "What is backed up",
            (backup_list::SOURCE_COLUMNS, SOURCE_SHOWN),
            sources,
            "nothing is backed up",
        ),
        Section::new("Backups", (backup_list::BACKUP_COLUMNS, BACKUP_SHOWN), backups, "none yet"),
    ]
}

pub(super) fn logs(status: &GetLogsStatusResponse) -> Vec<Section> {
    let row = |one: &genesis_client::v1::SourceStatus| {
        Row::new(format!("log {}", one.log_type), logs::source_row(one), More::Nothing)
    };
    let rows = status.sources.iter().map(row).collect();
    let condition = format::condition(status.condition());
    let note = format!("{condition}, archive {}", format::or_none(&status.archive_url));
    let columns = (logs::STATUS_COLUMNS, LOG_SHOWN);
    let sources =
        Section::new("Logs", columns, rows, "no log sources are configured").notes([note]);
    let of = |source: &genesis_client::v1::SourceStatus| -> Vec<Row> {
        let found = source.findings.iter().map(|found| {
            let cells =
                vec![Cell::from(source.log_type.as_str()), Cell::alert(finding(found), true)];
            let key = format!("finding {} {} {}", source.log_type, found.code, found.subject);
            Row::new(key, cells, More::Nothing)
        });
        found.collect()
    };
    let found = status.sources.iter().flat_map(of).collect();
    let findings = Section::new("Findings", (FINDING_COLUMNS, FINDING_SHOWN), found, "none");
    vec![sources, findings]
}

pub(super) fn baselines(list: &ListBaselinesResponse) -> Section {
    let row = |one: &genesis_client::v1::BaselineSummary| {
        Row::new(format!("p95 {}", one.operation), baseline::list::row(one), More::Nothing)
    };
    let rows = list.operations.iter().map(row).collect();
    let columns = (baseline::list::COLUMNS, BASELINE_SHOWN);
    Section::new("Baselines", columns, rows, baseline::list::EMPTY)
}

/// The p95 of the latest window of each operation, as it was judged.
pub(super) fn p95(list: &ListBaselinesResponse) -> Vec<(String, Option<f64>)> {
    let latest = |one: &genesis_client::v1::BaselineSummary| {
        let judged = one.window.as_ref()?.judgements.iter();
        let p95 = judged.filter(|it| (it.quantile - 0.95).abs() < 1e-9);
        p95.map(|it| it.seconds).next()
    };
    list.operations.iter().map(|one| (one.operation.clone(), latest(one))).collect()
}

pub(super) fn experiments(list: &ListExperimentsResponse) -> Section {
    let row = |one: &genesis_client::v1::Experiment| {
        Row::new(format!("experiment {}", one.id), experiment::list::row(one), More::Nothing)
    };
    let rows = list.experiments.iter().map(row).collect();
    let columns = (experiment::list::COLUMNS, EXPERIMENT_SHOWN);
    Section::new("Experiments", columns, rows, experiment::list::EMPTY)
}

pub(super) fn matrices(list: &ListMatricesResponse) -> Section {
    let row = |one: &genesis_client::v1::MatrixVersion| {
        Row::new(format!("matrix {}", one.version), matrix::history::row(one, list), More::Nothing)
    };
    let rows = list.versions.iter().map(row).collect();
    let empty = "no matrix was calculated yet";
    let columns = (matrix::history::COLUMNS, MATRIX_SHOWN);
    Section::new("Matrices", columns, rows, empty).notes(matrix::history::facts(list))
}

pub(super) fn oplog(list: &ListEntriesResponse) -> Section {
    let row = |one: &genesis_client::v1::OplogEntry| {
        Row::new(format!("entry {}", one.sequence), oplog::row(one), More::Nothing)
    };
    let rows = list.entries.iter().map(row).collect();
    Section::new("Operation log, newest first", (oplog::COLUMNS, OPLOG_SHOWN), rows, "no entries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_column_of_the_plain_command() {
        let sections = [
            history(&ListHealthHistoryResponse::default(), 1),
            alerts(&ListAlertsResponse::default()),
            channels(&GetAlertsStatusResponse::default()),
            runs(&ListRunsResponse::default()),
            jobs(&ListJobsResponse::default()),
            certificates(&ListCertificatesResponse::default()),
            databases(&ListDatabasesResponse::default()),
            baselines(&ListBaselinesResponse::default()),
            experiments(&ListExperimentsResponse::default()),
            matrices(&ListMatricesResponse::default()),
            oplog(&ListEntriesResponse::default()),
        ];
        let more = backups(&ListBackupsResponse::default());
        let logs = logs(&GetLogsStatusResponse::default());
        for section in sections.into_iter().chain(more).chain(logs) {
            for (name, _) in section.shown.iter().filter(|(name, _)| *name != TREND) {
                assert!(section.index(name).is_some(), "{}: {name}", section.title);
            }
            assert_eq!(section.shown.first().map(|(_, rank)| *rank), Some(0), "{}", section.title);
        }
    }
}
