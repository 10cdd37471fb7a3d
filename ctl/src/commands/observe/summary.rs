//! What became of the lines of a file.

use genesis_client::observe::Settled;
use genesis_client::{Error, Kind};
use serde_json::{Value, json};

use super::source::Source;
use crate::connect::Session;
use crate::exit::Exit;
use crate::format::{count, plural};
use crate::render::{Answer, Cell, View};

/// So many bad lines are told one by one.
const TOLD: u64 = 20;

const COLUMNS: &[&str] = &[
    "ROWS",
    "BAD",
    "BATCHES",
    "COUNTED",
    "HAD BEFORE",
    "REJECTED",
    "LATE",
    "AHEAD",
    "CROWDED OUT",
];

/// Counts of lines, batches and observations.
#[derive(Debug, Default)]
pub(super) struct Summary {
    good: u64,
    bad: u64,
    /// The first bad ones.
    told: Vec<(u64, String)>,
    batches: u64,
    duplicate_batches: u64,
    /// Of batches that the agent had before.
    duplicates: u64,
    counted: u64,
    rejected: u64,
    late: u64,
    ahead: u64,
    crowded_out: u64,
    /// Of batches that the agent refuses as they are, and why.
    invalid: u64,
    refusal: Option<Error>,
}

impl Summary {
    pub(super) fn good(&mut self) {
        self.good += 1;
    }

    /// Tells of a bad line.
    pub(super) fn bad(&mut self, session: &Session<'_>, line: u64, why: &str) {
        self.bad += 1;
        if self.bad <= TOLD {
            session.warn(&format!("line {line}: {why}"));
            self.told.push((line, why.to_owned()));
        }
    }

    pub(super) fn settle(&mut self, settled: Settled) {
        self.batches += 1;
        match settled {
            // What was sent twice by this very call was not there before, and its counts are not known any more.
            Settled::Acknowledged { answer, observations, repeated } if answer.duplicate => {
                if repeated {
                    self.counted += observations;
                } else {
                    self.duplicate_batches += 1;
                    self.duplicates += observations;
                }
            }
            Settled::Acknowledged { answer, .. } => {
                self.counted += u64::from(answer.counted);
                self.rejected += u64::from(answer.rejected);
                self.late += u64::from(answer.late);
                self.ahead += u64::from(answer.ahead);
                self.crowded_out += u64::from(answer.crowded_out);
            }
            Settled::Invalid { observations, error, .. } => {
                self.invalid += observations;
                self.refusal = Some(error);
            }
        }
    }

    /// The summary, with what failed. `broken`: what kept it from being sent to its end.
    pub(super) fn answer(
        &self,
        session: &Session<'_>,
        source: &Source,
        broken: Option<Error>,
    ) -> Answer {
        if self.bad > TOLD {
            session.warn(&format!("and {}", plural(self.bad - TOLD, "more bad line")));
        }
        let answer = Answer::new(self.json(source), self.view(session, source));
        match broken.map(|error| resumable(error, source)).or_else(|| self.fault()) {
            None => answer,
            Some(error) if error.reason == "OBSERVATIONS_BAD" => {
                answer.exit(Exit::Failed).error(error)
            }
            Some(error) => answer.exit(Exit::of_error(&error)).error(error),
        }
    }

    /// What is missing of it, if anything is.
    fn fault(&self) -> Option<Error> {
        if self.good == 0 && self.bad > 0 {
            let message = format!("none of {} is good", plural(self.bad, "line"));
            let next = "see with `genesisctl observe --help` how lines are written";
            let (code, reason) = ("INVALID_ARGUMENT", "OBSERVATIONS_BAD");
            return Some(Error::new(Kind::Invalid, code, reason, message, next));
        }
        let refused = match &self.refusal {
            Some(error) => format!("in batches that the agent refuses ({error})"),
            None => String::new(),
        };
        let missing = [
            (self.bad, "in bad lines"),
            (self.rejected, "without a latency that counts"),
            (self.late, "older than what the agent keeps"),
            (self.ahead, "in the future by the agent's clock"),
            (self.crowded_out, "of new operations for which the agent has no room"),
            (self.invalid, &refused),
        ];
        let missing = missing.iter().filter(|(number, _)| *number > 0);
        let missing: Vec<_> =
            missing.map(|(number, what)| format!("{} {what}", count(*number))).collect();
        if missing.is_empty() {
            return None;
        }
        let message = format!("not all observations count: {}", missing.join(", "));
        let next = "mend them, and send what was mended as a file of its own";
        Some(Error::new(Kind::Incomplete, "DATA_LOSS", "OBSERVATIONS_INCOMPLETE", message, next))
    }

    fn view(&self, session: &Session<'_>, source: &Source) -> View {
        let numbers = [
            self.good + self.bad,
            self.bad,
            self.batches,
            self.counted,
            self.duplicates,
            self.rejected,
            self.late,
            self.ahead,
            self.crowded_out,
        ];
        let mut tail = Vec::new();
        if self.duplicate_batches > 0 {
            tail.push(match self.duplicate_batches == self.batches {
                true => "it was there before, so nothing was counted: --again counts it once more"
                    .to_owned(),
                false => format!(
                    "{} of {} batches were there before, and were not counted again",
                    count(self.duplicate_batches),
                    count(self.batches)
                ),
            });
        }
        if session.global.verbose {
            tail.push(format!("producer: {}", source.producer));
        }
        if self.good + self.bad == 0 {
            tail.push(format!("{} has no observations", source.name()));
        }
        View {
            columns: COLUMNS,
            rows: vec![numbers.iter().map(|number| Cell::number(count(*number))).collect()],
            tail,
            ..View::default()
        }
    }

    /// As protobuf writes such numbers.
    fn json(&self, source: &Source) -> Value {
        let text = |number: u64| number.to_string();
        let told =
            self.told.iter().map(|(line, why)| json!({ "line": text(*line), "reason": why }));
        json!({
            "file": source.name(),
            "producer": source.producer,
            "rows": text(self.good + self.bad),
            "bad": text(self.bad),
            "badLines": told.collect::<Vec<_>>(),
            "batches": text(self.batches),
            "duplicateBatches": text(self.duplicate_batches),
            "duplicates": text(self.duplicates),
            "counted": text(self.counted),
            "rejected": text(self.rejected),
            "late": text(self.late),
            "ahead": text(self.ahead),
            "crowdedOut": text(self.crowded_out),
            "invalid": text(self.invalid),
        })
    }
}

/// How the rest is sent.
fn resumable(error: Error, source: &Source) -> Error {
    if error.reason == "FILE_CHANGED" {
        return error;
    }
    let next = match source.repeatable {
        true => "then run it again: what was counted is not counted twice".to_owned(),
        false => format!(
            "then send all of it again with --batch-id {}: what was counted is not counted twice",
            source.producer
        ),
    };
    let next = format!("{}; {next}", error.next);
    error.with_next(next)
}
