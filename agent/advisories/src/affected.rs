//! Whether a version is affected, by the algorithm of the OSV schema.
//!
//! Affected is what is one of the listed versions or in any of the ranges, and not withdrawn. A range is walked in the
//! order of its events. Where several are at one version, what the schema leaves open is decided so: an open stretch is
//! first closed and may begin anew there, and one that begins there may end there too, whatever order the record has
//! them in. What can't be compared is unknown, never "not affected".

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::Ecosystem;
use crate::osv::{Advisory, Event};
use crate::version::{NotOrdered, Version};

/// What an advisory means for a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is affected.
    Affected {
        /// The range or version that it is in, such as `>=2.0, <2.2.28` or `==2.1`.
        why: String,
        /// The smallest version above that the advisory names as fixed and does not affect.
        fixed: Option<String>,
    },
    /// It is not affected.
    NotAffected,
    /// That can't be told.
    Unknown {
        /// What stands in the way.
        why: String,
    },
}

/// Evaluates one advisory for one version. For many versions, [`Ranges`] reads the advisory once.
pub fn evaluate(advisory: &Advisory, version: &str) -> Verdict {
    Ranges::of(advisory).evaluate(version)
}

/// An advisory made ready to be held against versions.
#[derive(Debug)]
pub struct Ranges<'a> {
    advisory: &'a Advisory,
    stretches: Vec<Stretch<'a>>,
    listed: Vec<(&'a str, Option<Version>)>,
    fixes: Vec<(Version, &'a str)>,
    /// Why a part of it can't be compared.
    unreadable: Option<String>,
}

/// Affected versions without a gap.
#[derive(Debug)]
struct Stretch<'a> {
    /// Nothing is before all versions.
    from: Option<(Version, &'a str)>,
    until: Until<'a>,
    /// The range says nothing of this version and those above.
    limit: Option<(Version, &'a str)>,
}

#[derive(Debug, Clone)]
enum Until<'a> {
    Open,
    Fixed(Version, &'a str),
    Last(Version, &'a str),
}

impl<'a> Ranges<'a> {
    /// Reads the versions of an advisory.
    pub fn of(advisory: &'a Advisory) -> Self {
        let ecosystem = &advisory.ecosystem;
        let listed = advisory.versions.iter();
        let listed = listed.map(|text| (text.as_str(), Version::read(ecosystem, text).ok()));
        let mut ranges = Self {
            advisory,
            stretches: Vec::new(),
            listed: listed.collect(),
            fixes: Vec::new(),
            unreadable: None,
        };
        for events in &advisory.ranges {
            match stretches(ecosystem, events) {
                Ok(found) => ranges.stretches.extend(found),
                Err(why) => ranges.unreadable = Some(why.to_string()),
            }
            let fixed = events.iter().filter_map(|event| match event {
                Event::Fixed(text) => Some((Version::read(ecosystem, text).ok()?, text.as_str())),
                _ => None,
            });
            ranges.fixes.extend(fixed);
        }
        if advisory.ranges.is_empty() && advisory.versions.is_empty() {
            ranges.unreadable = Some(format!("{} names no versions", advisory.id));
        }
        ranges.fixes.sort_by(|(one, _), (other, _)| one.cmp(other));
        ranges
    }

    /// The advisory that was read.
    pub fn advisory(&self) -> &'a Advisory {
        self.advisory
    }

    /// What the advisory means for a version.
    pub fn evaluate(&self, version: &str) -> Verdict {
        let read = Version::read(&self.advisory.ecosystem, version);
        self.verdict(version, read.as_ref())
    }

    /// Whether a range has the version in it.
    pub(crate) fn cover(&self, version: &str) -> bool {
        Version::read(&self.advisory.ecosystem, version)
            .is_ok_and(|version| self.stretches.iter().any(|stretch| stretch.holds(&version)))
    }

    /// What the advisory means for a version that was read before, or could not be.
    pub(crate) fn verdict(&self, text: &str, version: Result<&Version, &NotOrdered>) -> Verdict {
        if self.advisory.withdrawn.is_some() {
            return Verdict::NotAffected;
        }
        let why = match version {
            Ok(version) => self.why(text, version),
            Err(_) => self.listed(text, None),
        };
        if let Some(why) = why {
            let fixed = version.ok().and_then(|version| self.fixed_above(version));
            return Verdict::Affected { why, fixed: fixed.map(str::to_owned) };
        }
        match (version, &self.unreadable) {
            (Err(why), _) => Verdict::Unknown { why: why.to_string() },
            (_, Some(why)) => Verdict::Unknown { why: why.clone() },
            (Ok(_), None) => Verdict::NotAffected,
        }
    }

    /// The versions above `version` at which it says that it is fixed, in order.
    pub(crate) fn fixes_above(
        &self,
        version: &Version,
    ) -> impl Iterator<Item = &(Version, &'a str)> {
        self.fixes.iter().filter(move |(fixed, _)| version.against(fixed).is_lt())
    }

    /// Whether it certainly does not affect a version.
    pub(crate) fn clears(&self, text: &str, version: &Version) -> bool {
        self.advisory.withdrawn.is_some()
            || (self.unreadable.is_none() && self.why(text, version).is_none())
    }

    fn fixed_above(&self, version: &Version) -> Option<&'a str> {
        let mut above = self.fixes_above(version);
        above.find(|(fixed, text)| self.clears(text, fixed)).map(|(_, text)| *text)
    }

    fn why(&self, text: &str, version: &Version) -> Option<String> {
        let stretch = self.stretches.iter().find(|stretch| stretch.holds(version));
        stretch.map(Stretch::text).or_else(|| self.listed(text, Some(version)))
    }

    fn listed(&self, text: &str, version: Option<&Version>) -> Option<String> {
        let found = self.listed.iter().find(|(listed, read)| match (version, read) {
            (Some(version), Some(read)) => version.against(read).is_eq(),
            _ => *listed == text,
        });
        found.map(|(listed, _)| format!("=={listed}"))
    }
}

impl Stretch<'_> {
    fn holds(&self, version: &Version) -> bool {
        self.from.as_ref().is_none_or(|(from, _)| version.against(from).is_ge())
            && match &self.until {
                Until::Open => true,
                Until::Fixed(fixed, _) => version.against(fixed).is_lt(),
                Until::Last(last, _) => version.against(last).is_le(),
            }
            && self.limit.as_ref().is_none_or(|(limit, _)| version.against(limit).is_lt())
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.from.as_ref().map(|(_, from)| format!(">={from}")));
        match &self.until {
            Until::Open => {}
            Until::Fixed(_, fixed) => parts.push(format!("<{fixed}")),
            Until::Last(_, last) => parts.push(format!("<={last}")),
        }
        let before = |limit: &Version| match &self.until {
            Until::Open => true,
            Until::Fixed(end, _) => limit < end,
            Until::Last(end, _) => limit <= end,
        };
        if let Some((limit, text)) = &self.limit
            && before(limit)
        {
            parts.push(format!("<{text}"));
        }
        if parts.is_empty() { "every version".to_owned() } else { parts.join(", ") }
    }
}

