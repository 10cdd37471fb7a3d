//! `logs retrieve`: archived lines come back, and what is missing is said.

use genesis_client::v1::{
    Gap, RetrieveLogsRequest, RetrievePlan, RetrieveTrailer, retrieve_logs_response::Part,
};
use genesis_client::{Client, Error, Kind};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::incomplete_answer;
use super::logs::Retrieve;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::outfile::OutFile;
use crate::render::{self, Answer, Cell, View};

pub(super) async fn retrieve(session: &Session<'_>, arguments: &Retrieve) -> Result<Exit, Halt> {
    session.one_node("logs retrieve")?;
    if session.global.plan {
        if arguments.out.is_some() {
            return Err(Halt::Usage("--plan reads no lines: leave --out out".into()));
        }
        return session.each(|client| async move { plan(session, &client, arguments).await }).await;
    }
    if !session.for_people() && arguments.out.is_none() {
        return Err(Halt::Usage(
            "log lines are no JSON: add --out FILE for the lines, or leave -o out".into(),
        ));
    }
    session
        .each(|client| async move {
            let work = fetch(session, &client, arguments);
            session.limited(client.node(), work).await
        })
        .await
}

fn request(session: &Session<'_>, arguments: &Retrieve) -> RetrieveLogsRequest {
    RetrieveLogsRequest {
        log_type: arguments.log_type.clone(),
        date_range: arguments.date_range.clone(),
        plan_only: session.global.plan,
        host: match (&arguments.host, arguments.all_hosts) {
            (Some(name), _) => name.clone(),
            (None, true) => "*".to_owned(),
            (None, false) => String::new(),
        },
    }
}

async fn plan(
    session: &Session<'_>,
    client: &Client,
    arguments: &Retrieve,
) -> Result<Answer, Stop> {
    let mut stream = client
        .call(request(session, arguments), |c, r| async move { c.logs().retrieve_logs(r).await })
        .await?;
    while let Some(response) = client.next(&mut stream).await? {
        let Some(Part::Plan(plan)) = response.part else { continue };
        let view = View {
            columns: &["FROM", "UNTIL", "SEGMENTS", "MEMBERS", "TO READ", "LINES' SIZE"],
            rows: vec![vec![
                Cell::from(format::time(plan.from.as_ref())),
                Cell::from(format::time(plan.until.as_ref())),
                Cell::number(format::count(plan.segments)),
                Cell::number(format::count(plan.members)),
                Cell::number(format::bytes(plan.compressed_bytes)),
                Cell::number(format!("at most {}", format::bytes(plan.plain_bytes))),
            ]],
            ..View::default()
        };
        return Ok(Answer::new(session.json("RetrievePlan", &plan)?, view));
    }
    Err(incomplete_answer("the plan").into())
}

/// The longest line that is held back until its end has come, in bytes.
const LINE_HELD: usize = 1 << 20;

/// Where the lines go.
enum Sink {
    File(OutFile),
    /// Standard output, byte for byte.
    Raw,
    /// A terminal: whole lines, because a part of the stream may end in the middle of a character.
    Screen(Vec<u8>),
}

impl Sink {
    fn write(&mut self, session: &Session<'_>, data: &[u8]) -> Result<(), Halt> {
        match self {
            Self::File(file) => file.write(data),
            Self::Raw => session.console(|console| render::log_lines(console, data)),
            Self::Screen(held) => {
                held.extend_from_slice(data);
                let whole = match held.iter().rposition(|byte| *byte == b'\n') {
                    Some(end) => end + 1,
                    None if held.len() > LINE_HELD => held.len(),
                    None => 0,
                };
                let lines: Vec<u8> = held.drain(..whole).collect();
                session.console(|console| render::log_lines(console, &lines))
            }
        }
    }

    /// What is held back is shown, however the stream has ended.
    fn release(&mut self, session: &Session<'_>) -> Result<(), Halt> {
        let Self::Screen(held) = self else { return Ok(()) };
        let rest = std::mem::take(held);
        session.console(|console| render::log_lines(console, &rest))
    }
}

/// Lines of several hosts, each behind its host's name.
#[derive(Default)]
struct Names {
    host: Option<String>,
    /// The last byte was no line's end.
    within: bool,
}

