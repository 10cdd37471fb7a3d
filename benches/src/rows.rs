//! What the benches have said: a line of JSON for each figure, each run of a bench, and the machine.

use serde_json::Value;

/// What is held against a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Value,
    /// The value divided by the peer's.
    Ratio,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    pub(crate) of: Of,
    pub(crate) at_most: bool,
    pub(crate) limit: f64,
}

/// Whether a goal is met.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    NoGoal,
    Met,
    Missed,
    /// It could not be judged, and why.
    Unjudged(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) bench: String,
    pub(crate) name: String,
    /// `None` where it came out as no number.
    pub(crate) value: Option<f64>,
    pub(crate) unit: String,
    /// Its name, and its value where it could be had.
    pub(crate) peer: Option<(String, Option<f64>)>,
    pub(crate) goal: Option<Goal>,
    pub(crate) unjudged: Option<String>,
}

impl Figure {
    pub(crate) fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?.1?;
        (peer != 0.0).then(|| self.value.map(|value| value / peer)).flatten()
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let Some(goal) = &self.goal else { return Verdict::NoGoal };
        if let Some(why) = &self.unjudged {
            return Verdict::Unjudged(why.clone());
        }
        let measured = match goal.of {
            Of::Value => self.value,
            Of::Ratio if self.peer.as_ref().is_none_or(|(_, value)| value.is_none()) => {
                return Verdict::Unjudged("the peer is not here".to_owned());
            }
            Of::Ratio => self.ratio(),
        };
        let met = measured.is_some_and(|measured| {
            if goal.at_most { measured <= goal.limit } else { measured >= goal.limit }
        });
        if met { Verdict::Met } else { Verdict::Missed }
    }
}

/// One run of a bench.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ran {
    pub(crate) bench: String,
    pub(crate) at: String,
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) seconds: String,
    /// What it said as it broke off; empty where it came to its end.
    pub(crate) broke: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    /// What is known of the machine, in order.
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) runs: Vec<Ran>,
    pub(crate) figures: Vec<Figure>,
}

impl Rows {
    /// Reads them; a line that is none of them is refused with its number.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rows = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let value: Value =
                serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
            rows.take(&value).ok_or_else(|| format!("line {number} is no row: {line}"))?;
        }
        Ok(rows)
    }

    fn take(&mut self, line: &Value) -> Option<()> {
        if let Some(facts) = line.get("machine") {
            for fact in facts.as_array()? {
                self.machine.push((text(&fact[0])?, text(&fact[1])?));
            }
            return Some(());
        }
        let bench = text(&line["bench"])?;
        if let Some(ran) = line.get("ran") {
            let field = |key: &str| text(&ran[key]);
            let (at, commit, cpu) = (field("at")?, field("commit")?, field("cpu")?);
            let (seconds, broke) = (field("seconds")?, field("broke")?);
            self.runs.push(Ran { bench, at, commit, cpu, seconds, broke });
            return Some(());
        }
        let peer = match &line["peer"] {
            Value::Null => None,
            peer => Some((text(&peer["name"])?, peer["value"].as_f64())),
        };
        let goal = match &line["goal"] {
            Value::Null => None,
            goal => Some(Goal {
                of: if goal["of"].as_str()? == "ratio" { Of::Ratio } else { Of::Value },
                at_most: goal["bound"].as_str()? == "at most",
                limit: goal["limit"].as_f64()?,
            }),
        };
        self.figures.push(Figure {
            bench,
            name: text(&line["name"])?,
            value: line["value"].as_f64(),
            unit: text(&line["unit"])?,
            peer,
            goal,
            unjudged: text(&line["unjudged"]),
        });
        Some(())
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Why goals are missed: of each figure that has a heading `## BENCH: NAME`, what is below it.
pub(crate) fn limits(text: &str) -> Vec<(String, String)> {
    let sections = text.split("\n## ").skip(1);
    sections
        .filter_map(|section| {
            let (heading, reason) = section.split_once('\n')?;
            Some((heading.trim().to_owned(), reason.trim().to_owned()))
        })
        .collect()
}
