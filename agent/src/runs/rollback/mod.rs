//! Rollback: one interface for everything that keeps points to go back to, and the dispatcher over it.
//!
//! A rollback is announced in the state before anything changes, carried out by the code that the component's own domain
//! goes back with, read back, and looked after: a deep check runs and an incident opens. What a crash cuts off is told by
//! what the component is at when the agent starts again ([`Dispatcher::settle`]), and looked after then
//! ([`Dispatcher::serve`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{RollbackOutcome, RollbackRecord};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::outside::Clock;
use crate::plan::{Plan, PlanStep};
use crate::state::State;

mod act;
mod asked;
pub mod choose;
pub mod diff;
mod list;
mod owed;
mod settle;
#[cfg(test)]
mod tests;

pub use act::RolledBack;
use asked::demands;
use choose::{Evidence, Known};
pub use list::Listed;

/// A component has at most so many points that are looked at.
pub const MOST_POINTS: usize = 1_000;
/// So many names are told where one is not found.
const TOLD: usize = 20;

/// A time in which a point was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// From when.
    pub from: Timestamp,
    /// Until when; `None`: it still is.
    pub until: Option<Timestamp>,
    /// It ended since somebody went back from it.
    pub left: bool,
}

/// A state that a component can go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The generation's name within its component.
    pub id: String,
    /// When it came about.
    pub at: Timestamp,
    /// Who brought it about; empty: not known.
    pub by: String,
    /// What it is, in a line.
    pub description: String,
    /// Equal content has an equal digest: "differs from the current" is decided by it.
    pub digest: String,
    /// When it was in force, the oldest first.
    pub stays: Vec<Stay>,
    /// The point that it has the content of, where somebody went back.
    pub restores: Option<String>,
    /// Why it can't be gone back to, as far as that is known beforehand; empty: it can.
    pub unfit: String,
}

/// How a component does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Health {
    /// Its domain knows that it does well.
    Good,
    /// Its domain knows that it does not.
    Bad,
    /// It can't be told, or nothing tells it.
    #[default]
    Unknown,
}

impl Health {
    /// As the ledger has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

/// A component in a line.
#[derive(Debug, Clone, Default)]
pub struct Brief {
    /// The point in force.
    pub current: Option<Point>,
    /// How many points there are.
    pub points: usize,
    /// How it does.
    pub health: Health,
    /// Why, in words.
    pub why: String,
    /// When it was changed last, and by whom.
    pub changed: Option<(Timestamp, String)>,
}

/// What a rollback of a component demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Care {
    /// The name to type; empty: none.
    pub typed: String,
    /// Only an admin may.
    pub admin: bool,
    /// A point is to be named: there is none by default.
    pub named: bool,
    /// A reason is to be given.
    pub reason: bool,
    /// It is restored to a place of its own.
    pub into: bool,
}

/// What is to be done, beside where it goes.
#[derive(Debug)]
pub struct Order {
    /// The rollback's id.
    pub id: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Where a database is restored to.
    pub into: String,
    /// Tells the run that carries it out.
    pub run: watch::Sender<String>,
}

/// What carrying it out came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What is still to happen before the component is at the point; empty: it is there, to be read back.
    pub pending: String,
    /// What is there instead of the component's point, where it stands beside what runs; empty: nothing.
    pub beside: String,
    /// What was there before and is no point was put here; empty: it is a point.
    pub kept: String,
    /// It only took back what had not taken effect, so that there is nothing to look after.
    pub withdrawn: bool,
    /// Why it can't be told what the component will be at; empty: it can.
    pub unproven: String,
}

/// What would be gone back from and to: what a plan is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// From.
    pub from: &'a Point,
    /// To.
    pub to: &'a Point,
    /// Where a database is restored to; empty: nowhere is named.
    pub into: &'a str,
}

