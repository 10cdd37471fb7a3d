//! The text formats of metrics, read: that of Prometheus (0.0.4) and OpenMetrics 1.0, pure. A line that is no good is
//! reported by its number, and the others count.
//!
//! By hand, as no crate fits. `prometheus-parse` takes a label apart at every comma and brace, also within its value, and
//! passes over bad lines without a word; `openmetrics-parser` is LGPL and ends at the first bad line.
//!
//! What is read borrows from the text, so that it takes little beside it: a sample at most some 100 bytes and 40 for each
//! label. How long a text may be is for the caller to say.

use std::borrow::Cow;
use std::collections::HashMap;

mod histogram;
mod line;

pub use histogram::{ClassicHistogram, Quantiles};
use line::Line;

/// So many samples are taken of a text; further ones are counted.
pub const MOST_SAMPLES: usize = 100_000;
/// So many families are taken of a text; lines of further ones are bad.
pub const MOST_FAMILIES: usize = 20_000;
/// So many labels a sample may have.
pub const MOST_LABELS: usize = 64;
/// So many bytes a name may have.
pub const LONGEST_NAME: usize = 256;
/// So many bytes a label's value, or a help, may have.
pub const LONGEST_VALUE: usize = 4_096;
/// So many bad lines are told, all are counted.
const TOLD: usize = 20;

/// Which of the text formats it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus, 0.0.4: times are milliseconds.
    Prometheus,
    /// OpenMetrics 1.0: times are seconds, and the end is marked.
    OpenMetrics,
}

impl Dialect {
    /// What the `Content-Type` says.
    pub fn of(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What only grows.
    Counter,
    /// What goes up and down.
    Gauge,
    /// Cumulative buckets.
    Histogram,
    /// Buckets that go up and down.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Text in labels.
    Info,
    /// One of several states.
    StateSet,
    /// Nobody said.
    Unknown,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// What a family's name is followed by in the names of its samples.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            // In the older format the family has the sample's name, ending included.
            Self::Counter => &["", "_total", "_created"],
            Self::Histogram => &["_bucket", "_sum", "_count", "_created"],
            Self::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
            Self::Summary => &["", "_sum", "_count", "_created"],
            Self::Info => &["", "_info"],
            Self::Gauge | Self::StateSet | Self::Unknown => &[""],
        }
    }
}

/// Each suffix that there is.
const SUFFIXES: [&str; 8] =
    ["_total", "_created", "_bucket", "_sum", "_count", "_gsum", "_gcount", "_info"];

/// A value with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    /// What follows the family's name in the sample's.
    pub suffix: &'static str,
    /// Names and values, in the order of the text.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value, which may be infinite or no number.
    pub value: f64,
    /// Milliseconds since 1970, where the text has a time.
    pub timestamp: Option<i64>,
}

/// The samples of one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family<'a> {
    /// Its name, without suffixes.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind,
    /// What is said of it; empty where nothing is.
    pub help: Cow<'a, str>,
    /// Its unit; empty where there is none.
    pub unit: &'a str,
    /// Its samples, in the order of the text.
    pub samples: Vec<Sample<'a>>,
}

/// A line that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What a text says.
#[derive(Debug, Default)]
pub struct Families<'a> {
    /// The families, in the order of the text.
    pub families: Vec<Family<'a>>,
    /// The first lines that do not count.
    pub bad: Vec<Bad>,
    /// How many lines do not count.
    pub bad_lines: usize,
    /// Samples beyond [`MOST_SAMPLES`], which were left out.
    pub left_out: usize,
    /// Whether the text ends as its format says. Where it does not, it was cut off.
    pub complete: bool,
    places: HashMap<&'a str, usize>,
}

