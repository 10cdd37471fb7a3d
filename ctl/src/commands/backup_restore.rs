//! `backup restore`: only for whoever types of what it is a backup.

use std::collections::BTreeSet;

use genesis_client::v1::{ListBackupsRequest, RestoreBackupRequest, StartedRun};
use genesis_client::{Client, Error, Kind};

use super::backup::{Restore, SERVICE};
use super::run;
use crate::confirm::{consent, name_needed, reason, typed};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::plan;

/// Of so many backups a named one is looked for: as many as an agent tells at once.
const LOOKED_THROUGH: u32 = 1000;

pub(super) async fn restore(session: &Session<'_>, arguments: &Restore) -> Result<Exit, Halt> {
    let Restore { backup, into, confirm, detach } = arguments;
    let request = RestoreBackupRequest {
        backup: backup.clone(),
        into: into.clone(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, backup, plan_restore_backup);
    }
    session.one_node("backup restore")?;
    reason(session, "backup restore", "what is it restored for?")?;
    name_needed(session, confirm.as_deref(), "backup restore", "with the name of its source")?;
    consent(session, SERVICE, "RestoreBackup", &format!("restore {backup} into {into}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let source = source_of(&client, backup).await?;
            let mut request = request.clone();
            match confirm {
                Some(name) if *name == source => {}
                Some(name) => return Err(other_source(backup, &source, name).into()),
                None => request.plan_hash = agreed(session, &client, &request, &source).await?,
            }
            let response = client
                .call(request, |c, r| async move { c.backup().restore_backup(r).await })
                .await?;
            let json = session.json("RestoreBackupResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: false };
            run::started(session, &client, Some(&run), json, *detach).await
        })
        .await
}

fn other_source(backup: &str, source: &str, confirmed: &str) -> Halt {
    Halt::Usage(format!(
        "the backup {backup} is of {source}, not of {confirmed} as --confirm says: nothing was restored"
    ))
}

/// Shows the plan, has the source's name typed, and returns the hash of what was agreed to.
async fn agreed(
    session: &Session<'_>,
    client: &Client,
    request: &RestoreBackupRequest,
    source: &str,
) -> Result<String, Stop> {
    let unsent = RestoreBackupRequest { plan_hash: String::new(), ..request.clone() };
    let planned =
        client.call(unsent, |c, r| async move { c.backup().plan_restore_backup(r).await }).await?;
    session.warn(&format!("This restores a backup of {source} into {}.", request.into));
    typed(session, planned.plan.as_ref(), source, "nothing was restored")
}

/// The source of a backup that is named by its id, the beginning of that, or its source.
async fn source_of(client: &Client, backup: &str) -> Result<String, Error> {
    let all = ListBackupsRequest { limit: LOOKED_THROUGH, ..ListBackupsRequest::default() };
    let list = client.call(all, |c, r| async move { c.backup().list_backups(r).await }).await?;
    let sources = list.sources.iter().map(|source| &source.name);
    let of_source = sources.filter(|name| *name == backup);
    let of_id = list.backups.iter().filter(|known| begins(&known.id, backup));
    let found: BTreeSet<_> = of_source.chain(of_id.map(|known| &known.source)).collect();
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(source), None) => Ok(source.clone()),
        (None, _) => {
            Err(not_found(format!("there is no backup {backup}, and no source of that name")))
        }
        (Some(one), Some(other)) => {
            let message = format!("{backup} names backups of {one} and of {other}");
            Err(not_found(message))
        }
    }
}

fn begins(id: &str, text: &str) -> bool {
    text.len() >= 4 && id.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
}

fn not_found(message: String) -> Error {
    let next = "name a whole id of `genesisctl backup list`";
    Error::new(Kind::NotFound, "NOT_FOUND", "BACKUP_NOT_FOUND", message, next)
}
