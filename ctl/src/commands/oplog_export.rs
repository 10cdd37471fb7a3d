//! `oplog export`: the entries exactly as they were hashed.

use std::path::Path;

use genesis_client::v1::{
    ExportOplogRequest, ExportOplogResponse, GetHeadRequest, GetHeadResponse, Head,
};
use genesis_client::{Client, Error, Kind};
use serde_json::json;

use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::outfile::OutFile;
use crate::render::{self, Answer, View};

pub(super) async fn export(
    session: &Session<'_>,
    out: Option<&Path>,
    from: u64,
) -> Result<Exit, Halt> {
    session.one_node("oplog export")?;
    if !session.for_people() && out.is_none() {
        return Err(Halt::Usage(
            "an export is JSON lines of its own: add --out FILE for it, or leave -o out".into(),
        ));
    }
    session
        .each(|client| async move {
            let work = write(session, &client, out, from);
            session.limited(client.node(), work).await
        })
        .await
}

async fn write(
    session: &Session<'_>,
    client: &Client,
    out: Option<&Path>,
    from: u64,
) -> Result<Answer, Stop> {
    let mut file = out.map(|path| OutFile::create(path, session.global.yes)).transpose()?;
    let mut line = |line: &serde_json::Value| {
        let line = format!("{}\n", render::json_safe(&line.to_string()));
        match &mut file {
            Some(file) => file.write(line.as_bytes()),
            None => session.console(|console| render::export_line(console, &line)),
        }
    };
    // Asked before the entries, it is the least that they must reach.
    let head = client
        .call(GetHeadRequest {}, |c, r| async move { c.oplog().get_head(r).await })
        .await?
        .head
        .unwrap_or_else(|| Head { sequence: 0, hash: hex::encode([0; 32]) });
    let bar = session.bar("exporting");
    let mut stream = client
        .call(ExportOplogRequest { from }, |c, r| async move { c.oplog().export_oplog(r).await })
        .await?;
    let (mut last, mut entries) = (Head::default(), 0u64);
    while let Some(ExportOplogResponse { sequence, json, hash }) = client.next(&mut stream).await? {
        line(&json!({ "sequence": sequence.to_string(), "hash": hash, "json": json }))?;
        if sequence == head.sequence && hash != head.hash {
            return Err(
                cut(client, "the entries are not those of the head that was told before").into()
            );
        }
        last = Head { sequence, hash };
        entries += 1;
        bar.report(&genesis_client::v1::Progress {
            done: entries,
            total: (head.sequence + 1).saturating_sub(from.max(1)),
            unit: "entries".into(),
            message: String::new(),
        });
    }
    drop(bar);
    if last.sequence < head.sequence && from <= head.sequence {
        let missing = format!("it ended at entry {} of {}", last.sequence, head.sequence);
        return Err(cut(client, &missing).into());
    }
    let end = if entries == 0 { head } else { last };
    line(&json!({ "head": { "sequence": end.sequence.to_string(), "hash": end.hash } }))?;
    if let Some(file) = file {
        file.commit()?;
    }
    if session.for_people() {
        session.note(&format!(
            "exported {}, head {}:{}",
            if entries == 1 {
                "1 entry".into()
            } else {
                format!("{} entries", format::count(entries))
            },
            end.sequence,
            end.hash
        ));
    }
    let json = session.json("GetHeadResponse", &GetHeadResponse { head: Some(end) })?;
    Ok(Answer::new(json, View::default()))
}

fn cut(client: &Client, what: &str) -> Error {
    let message = format!("the export from {} is not whole: {what}", client.node());
    let next = "run it again, and check the log with `genesisctl oplog verify`";
    Error::new(Kind::Incomplete, "DATA_LOSS", "EXPORT_CUT", message, next)
}