/// Reads a text.
pub fn parse(text: &[u8], dialect: Dialect) -> Families<'_> {
    let mut found = Families::default();
    let (mut room, mut ended) = (MOST_SAMPLES, false);
    // A last line without an end may lack some of its digits.
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let (text, rest) = text.split_at(whole);
    let cut = (!rest.is_empty()).then_some((rest, true));
    let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| (line, false)).chain(cut);
    for (number, (line, cut)) in (1..).zip(lines) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let read = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line))
            .map_err(|_| "it is not UTF-8")
            .and_then(|line| line::read(line, dialect));
        let taken = match read {
            Ok(Line::Nothing) => Ok(()),
            Ok(_) if ended => Err("it follows the end"),
            Ok(Line::End) => {
                ended = dialect == Dialect::OpenMetrics;
                Ok(())
            }
            Ok(_) if cut => Err("the text ends within it"),
            Ok(line) => found.take(line, &mut room),
            Err(why) => Err(why),
        };
        if let Err(why) = taken {
            found.bad_lines += 1;
            if found.bad.len() < TOLD {
                found.bad.push(Bad { line: number, why });
            }
        }
    }
    found.complete = ended || (dialect == Dialect::Prometheus && rest.is_empty());
    found
}

impl<'a> Families<'a> {
    /// The family of this name.
    pub fn get(&self, name: &str) -> Option<&Family<'a>> {
        self.families.get(*self.places.get(name)?)
    }

    /// The histograms of a family, one for each set of labels, and how many there are that are unsound.
    pub fn histograms(&self, name: &str) -> (Vec<ClassicHistogram>, usize) {
        let family = self.get(name).filter(|family| family.kind == Kind::Histogram);
        family.map(Family::histograms).unwrap_or_default()
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.families.iter().map(|family| family.samples.len()).sum()
    }

    fn take(&mut self, line: Line<'a>, room: &mut usize) -> Result<(), &'static str> {
        match line {
            Line::Nothing | Line::End => Ok(()),
            Line::Help(name, help) => self.describe(name, |family| {
                family.help = help;
                Ok(())
            }),
            Line::Unit(name, unit) => self.describe(name, |family| {
                family.unit = unit;
                Ok(())
            }),
            Line::Kind(name, kind) => {
                let kind = Kind::named(kind).ok_or("it is of no known type")?;
                self.describe(name, |family| {
                    if !family.samples.is_empty() || family.kind != Kind::Unknown {
                        return Err("the type comes too late");
                    }
                    family.kind = kind;
                    Ok(())
                })
            }
            Line::Sample { name, labels, value, timestamp } => {
                if *room == 0 {
                    self.left_out += 1;
                    return Ok(());
                }
                let (place, suffix) = self.place(name)?;
                self.families[place].samples.push(Sample { suffix, labels, value, timestamp });
                *room -= 1;
                Ok(())
            }
        }
    }

    fn describe(
        &mut self,
        name: &'a str,
        change: impl FnOnce(&mut Family<'a>) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => self.begin(name)?,
        };
        change(&mut self.families[place])
    }

    /// The family that a sample of this name belongs to, and the suffix.
    fn place(&mut self, name: &'a str) -> Result<(usize, &'static str), &'static str> {
        let own = self.places.get(name).copied();
        if let Some(own) = own.filter(|own| self.families[*own].kind.suffixes().contains(&"")) {
            return Ok((own, ""));
        }
        for suffix in SUFFIXES {
            let Some(place) = name.strip_suffix(suffix).and_then(|name| self.places.get(name))
            else {
                continue;
            };
            if self.families[*place].kind.suffixes().contains(&suffix) {
                return Ok((*place, suffix));
            }
        }
        match own {
            Some(_) => Err("its type has no sample of this name"),
            None => Ok((self.begin(name)?, "")),
        }
    }

    fn begin(&mut self, name: &'a str) -> Result<usize, &'static str> {
        if self.families.len() == MOST_FAMILIES {
            return Err("there are too many names");
        }
        let place = self.families.len();
        self.families.push(Family {
            name,
            kind: Kind::Unknown,
            help: Cow::Borrowed(""),
            unit: "",
            samples: Vec::new(),
        });
        self.places.insert(name, place);
        Ok(place)
    }
}
