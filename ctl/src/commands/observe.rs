//! `observe`: the observations of a file, on their way to one agent.

mod lines;
mod rows;
mod source;
mod summary;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use genesis_client::observe::{BATCH_LIMIT, DEFAULT_WINDOW, ObserveStream, is_name};
use genesis_client::v1::ObservationColumn;
use genesis_client::{Client, Error};

use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::progress::Bar;
use crate::render::Answer;
use lines::Line;
use rows::{Columns, Row, Rows};
use source::Source;
use summary::Summary;

const EXAMPLES: &str = "\
CSV has a header that names the columns operation, timestamp, and latency_ms or latency_s, in any order; others are
ignored. NDJSON has an object a line with the same names. A timestamp says when the call ended: RFC 3339, or seconds
since 1970, also with a fraction. A line has at most 64 KiB, and a quoted field no line end.

Bad lines are told and left out. A regular file is known by its content: what of it was sent before does not count
again, so that a broken command is just run again, with the same --batch-rows. Standard input is known by --batch-id.

Exits 5 where lines are bad or the agent leaves some out, 1 where no line is good, 2 where the header is of no use.

Examples:
  genesisctl observe --file latencies.csv
  genesisctl observe --file - --operation orders.place --batch-id 2024-01-31 < latencies.ndjson
  genesisctl observe --file latencies.csv --again -n web-1:7443";

/// How the lines of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// By the name of the file, else by its first character.
    Auto,
    /// Comma-separated values below a header.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The file to read; `-` is standard input.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// How its lines are written.
    #[arg(long, value_enum, default_value_t = FileFormat::Auto)]
    format: FileFormat,
    /// The operation of the lines that name none.
    #[arg(long, value_name = "NAME", value_parser = parse_operation)]
    operation: Option<String>,
    /// The name under which the agent knows what was sent before; 1 to 64 of a-z, A-Z, 0-9 and -_.:/
    #[arg(long, value_name = "ID", value_parser = parse_batch_id, conflicts_with = "again")]
    batch_id: Option<String>,
    /// Count the file once more, even if it was sent before.
    #[arg(long)]
    again: bool,
    /// So many lines are sent at a time.
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=BATCH_LIMIT as i64))]
    batch_rows: u32,
}

const NAME_HINT: &str = "of a-z, A-Z, 0-9 and -_.:/";

fn parse_operation(text: &str) -> Result<String, String> {
    let known = is_name(text, 128).then(|| text.to_owned());
    known.ok_or_else(|| format!("an operation is 1 to 128 {NAME_HINT}"))
}

fn parse_batch_id(text: &str) -> Result<String, String> {
    let known = is_name(text, 64).then(|| text.to_owned());
    known.ok_or_else(|| format!("an id is 1 to 64 {NAME_HINT}"))
}

pub(super) async fn observe(session: &Session<'_>, arguments: &Arguments) -> Result<Exit, Halt> {
    session.one_node("observe")?;
    let mut source = Source::open(session, arguments)?;
    let mut reader = Reader::begin(session, &mut source, arguments)?;
    // What was sent stays sent, whoever reads the summary.
    session.changing.set(true);
    let work = RefCell::new(Some((source, &mut reader)));
    let work = &work;
    session
        .each(|client| async move {
            let Some((source, reader)) = work.borrow_mut().take() else {
                return Err(Halt::Failed("the file was sent already".into()).into());
            };
            let sending = send(session, &client, source, reader, arguments);
            session.limited(client.node(), sending).await
        })
        .await
}

/// Makes batches of lines.
struct Reader {
    rows: Rows,
    /// The number of the last line.
    line: u64,
    buffer: Vec<u8>,
    columns: Vec<ObservationColumn>,
    /// Where in the columns an operation is.
    places: HashMap<String, usize>,
    /// How many good lines are in the columns.
    pending: u32,
    summary: Summary,
}

impl Reader {
    /// Reads the header, if there must be one.
    fn begin(
        session: &Session<'_>,
        source: &mut Source,
        arguments: &Arguments,
    ) -> Result<Self, Halt> {
        let mut reader = Self {
            rows: Rows::Json,
            line: 0,
            buffer: Vec::new(),
            columns: Vec::new(),
            places: HashMap::new(),
            pending: 0,
            summary: Summary::default(),
        };
        if source.format == FileFormat::Ndjson {
            return Ok(reader);
        }
        let name = source.name();
        let unusable = |why: &str| {
            Halt::Usage(format!(
                "the header of {name} can't be used: {why}. It names the columns, such as \
                 operation,timestamp,latency_ms"
            ))
        };
        let found = source.line(session, &mut reader.buffer)?;
        reader.line = 1;
        let header = match (found, std::str::from_utf8(&reader.buffer)) {
            (Line::None, _) => return Err(unusable("there is none")),
            (Line::TooLong, _) => return Err(unusable("it is too long")),
            (Line::Whole, Err(_)) => return Err(unusable("it is not UTF-8")),
            (Line::Whole, Ok(header)) => header,
        };
        let columns = Columns::of_header(header, arguments.operation.is_none());
        reader.rows = Rows::Csv(columns.map_err(|why| unusable(&why))?);
        Ok(reader)
    }