/// A component that can be taken back.
#[async_trait]
pub trait Rollback: Send + Sync {
    /// The points there are, newest first, at most [`MOST_POINTS`].
    async fn points(&self) -> Result<Vec<Point>>;
    /// The point in force; `None` before the first.
    async fn current(&self) -> Result<Option<Point>>;
    /// How it stands, without looking through its past.
    async fn brief(&self) -> Result<Brief>;
    /// What would change, as a unified diff.
    async fn diff(&self, way: Way<'_>) -> Result<String>;
    /// The steps to a point, or a refusal.
    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>>;
    /// Carries the steps out, by what the domain itself goes back with; the state before stays a point.
    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied>;
    /// Reads back that the component is at the point; says what it saw.
    async fn verify(&self, to: &Point) -> Result<String>;
    /// What its rollback demands.
    fn care(&self) -> Care {
        Care::default()
    }
    /// Whether a point is what is in force anyhow, so that there is nothing to go back to.
    async fn in_force(&self, to: &Point, current: &Point) -> Result<bool> {
        Ok(to.id == current.id || to.digest == current.digest)
    }
    /// The point that a rollback is undone by; `None`: there is nothing to undo.
    fn undone_by(&self, record: &RollbackRecord) -> Option<String> {
        let changed = matches!(record.outcome, RollbackOutcome::Done | RollbackOutcome::Unknown);
        changed.then(|| record.from.clone())
    }
}

/// Components of one kind, whose names come from what there is.
#[async_trait]
pub trait Family: Send + Sync {
    /// Such as "certificate", of which the components are called "certificate:api".
    fn family(&self) -> &'static str;
    /// What there is, without the family; of a family that is one component: the empty name.
    async fn names(&self) -> Result<Vec<String>>;
    /// The component of a name, which is one of [`Family::names`].
    fn member(&self, name: &str) -> Arc<dyn Rollback>;
    /// Whether there is one of this name.
    async fn has(&self, name: &str) -> Result<bool> {
        Ok(self.names().await?.iter().any(|it| it == name))
    }
}

/// A family of one.
pub struct Single<C>(pub &'static str, pub Arc<C>);

#[async_trait]
impl<C: Rollback + 'static> Family for Single<C> {
    fn family(&self) -> &'static str {
        self.0
    }

    async fn names(&self) -> Result<Vec<String>> {
        Ok(vec![String::new()])
    }

    fn member(&self, _: &str) -> Arc<dyn Rollback> {
        Arc::clone(&self.1) as Arc<dyn Rollback>
    }
}

/// What is known beside the domains: the health checks' say about a component.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// What the checks say that look at this component; `None`: none does.
    fn checks(&self, component: &str) -> Option<(Health, String)>;
    /// When the agent ran in these times, and when the component did not do well; what can't be read is not known.
    async fn evidence(&self, component: &str, stays: Vec<Stay>, settled: Duration) -> Evidence;
    /// After a rollback: a deep check where it has taken effect, and an incident of the rollback's own id, opened or
    /// gone on with.
    async fn rolled_back(&self, what: &RollbackRecord, seen: &str, undo: &str) -> Aftermath;
    /// Ends the incident of a rollback that was made where the host does well by now; whether it is over.
    async fn is_over(&self, what: &RollbackRecord) -> Result<bool>;
}

/// What was found and done after a rollback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// How the host does; `None`: it is looked at later, since nothing has changed yet.
    pub health: Option<Health>,
    /// In words, what is wrong first.
    pub details: Vec<String>,
    /// The incident that was opened; empty: none could be.
    pub incident: String,
    /// The incident is over already.
    pub over: bool,
}

/// What somebody wants to roll back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The component.
    pub component: String,
    /// The point; empty: the last good one before the current.
    pub to: String,
    /// Where a database is restored to.
    pub into: String,
    /// The name that was typed.
    pub confirm: String,
    /// Only the plan of this hash; empty: whatever it is.
    pub plan_hash: String,
    /// Whoever wants it is an admin.
    pub admin: bool,
}

impl Wish {
    /// To the default point of a component.
    pub fn of(component: &str) -> Self {
        Self { component: component.to_owned(), ..Self::default() }
    }
}

/// What a rollback would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPlan {
    /// The steps, and the hash that names them in this situation.
    pub plan: Plan,
    /// Where it goes.
    pub target: Point,
    /// What is known of that.
    pub known: Known,
    /// Where it comes from.
    pub current: Point,
    /// What changes, as a unified diff.
    pub diff: String,
    /// What it demands.
    pub care: Care,
    /// The target is in force anyhow: there is nothing to do.
    pub already: bool,
}