impl Names {
    /// What follows is of another host.
    fn begin(&mut self, host: String) -> &'static [u8] {
        self.host = Some(host);
        if std::mem::take(&mut self.within) { b"\n" } else { b"" }
    }

    /// `data` as it is written.
    fn named<'d>(&mut self, data: &'d [u8]) -> std::borrow::Cow<'d, [u8]> {
        let Some(host) = &self.host else { return data.into() };
        let mut written = Vec::with_capacity(data.len() + data.len() / 8);
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            if !self.within {
                written.extend_from_slice(host.as_bytes());
                written.extend_from_slice(b": ");
            }
            written.extend_from_slice(line);
            self.within = !line.ends_with(b"\n");
        }
        written.into()
    }
}

/// What has come so far.
#[derive(Default)]
struct Received {
    plan: Option<RetrievePlan>,
    trailer: Option<RetrieveTrailer>,
    bytes: u64,
    hash: Sha256,
    /// Data behind the trailer: the stream is not what it says.
    disordered: bool,
}

async fn fetch(
    session: &Session<'_>,
    client: &Client,
    arguments: &Retrieve,
) -> Result<Answer, Stop> {
    let mut sink = match &arguments.out {
        Some(path) => Sink::File(OutFile::create(path, session.global.yes)?),
        None if session.console(|console| console.stdout_terminal) => Sink::Screen(Vec::new()),
        None => Sink::Raw,
    };
    let mut received = Received::default();
    let ended = receive(session, client, arguments, &mut received, &mut sink).await;
    if !matches!(ended, Err(Stop::Halt(_))) {
        sink.release(session)?;
    }
    let broken = match ended {
        Ok(()) => None,
        Err(Stop::Node(error)) if received.plan.is_none() && received.bytes == 0 => {
            return Err(error.into());
        }
        Err(Stop::Node(error)) => Some(error),
        Err(halt) => return Err(halt),
    };
    let Some(error) = fault(client, &received, broken) else {
        if let Sink::File(file) = sink {
            file.commit()?;
        }
        return finished(session, arguments, received);
    };
    // What has come is real, so it is kept, but not under a name that promises all of it.
    let kept = match sink {
        Sink::File(file) if received.bytes > 0 => {
            Some(format!("what has come is in {}", file.keep()?.display()))
        }
        _ => None,
    };
    let next = match kept {
        Some(kept) => format!("run it again; {kept}"),
        None => "run it again".to_owned(),
    };
    let json = match &received.trailer {
        Some(trailer) => session.json("RetrieveTrailer", trailer)?,
        None => Value::Null,
    };
    let answer = Answer::new(json, View::default());
    Ok(answer.exit(Exit::Unknown).error(error.with_next(next)))
}

