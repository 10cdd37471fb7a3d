//! What `observe`, `trades push` and `series push` have in common: the lines of a file, on their way to one agent.

pub(super) mod any;
mod lines;
mod source;
mod summary;
pub(super) mod text;

use std::cell::RefCell;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use genesis_client::push::{BatchStream, DEFAULT_WINDOW, Settled, Wire, is_name};
use genesis_client::{Client, Error};
use serde_json::{Map, Value};

use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::progress::Bar;
use crate::render::Answer;
use lines::Line;
use source::Source;
use summary::Summary;

/// What is wrong with a name that is none.
pub(super) const NAME_HINT: &str = "of a-z, A-Z, 0-9 and -_.:/";

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

/// Which file, and how it is sent.
#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// The file to read; `-` is standard input.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// How its lines are written.
    #[arg(long, value_enum, default_value_t = FileFormat::Auto)]
    format: FileFormat,
    /// The name under which the agent knows what was sent before; 1 to 64 of a-z, A-Z, 0-9 and -_.:/
    #[arg(long, value_name = "ID", value_parser = parse_batch_id, conflicts_with = "again")]
    batch_id: Option<String>,
    /// Send the file once more, even if it was sent before.
    #[arg(long)]
    again: bool,
    /// So many lines are sent at a time.
    #[arg(long, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch_rows: u32,
}

fn parse_batch_id(text: &str) -> Result<String, String> {
    let known = is_name(text, 64).then(|| text.to_owned());
    known.ok_or_else(|| format!("an id is 1 to 64 {NAME_HINT}"))
}

/// How a kind of lines is spoken of.
pub(super) struct Words {
    /// The command, such as "observe".
    pub(super) command: &'static str,
    /// What a progress bar says.
    pub(super) doing: &'static str,
    /// What the lines are, such as "observations".
    pub(super) rows: &'static str,
    /// A header that can be used.
    pub(super) header: &'static str,
    /// The codes where no line is good, and where not all count.
    pub(super) bad: &'static str,
    pub(super) incomplete: &'static str,
    /// What comes of sending a file again.
    pub(super) again: &'static str,
    /// The columns of the summary, a number each: lines, bad ones, batches, what counts, what was had before, and one for
    /// each of `left_out`.
    pub(super) columns: &'static [&'static str],
    /// What the agent leaves out: its name in JSON, and what those are.
    pub(super) left_out: &'static [(&'static str, &'static str)],
}

/// What became of a batch.
pub(super) enum Became {
    /// It is durable.
    Durable {
        rows: u64,
        /// It was sent more than once by this very call.
        repeated: bool,
        /// The agent had it before.
        had_before: bool,
        counted: u64,
        /// Rows that the agent had before, in a batch that it had not.
        duplicates: u64,
        /// What the agent leaves out, as in [`Words::left_out`].
        left_out: Vec<u64>,
    },
    /// The agent takes nothing of it.
    Invalid { rows: u64, error: Error },
}

/// Makes batches of lines.
pub(super) trait Rows {
    /// How they are sent.
    type Wire: Wire;
    const WORDS: Words;

    /// Takes the header of CSV; without one, the lines are JSON.
    fn header(&mut self, line: &str) -> Result<(), String>;
    /// Takes a line, or says why it is none.
    fn take(&mut self, line: &str) -> Result<(), String>;
    /// What makes of the same lines something else: then they are another file.
    fn salt(&self) -> &str {
        ""
    }
    /// Whether the batch must be sent, however few its lines.
    fn full(&self) -> bool {
        false
    }
    /// The lines since the last time.
    fn columns(&mut self) -> Vec<<Self::Wire as Wire>::Column>;
    fn became(&mut self, settled: Settled<<Self::Wire as Wire>::Answer>) -> Became;
    /// What there is to say beyond the numbers, for people and in JSON.
    fn more(&self) -> (Vec<String>, Map<String, Value>) {
        (Vec::new(), Map::new())
    }
}

pub(super) async fn send<R: Rows>(
    session: &Session<'_>,
    arguments: &FileArguments,
    rows: R,
) -> Result<Exit, Halt> {
    session.one_node(R::WORDS.command)?;
    let mut source = Source::open(session, arguments, rows.salt())?;
    let mut reader = Reader::begin(session, &mut source, rows)?;
    // What was sent stays sent, whoever reads the summary.
    session.changing.set(true);
    let work = RefCell::new(Some((source, &mut reader)));
    let work = &work;
    session
        .each(|client| async move {
            let Some((source, reader)) = work.borrow_mut().take() else {
                return Err(Halt::Failed("the file was sent already".into()).into());
            };
            let sending = to_node(session, &client, source, reader, arguments.batch_rows);
            session.limited(client.node(), sending).await
        })
        .await
}

