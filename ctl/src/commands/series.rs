//! `series`: the verbs, and the values of a file on their way to one agent.

mod look;
mod rows;

use std::borrow::Cow;
use std::collections::HashMap;

use clap::{Args, Subcommand};
use genesis_client::series::{BATCH_LIMIT, NAME_LIMIT, Settled, Values, is_name};
use genesis_client::v1::SeriesColumn;
use serde_json::{Map, Value};

use super::send_file::{self, Became, FileArguments, NAME_HINT, Words};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count};
use rows::{Row, Rows};

const PUSH_EXAMPLES: &str = "\
CSV is long or wide, as its header says. Long: the columns series, timestamp and value, in any order; others are ignored.
Wide: a column timestamp, and one for each series, by its name. NDJSON has an object a line with series, timestamp and
value. A timestamp is RFC 3339, or seconds since 1970, also with a fraction. A line has at most 64 KiB, and a quoted
field no line end.

An empty cell is a value that is missing, and so are null, NaN and infinity: they are counted, and not sent. Of each series
and bucket of time the last value counts, by its timestamp; those before it are superseded.

Bad lines are told and left out, with all of their cells. A regular file is known by its content: what of it was sent
before does not count again, so that a broken command is just run again, with the same --batch-rows; --again sends it once
more. Standard input is known by --batch-id.

Exits 5 where lines are bad or the agent leaves some values out, 1 where no line is good, 2 where the header is of no use.

Examples:
  genesisctl series push --file prices.csv
  genesisctl series push --file - --batch-id 2024-01-31 < ticks.ndjson
  genesisctl series push --file btc.csv --series BTC --again -n web-1:7443";

const LIST_EXAMPLES: &str = "\
POINTS are the buckets of the window with a value, MISSING those without one between the first and the last, GAPS the runs
of these. Matrices are calculated from the series that are USED. AGE is by the agent's clock.

Examples:
  genesisctl series list
  genesisctl series list 'BTC*' --limit 20
  genesisctl series list -o json";

const GAPS_EXAMPLES: &str = "\
Examples:
  genesisctl series gaps BTC
  genesisctl series gaps BTC --limit 5 -o json";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Send the values of a file to one agent.
    #[command(after_help = PUSH_EXAMPLES)]
    Push(Push),
    /// List the series, and how complete each is within the window.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those whose names match, such as `BTC*`.
        #[arg(default_value = "", hide_default_value = true)]
        pattern: String,
        /// At most this many. Without it: all.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
    },
    /// List where a series has no values, the longest gaps first.
    #[command(after_help = GAPS_EXAMPLES)]
    Gaps {
        /// The series.
        #[arg(value_name = "NAME", value_parser = parse_series)]
        series: String,
        /// At most this many.
        #[arg(long, value_name = "N", default_value_t = 50,
            value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    file: FileArguments,
    /// The series of the lines that name none.
    #[arg(long, value_name = "NAME", value_parser = parse_series)]
    series: Option<String>,
}

fn parse_series(text: &str) -> Result<String, String> {
    let known = is_name(text, NAME_LIMIT).then(|| text.to_owned());
    known.ok_or_else(|| format!("a series is 1 to {NAME_LIMIT} {NAME_HINT}"))
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Push(arguments) => {
            send_file::send(session, &arguments.file, lines(arguments.series.clone())).await
        }
        Verb::List { pattern, limit } => look::list(session, pattern, limit.unwrap_or(0)).await,
        Verb::Gaps { series, limit } => look::gaps(session, series, *limit).await,
    }
}

/// Lines before the first; `series`: of those that name none.
pub(super) fn lines(series: Option<String>) -> impl send_file::Rows<Wire = Values> {
    Lines { series, rows: Rows::Json, batch: Batch::default(), missing: 0, superseded: 0 }
}

/// Values by series.
struct Lines {
    /// Of the lines that name none.
    series: Option<String>,
    rows: Rows,
    batch: Batch,
    /// Values of which the file says that they are missing.
    missing: u64,
    superseded: u64,
}