/// Where an event is: nothing is before all versions.
type Place<'a> = Option<(Version, &'a str)>;

/// The stretches of a range in order.
fn stretches<'a>(
    ecosystem: &Ecosystem,
    events: &'a [Event],
) -> Result<Vec<Stretch<'a>>, NotOrdered> {
    let read = |text: &'a str| Version::read(ecosystem, text).map(|version| (version, text));
    let mut unlimited = false;
    let mut limit = None;
    let mut points: Vec<(Place<'a>, &Event)> = Vec::with_capacity(events.len());
    for event in events {
        match event {
            // RustSec writes the least semantic version.
            Event::Introduced(text) if text == "0" || text == "0.0.0-0" => {
                points.push((None, event));
            }
            Event::Introduced(text) | Event::Fixed(text) | Event::LastAffected(text) => {
                points.push((Some(read(text)?), event));
            }
            Event::Limit(text) if text == "*" => unlimited = true,
            // A version has to be below one of the limits, which is the highest.
            Event::Limit(text) => {
                let other = Some(read(text)?);
                if place_order(&other, &limit).is_gt() {
                    limit = other;
                }
            }
        }
    }
    let limit = limit.filter(|_| !unlimited);
    points.sort_by(|(one, _), (other, _)| place_order(one, other));

    let mut found = Vec::new();
    // The place where the open stretch begins, if there is one.
    let mut open: Option<Place<'a>> = None;
    for group in points.chunk_by(|(one, _), (other, _)| place_order(one, other).is_eq()) {
        let Some((place, _)) = group.first() else { continue };
        let begins = group.iter().any(|(_, event)| matches!(event, Event::Introduced(_)));
        let until = until(place, group);
        let was_open = open.is_some();
        if begins && open.is_none() {
            open = Some(place.clone());
        }
        if let (Some(until), Some(from)) = (until, open.clone()) {
            found.push(Stretch { from, until, limit: limit.clone() });
            open = (was_open && begins).then(|| place.clone());
        }
    }
    if let Some(from) = open {
        found.push(Stretch { from, until: Until::Open, limit });
    }
    Ok(found)
}

/// How the events of one place close what is open.
fn until<'a>(place: &Place<'a>, group: &[(Place<'a>, &'a Event)]) -> Option<Until<'a>> {
    let (version, text) = place.as_ref()?;
    if group.iter().any(|(_, event)| matches!(event, Event::Fixed(_))) {
        return Some(Until::Fixed(version.clone(), text));
    }
    let last = group.iter().any(|(_, event)| matches!(event, Event::LastAffected(_)));
    last.then(|| Until::Last(version.clone(), text))
}

fn place_order(one: &Place<'_>, other: &Place<'_>) -> Ordering {
    let one = one.as_ref().map(|(version, _)| version);
    one.cmp(&other.as_ref().map(|(version, _)| version))
}

#[cfg(test)]
mod tests;