struct Reader<R: Rows> {
    rows: R,
    /// The number of the last line.
    line: u64,
    buffer: Vec<u8>,
    /// How many good lines are in the batch.
    pending: u32,
    summary: Summary,
}

impl<R: Rows> Reader<R> {
    /// Reads the header, if there must be one.
    fn begin(session: &Session<'_>, source: &mut Source, rows: R) -> Result<Self, Halt> {
        let summary = Summary::new(R::WORDS);
        let mut reader = Self { rows, line: 0, buffer: Vec::new(), pending: 0, summary };
        if source.format == FileFormat::Ndjson {
            return Ok(reader);
        }
        let name = source.name();
        let unusable = |why: &str| {
            let header = R::WORDS.header;
            Halt::Usage(format!(
                "the header of {name} can't be used: {why}. It names the columns, such as {header}"
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
        reader.rows.header(header).map_err(|why| unusable(&why))?;
        Ok(reader)
    }

    /// Reads until there is a batch; `None`: all is read. Its sequence is the number of its last line, so that it stands
    /// for the same lines whatever came before.
    fn batch(
        &mut self,
        session: &Session<'_>,
        source: &mut Source,
        most: u32,
    ) -> Result<Option<Batch<R>>, Halt> {
        let mut ended = false;
        loop {
            while !ended && self.pending < most && !self.rows.full() {
                ended = !self.read(session, source)?;
            }
            self.pending = 0;
            let columns = self.rows.columns();
            match (columns.is_empty(), ended) {
                (false, _) => return Ok(Some((self.line, columns))),
                (true, true) => return Ok(None),
                // Good lines in which there was nothing to send.
                (true, false) => {}
            }
        }
    }

    /// Takes the next line; `false`: there is none.
    fn read(&mut self, session: &Session<'_>, source: &mut Source) -> Result<bool, Halt> {
        let found = source.line(session, &mut self.buffer)?;
        if found == Line::None {
            return Ok(false);
        }
        self.line += 1;
        if found == Line::TooLong {
            let why = format!("it is longer than {} bytes", format::count(lines::LONGEST as u64));
            self.summary.bad(session, self.line, &why);
            return Ok(true);
        }
        if self.buffer.iter().all(u8::is_ascii_whitespace) {
            return Ok(true);
        }
        match self.take() {
            Ok(()) => {
                self.pending += 1;
                self.summary.good();
            }
            Err(why) => self.summary.bad(session, self.line, &why),
        }
        Ok(true)
    }

    /// Takes the line in the buffer.
    fn take(&mut self) -> Result<(), String> {
        let line = std::str::from_utf8(&self.buffer).map_err(|_| "it is not UTF-8")?;
        self.rows.take(line)
    }

    async fn settle(&mut self, stream: &mut BatchStream<R::Wire>) -> Result<(), Error> {
        if let Some(settled) = stream.next().await? {
            self.summary.settle(self.rows.became(settled));
        }
        Ok(())
    }
}

/// Its sequence, and what is in it.
type Batch<R> = (u64, Vec<<<R as Rows>::Wire as Wire>::Column>);

async fn to_node<R: Rows>(
    session: &Session<'_>,
    client: &Client,
    mut source: Source,
    reader: &mut Reader<R>,
    most: u32,
) -> Result<Answer, Stop> {
    let mut stream = BatchStream::new(client.clone(), &source.producer, DEFAULT_WINDOW)?;
    let bar = session.bar(R::WORDS.doing);
    let sent = push(session, &mut stream, (&mut source, &mut *reader), most, &bar).await;
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
    Ok(reader.summary.answer(session, &source, broken, reader.rows.more()))
}

/// Sends all of it. Waits where so many batches are on their way that no more may be.
async fn push<R: Rows>(
    session: &Session<'_>,
    stream: &mut BatchStream<R::Wire>,
    (source, reader): (&mut Source, &mut Reader<R>),
    most: u32,
    bar: &Bar,
) -> Result<(), Stop> {
    while let Some((sequence, columns)) = reader.batch(session, source, most)? {
        source.unchanged()?;
        while !stream.has_room() {
            reader.settle(stream).await?;
        }
        stream.push(sequence, columns)?;
        bar.bytes(source.read, source.size);
    }
    while stream.unanswered() > 0 {
        reader.settle(stream).await?;
    }
    Ok(source.unchanged()?)
}
