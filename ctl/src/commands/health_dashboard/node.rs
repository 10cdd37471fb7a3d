//! What is known of one node, and since when.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_client::Error;
use genesis_client::v1::{
    Condition, GetFleetStatusResponse, GetHealthStatusResponse, GetStatusResponse,
};

use super::samples::Samples;
use super::section::Section;
use super::tab::Tab;
use super::{Summary, exit};
use crate::console::Moment;
use crate::exit::Exit;
use crate::render::clean;

/// What a node says of itself each time.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    pub(super) health: GetHealthStatusResponse,
    /// `None`: its agent is older than fleets are.
    pub(super) fleet: Option<GetFleetStatusResponse>,
    pub(super) status: GetStatusResponse,
}

impl Base {
    pub(super) fn summary(&self) -> Summary {
        Summary::of(&self.health, self.fleet.as_ref())
    }
}

/// Why nothing is known of a node now.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) since: Moment,
}

/// A page beside those that are made of [`Base`].
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) sections: Vec<Section>,
    pub(super) at: Moment,
}

/// How far what is shown of a node can be trusted.
#[derive(Debug)]
pub(super) enum Standing<'a> {
    /// It was not heard of yet.
    Awaited,
    Fresh,
    /// It has not answered for too long, and did not fail either.
    Stale(Duration),
    Failed(&'a Failure),
}

#[derive(Debug, Clone, Default)]
pub(super) struct NodeState {
    pub(super) name: String,
    /// The last that was told, and when.
    pub(super) base: Option<(Base, Moment)>,
    pub(super) failure: Option<Failure>,
    pub(super) pages: BTreeMap<Tab, Page>,
    pub(super) samples: Samples,
}

impl NodeState {
    pub(super) fn new(name: &str) -> Self {
        Self { name: clean(name).into_owned(), ..Self::default() }
    }

    /// It answered, or why not.
    pub(super) fn told(&mut self, answer: Result<Base, Error>, now: Moment) {
        match answer {
            Ok(base) => {
                self.failure = None;
                let checks = base.health.checks.iter();
                self.samples.add("check", checks.map(|one| (one.check.clone(), one.value)));
                let counts = [
                    ("issues", base.health.issues.len() as f64),
                    ("runs", f64::from(base.health.runs_active)),
                    ("memory", base.status.resident_bytes as f64),
                ];
                let counts = counts.into_iter().map(|(name, value)| (name.to_owned(), Some(value)));
                self.samples.add("node", counts);
                self.base = Some((base, now));
            }
            Err(error) => {
                self.samples.gap();
                let since = self.failure.as_ref().map_or(now, |failure| failure.since);
                self.failure = Some(Failure { error, since });
            }
        }
    }

    /// How far what is shown of it on `tab` can be trusted, where nothing may be older than `limit`.
    pub(super) fn standing(&self, tab: Option<Tab>, limit: Duration, now: Moment) -> Standing<'_> {
        if let Some(failure) = &self.failure {
            return Standing::Failed(failure);
        }
        let Some((_, told)) = &self.base else { return Standing::Awaited };
        let page = tab.and_then(|tab| self.pages.get(&tab)).map(|page| page.at.up);
        let oldest = page.map_or(told.up, |page| page.min(told.up));
        match now.up.saturating_sub(oldest) {
            age if age > limit => Standing::Stale(age),
            _ => Standing::Fresh,
        }
    }

    /// When what is on a tab was told.
    pub(super) fn told_at(&self, tab: Tab) -> Option<Moment> {
        match tab.is_of_base() {
            true => self.base.as_ref().map(|(_, at)| *at),
            false => self.pages.get(&tab).map(|page| page.at),
        }
    }

    /// The code of what is known of it; what is too old is not known, unless that was wanted.
    pub(super) fn exit(&self, limit: Duration, paused: bool, now: Moment) -> Exit {
        match (self.standing(None, limit, now), &self.base) {
            (Standing::Failed(failure), _) => Exit::of_error(&failure.error),
            (Standing::Stale(_), _) if !paused => Exit::Unknown,
            (_, Some((base, _))) => exit(&base.health, base.fleet.as_ref()),
            (_, None) => Exit::Unknown,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.base.as_ref().map_or(Condition::Unknown, |(base, _)| base.summary().condition())
    }
}
