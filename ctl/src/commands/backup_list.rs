//! `backup list`: what is backed up, whether its backup counts, and the backups.

use genesis_client::v1::{Backup, BackupLevel, BackupSource, ListBackupsRequest};

use super::backup::List;
use super::db_items;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

pub(super) const SOURCE_COLUMNS: &[&str] = &[
    "SOURCE",
    "VERIFIED",
    "NEWEST VERIFIED",
    "LEVEL",
    "MADE",
    "WANTED",
    "SCHEDULE",
    "NEXT",
    "EVIDENCE",
];
pub(super) const BACKUP_COLUMNS: &[&str] =
    &["BACKUP", "SOURCE", "STATE", "LEVEL", "VERIFIED", "STARTED", "TOOK", "SIZE", "DETAIL"];
const BACKUP_COLUMNS_LONG: &[&str] = &[
    "BACKUP", "SOURCE", "STATE", "LEVEL", "VERIFIED", "STARTED", "TOOK", "SIZE", "TOOL", "SYSTEM",
    "RUN", "PLACE", "DETAIL",
];

pub(super) async fn show(session: &Session<'_>, arguments: &List) -> Result<Exit, Halt> {
    let request = &ListBackupsRequest {
        source: arguments.source.clone(),
        limit: arguments.limit,
        expired_too: arguments.expired,
    };
    let more = session.global.verbose;
    session
        .each_in(SOURCE_COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.backup().list_backups(r).await })
                .await?;
            let json = session.json("ListBackupsResponse", &list)?;
            let backups = Part {
                title: "Backups".to_owned(),
                columns: if more { BACKUP_COLUMNS_LONG } else { BACKUP_COLUMNS },
                rows: list.backups.iter().map(|backup| row(backup, more)).collect(),
                ..Part::default()
            };
            // Between the rows of several nodes only if it is asked for.
            let shown = !backups.rows.is_empty() && (more || !session.many());
            let view = View {
                columns: SOURCE_COLUMNS,
                rows: list.sources.iter().map(source_row).collect(),
                parts: shown.then_some(backups).into_iter().collect(),
                empty: "nothing is backed up",
                ..View::default()
            };
            let exit = db_items::exit(list.sources.iter().map(BackupSource::verified));
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Such as "L2".
fn level(level: BackupLevel) -> &'static str {
    match level {
        BackupLevel::Recorded => "L0",
        BackupLevel::Checksums => "L1",
        BackupLevel::Restored => "L2",
        BackupLevel::Queried => "L3",
        BackupLevel::Unspecified => format::NONE,
    }
}

pub(super) fn source_row(source: &BackupSource) -> Vec<Cell> {
    let newest = source.newest_verified.as_ref();
    let age = format::proto_duration(source.max_age.as_ref());
    vec![
        Cell::from(source.name.as_str()),
        Cell::truth(source.verified(), false),
        Cell::from(newest.map_or(format::NONE, |backup| backup.id.as_str())),
        Cell::from(newest.map_or(format::NONE, |backup| level(backup.level()))),
        Cell::from(format::time(newest.and_then(|backup| backup.ended_at.as_ref()))),
        Cell::from(format!("{}, at most {age} old", level(source.min_level()))),
        Cell::from(if source.schedule.is_empty() { "by hand" } else { &source.schedule }),
        Cell::from(format::time(source.next_at.as_ref())),
        Cell::from(source.evidence.as_str()),
    ]
}

pub(super) fn row(backup: &Backup, verbose: bool) -> Vec<Cell> {
    let mut cells = vec![
        Cell::from(backup.id.as_str()),
        Cell::from(backup.source.as_str()),
        Cell::backup_state(backup.state()),
        Cell::from(level(backup.level())),
        Cell::from(format::time(backup.verified_at.as_ref())),
        Cell::from(format::time(backup.started_at.as_ref())),
        Cell::number(format::between(backup.started_at.as_ref(), backup.ended_at.as_ref())),
        Cell::number(format::bytes(backup.bytes)),
    ];
    if verbose {
        let more = [&backup.tool, &backup.system_identifier, &backup.run_id, &backup.place];
        cells.extend(more.map(|text| Cell::from(format::or_none(text))));
    }
    cells.push(Cell::from(backup.detail.as_str()));
    cells
}