#[derive(Default)]
struct Batch {
    columns: Vec<SeriesColumn>,
    /// Where in the columns a series is.
    places: HashMap<String, usize>,
    values: usize,
}

impl Batch {
    fn put(&mut self, series: &str, unix_nanos: i64, value: f64) {
        let place = match self.places.get(series) {
            Some(place) => *place,
            None => {
                let series = series.to_owned();
                self.columns.push(SeriesColumn { series: series.clone(), ..Default::default() });
                self.places.insert(series, self.columns.len() - 1);
                self.columns.len() - 1
            }
        };
        let column = &mut self.columns[place];
        column.unix_nanos.push(unix_nanos);
        column.value.push(value);
        self.values += 1;
    }
}

impl send_file::Rows for Lines {
    type Wire = Values;
    const WORDS: Words = Words {
        command: "series push",
        doing: "sending values",
        rows: "values",
        header: "series,timestamp,value or timestamp,BTC,ETH",
        bad: "SERIES_BAD",
        incomplete: "SERIES_INCOMPLETE",
        again: "--again sends it once more",
        columns: &[
            "LINES",
            "BAD",
            "BATCHES",
            "COUNTED",
            "HAD BEFORE",
            "REJECTED",
            "LATE",
            "UNKNOWN",
        ],
        left_out: &[
            ("rejected", "that are none for the agent, such as those in the future"),
            ("late", "older than the window"),
            ("unknown", "of series for which the agent has no room"),
        ],
    };

    fn header(&mut self, line: &str) -> Result<(), String> {
        self.rows = Rows::of_header(line, self.series.is_some())?;
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let Row { unix_nanos, mut values } = self.rows.parse(line)?;
        // All of the line, or nothing.
        for (series, _) in &mut values {
            match (series.is_empty(), self.series.as_deref()) {
                (true, Some(default)) => *series = Cow::Borrowed(default),
                (true, None) => return Err("it names no series, and there is no --series".into()),
                (false, _) => {}
            }
            if !is_name(series, NAME_LIMIT) {
                let shown = format::excerpt(series, 40);
                return Err(format!("the series {shown:?} is not 1 to {NAME_LIMIT} {NAME_HINT}"));
            }
        }
        for (series, value) in &values {
            match value {
                Some(value) => self.batch.put(series, unix_nanos, *value),
                None => self.missing += 1,
            }
        }
        Ok(())
    }

    /// The same lines are other values in another series.
    fn salt(&self) -> &str {
        self.series.as_deref().unwrap_or_default()
    }

    /// The next line would not fit any more.
    fn full(&self) -> bool {
        self.batch.values + self.rows.width() > BATCH_LIMIT
    }

    fn columns(&mut self) -> Vec<SeriesColumn> {
        std::mem::take(&mut self.batch).columns
    }

    fn became(&mut self, settled: Settled) -> Became {
        match settled {
            Settled::Acknowledged { answer, rows, repeated } => {
                self.superseded += u64::from(answer.superseded);
                Became::Durable {
                    rows,
                    repeated,
                    had_before: answer.repeated_batch,
                    counted: answer.counted.into(),
                    duplicates: 0,
                    left_out: [answer.rejected, answer.late, answer.unknown].map(u64::from).into(),
                }
            }
            Settled::Invalid { rows, error, .. } => Became::Invalid { rows, error },
        }
    }

    fn more(&self) -> (Vec<String>, Map<String, Value>) {
        let mut lines = Vec::new();
        if self.superseded > 0 {
            lines.push(format!(
                "{} more came before the last value of their bucket, which is the one that counts",
                count(self.superseded)
            ));
        }
        if self.missing > 0 {
            lines.push(format!("{} are missing, and were not sent", count(self.missing)));
        }
        let fields = [("superseded", self.superseded), ("missing", self.missing)];
        let fields = fields.map(|(name, number)| (name.to_owned(), number.to_string().into()));
        (lines, Map::from_iter(fields))
    }
}