async fn receive(
    session: &Session<'_>,
    client: &Client,
    arguments: &Retrieve,
    received: &mut Received,
    sink: &mut Sink,
) -> Result<(), Stop> {
    let mut names = Names::default();
    // A bar between lines on the same terminal would spoil both.
    let apart = !matches!(sink, Sink::Screen(_));
    let bar = apart.then(|| session.bar("retrieving"));
    let mut stream = client
        .call(request(session, arguments), |c, r| async move { c.logs().retrieve_logs(r).await })
        .await?;
    while let Some(response) = client.next(&mut stream).await? {
        match response.part {
            Some(Part::Plan(plan)) => received.plan = Some(plan),
            Some(Part::Trailer(trailer)) => received.trailer = Some(trailer),
            Some(Part::Host(host)) => sink.write(session, names.begin(host))?,
            Some(Part::Data(data)) => {
                received.disordered |= received.trailer.is_some();
                received.bytes = received.bytes.saturating_add(data.len() as u64);
                received.hash.update(&data);
                sink.write(session, &names.named(&data))?;
                if let Some(bar) = &bar {
                    let total = received.plan.as_ref().map_or(0, |plan| plan.plain_bytes);
                    bar.bytes(received.bytes, total);
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Why what was received is not what the agent sent, if so.
fn fault(client: &Client, received: &Received, broken: Option<Error>) -> Option<Error> {
    let node = client.node();
    let came = format::bytes(received.bytes);
    let Some(trailer) = &received.trailer else {
        let planned = received.plan.as_ref().map_or_else(String::new, |plan| {
            format!(" of at most {}", format::bytes(plan.plain_bytes))
        });
        let cause = broken.map_or_else(String::new, |error| format!(" ({error})"));
        let message = format!(
            "the stream from {node} ended without its trailer after {came}{planned}: everything behind \
             the last line received is missing{cause}"
        );
        return Some(incomplete("RETRIEVE_CUT", message));
    };
    let sha256 = hex::encode(received.hash.clone().finalize());
    if received.disordered || trailer.bytes != received.bytes || trailer.sha256 != sha256 {
        let message = format!(
            "what arrived is not what {node} sent: {} bytes with sha256 {sha256}, the trailer says {} \
             bytes with sha256 {}",
            received.bytes, trailer.bytes, trailer.sha256
        );
        return Some(incomplete("RETRIEVE_MISMATCH", message));
    }
    broken.map(|error| {
        incomplete(
            "RETRIEVE_CUT",
            format!("the stream from {node} broke behind its trailer ({error})"),
        )
    })
}

fn incomplete(reason: &str, message: String) -> Error {
    Error::new(Kind::Incomplete, "DATA_LOSS", reason, message, "run it again")
}

/// All that the agent had has come; it may still have had gaps.
fn finished(
    session: &Session<'_>,
    arguments: &Retrieve,
    received: Received,
) -> Result<Answer, Stop> {
    let trailer = received.trailer.unwrap_or_default();
    if session.for_people() {
        for gap in &trailer.gaps {
            session.warn(&gap_line(gap));
        }
        for warning in &trailer.warnings {
            session.warn(&format!("warning: {warning}"));
        }
        session.note(&summary(&trailer, arguments));
        if trailer.archived_only > 0 {
            let hosts = format::plural(trailer.archived_only, "other host");
            session.note(&format!(
                "of {hosts} only what is in the archive: `genesisctl logs rotate` on them archives the rest"
            ));
        }
        if trailer.expired_segments > 0 {
            let expired = format::plural(trailer.expired_segments, "segment");
            session.note(&format!(
                "retention has deleted {expired} of the range: their lines are gone for good"
            ));
        }
        if trailer.active_files_in_range {
            session.note(&format!(
                "more lines of the range may be in the active files: `genesisctl logs rotate --log-type {}` \
                 archives them",
                arguments.log_type
            ));
        }
    }
    let answer = Answer::new(session.json("RetrieveTrailer", &trailer)?, View::default());
    if trailer.gaps.is_empty() {
        return Ok(answer);
    }
    let lines = trailer.gaps.iter().fold(0u64, |sum, gap| sum.saturating_add(gap.lines));
    let message = format!(
        "{}: at most {} are missing",
        format::plural(trailer.gaps.len() as u64, "gap"),
        format::plural(lines, "line")
    );
    let next = format!(
        "see what is damaged with `genesisctl logs verify --log-type {}`",
        arguments.log_type
    );
    let error = incomplete("RETRIEVE_GAPS", message).with_next(next);
    Ok(answer.exit(Exit::Unknown).error(error))
}

fn summary(trailer: &RetrieveTrailer, arguments: &Retrieve) -> String {
    if trailer.lines == 0 && trailer.gaps.is_empty() {
        return format!("no archived lines of {} in {}", arguments.log_type, arguments.date_range);
    }
    let completeness = match trailer.gaps.len() as u64 {
        0 => "complete".to_owned(),
        gaps => format!("incomplete ({})", format::plural(gaps, "gap")),
    };
    format!(
        "{}, {} from {}, {completeness}, sha256 {}",
        format::plural(trailer.lines, "line"),
        format::bytes(trailer.bytes),
        format::plural(trailer.segments, "segment"),
        trailer.sha256
    )
}

fn gap_line(gap: &Gap) -> String {
    format!(
        "gap: segment {} {} from {} to {}, at most {}: {}: {}",
        gap.sequence,
        format::or_none(&gap.archive_name),
        format::time(gap.first_at.as_ref()),
        format::time(gap.last_at.as_ref()),
        format::plural(gap.lines, "line"),
        gap.code,
        gap.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_hosts_name_wherever_the_pieces_end() {
        let lines: [(&str, &[u8]); 2] =
            [("web-1", b"one\n\ntwo \xff\nthree"), ("web-2", b"four\n")];
        let whole = b"web-1: one\nweb-1: \nweb-1: two \xff\nweb-1: three\nweb-2: four\n";
        for size in 1..8 {
            let (mut names, mut written) = (Names::default(), Vec::new());
            for (host, data) in lines {
                written.extend_from_slice(names.begin(host.to_owned()));
                for piece in data.chunks(size) {
                    written.extend_from_slice(&names.named(piece));
                }
            }
            assert_eq!(written, whole, "{size}");
        }
        let mut one = Names::default();
        assert_eq!(one.named(b"as it is\n").as_ref(), b"as it is\n");
    }
}
