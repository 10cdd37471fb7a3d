//! What became of the lines of a file.

use genesis_client::{Error, Kind};
use serde_json::{Map, Value, json};

use super::source::Source;
use super::{Became, Words};
use crate::connect::Session;
use crate::exit::Exit;
use crate::format::{count, plural};
use crate::render::{Answer, Cell, View};

/// So many bad lines are told one by one.
const TOLD: u64 = 20;

/// Counts of lines, batches and rows.
pub(super) struct Summary {
    words: Words,
    good: u64,
    bad: u64,
    /// The first bad ones.
    told: Vec<(u64, String)>,
    batches: u64,
    duplicate_batches: u64,
    /// What the agent had before.
    duplicates: u64,
    counted: u64,
    /// Of what is durable, that whose answer was lost on the way.
    unanswered: u64,
    /// As in [`Words::left_out`].
    left_out: Vec<u64>,
    /// Of batches that the agent refuses as they are, and why.
    invalid: u64,
    refusal: Option<Error>,
}

impl Summary {
    pub(super) fn new(words: Words) -> Self {
        Self {
            left_out: vec![0; words.left_out.len()],
            words,
            good: 0,
            bad: 0,
            told: Vec::new(),
            batches: 0,
            duplicate_batches: 0,
            duplicates: 0,
            counted: 0,
            unanswered: 0,
            invalid: 0,
            refusal: None,
        }
    }

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

    pub(super) fn settle(&mut self, became: Became) {
        self.batches += 1;
        match became {
            // What was sent twice by this very call was not there before, and its counts are not known any more.
            Became::Durable { rows, repeated: true, had_before: true, .. } => {
                self.counted += rows;
                self.unanswered += rows;
            }
            Became::Durable { rows, had_before: true, .. } => {
                self.duplicate_batches += 1;
                self.duplicates += rows;
            }
            Became::Durable { counted, duplicates, left_out, .. } => {
                self.counted += counted;
                self.duplicates += duplicates;
                self.left_out.iter_mut().zip(left_out).for_each(|(all, more)| *all += more);
            }
            Became::Invalid { rows, error } => {
                self.invalid += rows;
                self.refusal = Some(error);
            }
        }
    }

    /// The summary, with what failed. `broken`: what kept it from being sent to its end. `more`: what there is to say beyond
    /// the numbers.
    pub(super) fn answer(
        &self,
        session: &Session<'_>,
        source: &Source,
        broken: Option<Error>,
        (more, fields): (Vec<String>, Map<String, Value>),
    ) -> Answer {
        if self.bad > TOLD {
            session.warn(&format!("and {}", plural(self.bad - TOLD, "more bad line")));
        }
        let mut json = self.json(source);
        json.extend(fields);
        let mut view = self.view(session, source);
        if self.unanswered > 0 {
            view.tail.push(format!(
                "{} of them are durable, and the answer that tells what counts was lost with the connection",
                count(self.unanswered)
            ));
        }
        view.tail.extend(more);
        let answer = Answer::new(json.into(), view);
        match broken.map(|error| resumable(error, source)).or_else(|| self.fault()) {
            None => answer,
            Some(error) if error.reason == self.words.bad => answer.exit(Exit::Failed).error(error),
            Some(error) => answer.exit(Exit::of_error(&error)).error(error),
        }
    }

    /// What is missing of it, if anything is.
    fn fault(&self) -> Option<Error> {
        if self.good == 0 && self.bad > 0 {
            let message = format!("none of {} is good", plural(self.bad, "line"));
            let command = self.words.command;
            let next = format!("see with `genesisctl {command} --help` how lines are written");
            let (code, reason) = ("INVALID_ARGUMENT", self.words.bad);
            return Some(Error::new(Kind::Invalid, code, reason, message, next));
        }
        let refused = match &self.refusal {
            Some(error) => format!("in batches that the agent refuses ({error})"),
            None => String::new(),
        };
        let left_out = self.words.left_out.iter().map(|(_, what)| *what);
        let mut missing = vec![(self.bad, "in bad lines")];
        missing.extend(self.left_out.iter().copied().zip(left_out));
        missing.push((self.invalid, &refused));
        let missing = missing.iter().filter(|(number, _)| *number > 0);
        let missing: Vec<_> =
            missing.map(|(number, what)| format!("{} {what}", count(*number))).collect();
        if missing.is_empty() {
            return None;
        }
        let message = format!("not all {} count: {}", self.words.rows, missing.join(", "));
        let next = "mend them, and send what was mended as a file of its own";
        let (code, reason) = ("DATA_LOSS", self.words.incomplete);
        Some(Error::new(Kind::Incomplete, code, reason, message, next))
    }

    fn view(&self, session: &Session<'_>, source: &Source) -> View {
        let mut numbers =
            vec![self.good + self.bad, self.bad, self.batches, self.counted, self.duplicates];
        numbers.extend(&self.left_out);
        let mut tail = Vec::new();
        if self.duplicate_batches > 0 {
            tail.push(match self.duplicate_batches == self.batches {
                true => {
                    format!("it was there before, so nothing was counted: {}", self.words.again)
                }
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
            tail.push(format!("{} has no {}", source.name(), self.words.rows));
        }
        View {
            columns: self.words.columns,
            rows: vec![numbers.iter().map(|number| Cell::number(count(*number))).collect()],
            tail,
            ..View::default()
        }
    }

    /// As protobuf writes such numbers.
    fn json(&self, source: &Source) -> Map<String, Value> {
        let text = |number: u64| number.to_string();
        let told =
            self.told.iter().map(|(line, why)| json!({ "line": text(*line), "reason": why }));
        let Value::Object(mut json) = json!({
            "file": source.name(),
            "producer": source.producer,
            "rows": text(self.good + self.bad),
            "bad": text(self.bad),
            "badLines": told.collect::<Vec<_>>(),
            "batches": text(self.batches),
            "duplicateBatches": text(self.duplicate_batches),
            "duplicates": text(self.duplicates),
            "counted": text(self.counted),
            "invalid": text(self.invalid),
        }) else {
            return Map::new();
        };
        let left_out = self.words.left_out.iter().zip(&self.left_out);
        json.extend(left_out.map(|((name, _), number)| ((*name).to_owned(), text(*number).into())));
        json
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