struct Inner {
    families: Vec<Arc<dyn Family>>,
    state: State,
    clock: Arc<dyn Clock>,
    /// So long a point must have been in force to be known to be good.
    settled: Box<dyn Fn() -> Duration + Send + Sync>,
    surroundings: Arc<dyn Surroundings>,
    /// The components that are being rolled back.
    held: Mutex<BTreeSet<String>>,
    ids: Mutex<ulid::Generator>,
    /// There may be rollbacks that are to be looked after.
    owing: AtomicBool,
}

/// All components, by name.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is complete in itself, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A component's name from its family and its own.
fn full(family: &str, name: &str) -> String {
    if name.is_empty() { family.to_owned() } else { format!("{family}:{name}") }
}

/// No more points than are looked at.
fn bounded(mut points: Vec<Point>) -> Vec<Point> {
    points.truncate(MOST_POINTS);
    points
}

/// Family and own name.
fn split(component: &str) -> (&str, &str) {
    component.split_once(':').unwrap_or((component, ""))
}

impl Dispatcher {
    /// A dispatcher over these families.
    pub fn new(
        families: Vec<Arc<dyn Family>>,
        (state, clock): (State, Arc<dyn Clock>),
        settled: Box<dyn Fn() -> Duration + Send + Sync>,
        surroundings: Arc<dyn Surroundings>,
    ) -> Self {
        let (held, ids) = (Mutex::default(), Mutex::new(ulid::Generator::new()));
        let owing = AtomicBool::new(true);
        Self(Arc::new(Inner { families, state, clock, settled, surroundings, held, ids, owing }))
    }

    /// The component of this name.
    ///
    /// # Errors
    /// `COMPONENT_NOT_FOUND` with the names there are.
    pub async fn component(&self, component: &str) -> Result<Arc<dyn Rollback>> {
        let (kind, name) = split(component);
        if let Some(family) = self.0.families.iter().find(|it| it.family() == kind)
            && family.has(name).await?
        {
            return Ok(family.member(name));
        }
        Err(self.not_found(component).await)
    }

    async fn not_found(&self, component: &str) -> Error {
        let mut names = Vec::new();
        for family in &self.0.families {
            // One that can't tell its names has none that could be meant.
            let own = family.names().await.unwrap_or_default();
            names.extend(own.iter().map(|name| full(family.family(), name)));
        }
        let shown: String = component.chars().filter(|c| !c.is_control()).take(128).collect();
        let meant = choose::nearest(&shown, names.iter().map(String::as_str));
        let meant = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
        let more = match names.len() {
            0..=TOLD => String::new(),
            all => format!(" and {} more", all - TOLD),
        };
        let told: Vec<&str> = names.iter().map(String::as_str).take(TOLD).collect();
        let there = match told.is_empty() {
            true => "there is none".to_owned(),
            false => format!("there are: {}{more}", told.join(", ")),
        };
        let message = format!("there is no component {shown:?}{meant}; {there}");
        Error::not_found("COMPONENT_NOT_FOUND", message)
    }

    /// The rollbacks that the ledger knows of, newest first.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn past(&self, component: Option<&str>, limit: usize) -> Result<Vec<RollbackRecord>> {
        let wanted = |it: &RollbackRecord| component.is_none_or(|name| it.component == name);
        self.0.state.read(|reading| Ok(reading.rollbacks().list(limit, wanted)?))
    }

    /// Each component's last rollback.
    fn latest(&self) -> Result<HashMap<String, RollbackRecord>> {
        let mut latest = HashMap::new();
        for record in self.past(None, usize::MAX)? {
            latest.entry(record.component.clone()).or_insert(record);
        }
        Ok(latest)
    }
}

/// What came of a rollback, by what the component is at.
fn outcome(now: Option<&str>, record: &RollbackRecord) -> RollbackOutcome {
    match now {
        Some(now) if now == record.to_digest => RollbackOutcome::Done,
        Some(now) if now == record.from_digest => RollbackOutcome::Failed,
        _ => RollbackOutcome::Unknown,
    }
}