    /// Reads until there is a batch; `None`: all is read. Its sequence is the number of its last line, so that it stands
    /// for the same lines whatever came before.
    fn batch(
        &mut self,
        session: &Session<'_>,
        source: &mut Source,
        arguments: &Arguments,
    ) -> Result<Option<(u64, Vec<ObservationColumn>)>, Halt> {
        let mut ended = false;
        while !ended && self.pending < arguments.batch_rows {
            match source.line(session, &mut self.buffer)? {
                Line::None => {
                    ended = true;
                    continue;
                }
                Line::TooLong => {
                    self.line += 1;
                    let why =
                        format!("it is longer than {} bytes", format::count(lines::LONGEST as u64));
                    self.summary.bad(session, self.line, &why);
                    continue;
                }
                Line::Whole => self.line += 1,
            }
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if let Err(why) = self.take(arguments.operation.as_deref()) {
                self.summary.bad(session, self.line, &why);
            }
        }
        if self.pending == 0 {
            return Ok(None);
        }
        self.pending = 0;
        self.places.clear();
        Ok(Some((self.line, std::mem::take(&mut self.columns))))
    }

    /// Takes the line in the buffer.
    fn take(&mut self, default: Option<&str>) -> Result<(), String> {
        let line = std::str::from_utf8(&self.buffer).map_err(|_| "it is not UTF-8")?;
        let Row { operation, unix_nanos, seconds } = self.rows.parse(line)?;
        let operation = match (&*operation, default) {
            ("", Some(default)) => default,
            ("", None) => return Err("it names no operation, and there is no --operation".into()),
            (named, _) => named,
        };
        let place = match self.places.get(operation) {
            Some(place) => *place,
            None => {
                if !is_name(operation, 128) {
                    let shown = format::excerpt(operation, 40);
                    return Err(format!("the operation {shown:?} is not 1 to 128 {NAME_HINT}"));
                }
                let operation = operation.to_owned();
                self.columns
                    .push(ObservationColumn { operation: operation.clone(), ..Default::default() });
                self.places.insert(operation, self.columns.len() - 1);
                self.columns.len() - 1
            }
        };
        let column = &mut self.columns[place];
        column.unix_nanos.push(unix_nanos);
        column.seconds.push(seconds);
        self.pending += 1;
        self.summary.good();
        Ok(())
    }
}

async fn send(
    session: &Session<'_>,
    client: &Client,
    mut source: Source,
    reader: &mut Reader,
    arguments: &Arguments,
) -> Result<Answer, Stop> {
    let mut stream = ObserveStream::new(client.clone(), &source.producer, DEFAULT_WINDOW)?;
    let bar = session.bar("observing");
    let sent = push(session, &mut stream, (&mut source, &mut *reader), arguments, &bar).await;
    drop(bar);
    let broken = match sent {
        Ok(()) => {
            stream.close().await;
            None
        }
        // A file that was changed is a failure like any other, and what was sent is told.
        Err(Stop::Node(error) | Stop::Halt(Halt::Error(error))) => Some(error),
        Err(halt) => return Err(halt),
    };
    Ok(reader.summary.answer(session, &source, broken))
}

/// Sends all of it. Waits where so many batches are on their way that no more may be.
async fn push(
    session: &Session<'_>,
    stream: &mut ObserveStream,
    (source, reader): (&mut Source, &mut Reader),
    arguments: &Arguments,
    bar: &Bar,
) -> Result<(), Stop> {
    while let Some((sequence, columns)) = reader.batch(session, source, arguments)? {
        source.unchanged()?;
        while !stream.has_room() {
            settle(stream, &mut reader.summary).await?;
        }
        stream.push(sequence, columns)?;
        bar.bytes(source.read, source.size);
    }
    while stream.unanswered() > 0 {
        settle(stream, &mut reader.summary).await?;
    }
    Ok(source.unchanged()?)
}

async fn settle(stream: &mut ObserveStream, summary: &mut Summary) -> Result<(), Error> {
    if let Some(settled) = stream.next().await? {
        summary.settle(settled);
    }
    Ok(())
}
