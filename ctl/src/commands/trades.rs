//! `trades`: the trades of a file, on their way to one agent.

mod rows;

use std::collections::{BTreeSet, HashMap};

use clap::{Args, Subcommand};
use genesis_client::trades::{Settled, Trades, is_name};
use genesis_client::v1::{Arm, TradeColumn};
use serde_json::{Map, Value};

use super::send_file::{self, Became, FileArguments, NAME_HINT, Words};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use rows::{Columns, Row, Rows};

const PUSH_EXAMPLES: &str = "\
CSV has a header that names the columns experiment, trade_id, unit, arm, pnl and timestamp, in any order; others are
ignored. NDJSON has an object a line with the same names. A line needs a unit, whose assignment counts, or an arm
(control or variant); a column that no line needs may be left out. A timestamp says when the trade ended: RFC 3339, or
seconds since 1970, also with a fraction. A line has at most 64 KiB, and a quoted field no line end.

Bad lines are told and left out. A trade's id counts once, whoever sends it. A regular file is known by its content: what
of it was sent before is not looked at again, so that a broken command is just run again, with the same --batch-rows.
Standard input is known by --batch-id. With --again the agent looks at each trade once more.

Exits 5 where lines are bad or the agent leaves some out (those that count already are none of these), 1 where no line is
good, 2 where the header is of no use.

Examples:
  genesisctl trades push --file trades.csv
  genesisctl trades push --file - --experiment TEST_3 --batch-id 2024-01-31 < trades.ndjson
  genesisctl trades push --file trades.csv --again -n web-1:7443";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Send the trades of a file to one agent.
    #[command(after_help = PUSH_EXAMPLES)]
    Push(Push),
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    file: FileArguments,
    /// The experiment of the lines that name none.
    #[arg(long, value_name = "ID", value_parser = parse_experiment)]
    experiment: Option<String>,
}

fn parse_experiment(text: &str) -> Result<String, String> {
    let known = is_name(text, 128).then(|| text.to_owned());
    known.ok_or_else(|| format!("an experiment is 1 to 128 {NAME_HINT}"))
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    let Verb::Push(arguments) = verb;
    send_file::send(session, &arguments.file, lines(arguments.experiment.clone())).await
}

/// Lines before the first; `experiment`: of those that name none.
pub(super) fn lines(experiment: Option<String>) -> impl send_file::Rows<Wire = Trades> {
    Lines {
        experiment,
        rows: Rows::Json,
        columns: Vec::new(),
        places: HashMap::new(),
        bytes: 0,
        ended: BTreeSet::new(),
    }
}

/// A batch with so many bytes of text is sent, however few its lines: a message has at most 4 MiB.
const FULL: usize = 2 << 20;

/// Trades by experiment.
struct Lines {
    /// Of the lines that name none.
    experiment: Option<String>,
    rows: Rows,
    columns: Vec<TradeColumn>,
    /// Where in the columns an experiment is.
    places: HashMap<String, usize>,
    /// Of the texts in the columns.
    bytes: usize,
    /// Experiments that the looks after these trades have ended.
    ended: BTreeSet<String>,
}

impl send_file::Rows for Lines {
    type Wire = Trades;
    const WORDS: Words = Words {
        command: "trades push",
        doing: "sending trades",
        rows: "trades",
        header: "experiment,trade_id,unit,arm,pnl,timestamp",
        bad: "TRADES_BAD",
        incomplete: "TRADES_INCOMPLETE",
        again: "with --again the agent looks at each trade once more",
        columns: &[
            "ROWS",
            "BAD",
            "BATCHES",
            "COUNTED",
            "HAD BEFORE",
            "REJECTED",
            "LATE",
            "AFTER END",
            "UNKNOWN",
        ],
        left_out: &[
            ("rejected", "that are none for the agent, such as those in the future"),
            ("late", "older than their experiment, or than what ids are kept of"),
            ("afterEnd", "of experiments that have ended"),
            ("unknown", "of experiments that the agent does not know"),
        ],
    };

    fn header(&mut self, line: &str) -> Result<(), String> {
        self.rows = Rows::Csv(Columns::of_header(line, self.experiment.is_none())?);
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let row @ Row { unix_nanos, pnl, arm, .. } = self.rows.parse(line)?;
        let experiment = match (&*row.experiment, self.experiment.as_deref()) {
            ("", Some(default)) => default,
            ("", None) => return Err("it names no experiment, and there is no --experiment".into()),
            (named, _) => named,
        };
        let place = match self.places.get(experiment) {
            Some(place) => *place,
            None => {
                if !is_name(experiment, 128) {
                    let shown = format::excerpt(experiment, 40);
                    return Err(format!("the experiment {shown:?} is not 1 to 128 {NAME_HINT}"));
                }
                let experiment = experiment.to_owned();
                self.columns
                    .push(TradeColumn { experiment: experiment.clone(), ..Default::default() });
                self.places.insert(experiment, self.columns.len() - 1);
                self.columns.len() - 1
            }
        };
        self.bytes += row.id.len() + row.unit.len();
        let column = &mut self.columns[place];
        column.trade_id.push(row.id.into_owned());
        column.unix_nanos.push(unix_nanos);
        column.pnl.push(pnl);
        column.unit.push(row.unit.into_owned());
        column.arm.push(arm.into());
        Ok(())
    }

    /// The same lines are other trades in another experiment.
    fn salt(&self) -> &str {
        self.experiment.as_deref().unwrap_or_default()
    }

    fn full(&self) -> bool {
        self.bytes >= FULL
    }

    fn columns(&mut self) -> Vec<TradeColumn> {
        self.places.clear();
        self.bytes = 0;
        let mut columns = std::mem::take(&mut self.columns);
        for column in &mut columns {
            // A column that says nothing of any trade is left out.
            if column.unit.iter().all(String::is_empty) {
                column.unit.clear();
            }
            if column.arm.iter().all(|arm| *arm == Arm::Unspecified as i32) {
                column.arm.clear();
            }
        }
        columns
    }

    fn became(&mut self, settled: Settled) -> Became {
        match settled {
            Settled::Acknowledged { answer, rows, repeated } => {
                self.ended.extend(answer.ended);
                Became::Durable {
                    rows,
                    repeated,
                    had_before: answer.repeated_batch,
                    counted: answer.counted.into(),
                    duplicates: answer.duplicate.into(),
                    left_out: [answer.rejected, answer.late, answer.after_end, answer.unknown]
                        .map(u64::from)
                        .into(),
                }
            }
            Settled::Invalid { rows, error, .. } => Became::Invalid { rows, error },
        }
    }

    fn more(&self) -> (Vec<String>, Map<String, Value>) {
        let line = |id: &String| {
            format!("{id} has ended by these trades: `genesisctl experiment show {id}` says how")
        };
        let ended: Vec<_> = self.ended.iter().cloned().map(Value::from).collect();
        let fields = Map::from_iter([("ended".to_owned(), ended.into())]);
        (self.ended.iter().map(line).collect(), fields)
    }
}
