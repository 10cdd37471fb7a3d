//! `observe`: the observations of a file, on their way to one agent.

mod rows;

use std::collections::HashMap;

use clap::Args;
use genesis_client::observe::{Observations, Settled, is_name};
use genesis_client::v1::ObservationColumn;

use super::send_file::{self, Became, FileArguments, NAME_HINT, Words};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use rows::{Columns, Row, Rows};

const EXAMPLES: &str = "\
CSV has a header that names the columns operation, timestamp, and latency_ms or latency_s, in any order; others are
ignored. NDJSON has an object a line with the same names. A timestamp says when the call ended: RFC 3339, or seconds
since 1970, also with a fraction. A line has at most 64 KiB, and a quoted field no line end.

Bad lines are told and left out. A regular file is known by its content: what of it was sent before does not count
again, so that a broken command is just run again, with the same --batch-rows; --again counts it once more. Standard
input is known by --batch-id.

Exits 5 where lines are bad or the agent leaves some out, 1 where no line is good, 2 where the header is of no use.

Examples:
  genesisctl observe --file latencies.csv
  genesisctl observe --file - --operation orders.place --batch-id 2024-01-31 < latencies.ndjson
  genesisctl observe --file latencies.csv --again -n web-1:7443";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// The operation of the lines that name none.
    #[arg(long, value_name = "NAME", value_parser = parse_operation)]
    operation: Option<String>,
}

fn parse_operation(text: &str) -> Result<String, String> {
    let known = is_name(text, 128).then(|| text.to_owned());
    known.ok_or_else(|| format!("an operation is 1 to 128 {NAME_HINT}"))
}

pub(super) async fn observe(session: &Session<'_>, arguments: &Arguments) -> Result<Exit, Halt> {
    send_file::send(session, &arguments.file, lines(arguments.operation.clone())).await
}

/// Lines before the first; `operation`: of those that name none.
pub(super) fn lines(operation: Option<String>) -> impl send_file::Rows<Wire = Observations> {
    Lines { operation, rows: Rows::Json, columns: Vec::new(), places: HashMap::new() }
}

/// Observations by operation.
struct Lines {
    /// Of the lines that name none.
    operation: Option<String>,
    rows: Rows,
    columns: Vec<ObservationColumn>,
    /// Where in the columns an operation is.
    places: HashMap<String, usize>,
}

impl send_file::Rows for Lines {
    type Wire = Observations;
    const WORDS: Words = Words {
        command: "observe",
        doing: "observing",
        rows: "observations",
        header: "operation,timestamp,latency_ms",
        bad: "OBSERVATIONS_BAD",
        incomplete: "OBSERVATIONS_INCOMPLETE",
        again: "--again counts it once more",
        columns: &[
            "ROWS",
            "BAD",
            "BATCHES",
            "COUNTED",
            "HAD BEFORE",
            "REJECTED",
            "LATE",
            "AHEAD",
            "CROWDED OUT",
        ],
        left_out: &[
            ("rejected", "without a latency that counts"),
            ("late", "older than what the agent keeps"),
            ("ahead", "in the future by the agent's clock"),
            ("crowdedOut", "of new operations for which the agent has no room"),
        ],
    };

    fn header(&mut self, line: &str) -> Result<(), String> {
        self.rows = Rows::Csv(Columns::of_header(line, self.operation.is_none())?);
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let Row { operation, unix_nanos, seconds } = self.rows.parse(line)?;
        let operation = match (&*operation, self.operation.as_deref()) {
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
        Ok(())
    }

    fn columns(&mut self) -> Vec<ObservationColumn> {
        self.places.clear();
        std::mem::take(&mut self.columns)
    }

    fn became(&mut self, settled: Settled) -> Became {
        match settled {
            Settled::Acknowledged { answer, rows, repeated } => Became::Durable {
                rows,
                repeated,
                had_before: answer.duplicate,
                counted: answer.counted.into(),
                duplicates: 0,
                left_out: [answer.rejected, answer.late, answer.ahead, answer.crowded_out]
                    .map(u64::from)
                    .into(),
            },
            Settled::Invalid { rows, error, .. } => Became::Invalid { rows, error },
        }
    }
}
