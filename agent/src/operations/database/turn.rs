//! Whose turn it is to care for a database, among the hosts of a fleet. On a host that is on its own the lock of the database
//! itself is enough.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Databases;
use super::begin::{Due, Wish, due};
use super::config::Instance;
use super::record::{Item, Truth};
use crate::error::{Error, Result};
use crate::outside::database::facts::Standing;
use crate::outside::database::fence::{self, Fence};
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::{Failure, Postgres};

/// A care that has ended, by one of the fleet's hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cared {
    /// When it had begun.
    pub at: Timestamp,
    /// The host's name.
    pub host: String,
    /// Its run there.
    pub run: String,
}

/// The turn of this host among those of its fleet. Dropped it is given back as well, a moment later.
#[async_trait]
pub trait Turn: Send + Sync {
    /// Grows from turn to turn: the database refuses whoever comes with a lower one.
    fn token(&self) -> i64;
    /// Whose it is, for people.
    fn holder(&self) -> String;
    /// Whether it still is this host's, as far as that can be told without asking anybody.
    ///
    /// # Errors
    /// When it is not; nothing further may be begun then.
    fn check(&self) -> Result<()>;
    /// The last care that has ended, by whichever host.
    ///
    /// # Errors
    /// Where that can't be told.
    async fn last(&self) -> Result<Option<Cared>>;
    /// Gives it back; whoever is next is told of the care that has ended.
    async fn give_back(self: Box<Self>, cared: Option<Cared>);
}

/// So far clocks of hosts may be apart.
const CLOCKS: SignedDuration = SignedDuration::from_secs(300);

/// A care that is about to begin.
pub(super) struct Asked<'a> {
    pub instance: &'a Instance,
    pub wish: &'a Wish,
    pub standing: &'a Standing,
    pub run: &'a str,
}

impl Databases {
    /// Takes the turn of this host in its fleet, and keeps out whoever had it before. The target from now on, and a session
    /// of it. That it can't be told whose turn it is holds a care back as an item would.
    pub(super) async fn overtake(
        &self,
        (target, mut session): (Postgres, Session),
        asked: &Asked<'_>,
        items: &[Item],
    ) -> Result<(Postgres, Session, Option<Box<dyn Turn>>)> {
        let taken = self.neighbours.turn(&identity(asked.standing), asked.run).await;
        let Some(turn) = self.told(taken, asked, items).await? else {
            return Ok((target, session, None));
        };
        let last = turn.last().await;
        if let Some(cared) = self.told(last, asked, items).await?
            && !asked.wish.force
            && is_cared_for(asked.instance, &cared, self.outside.clock.now())
        {
            turn.give_back(None).await;
            let message = format!(
                "{} was cared for in this window, by {} since {:.0} (run {}); `--force` does it again",
                asked.instance.target.name, cared.host, cared.at, cared.run
            );
            return Err(Error::conflict("FLEET_CARED", message));
        }
        let fence = Fence { resource: fence::CARE, token: turn.token(), holder: turn.holder() };
        let fenced = async {
            fence::raise(&mut session, &fence, &*self.outside.clock).await?;
            session.close().await;
            // Under the fence from its beginning, so that the next one can end it.
            let target = Postgres { fence: Some(fence), ..target };
            let session = Session::open(&target, "turn", Limits::LOOK).await?;
            Ok::<_, Failure>((target, session))
        };
        let fenced = fenced.await.map_err(|failure| failure.about(&asked.instance.target.name));
        let (target, session) = self.told(fenced, asked, items).await?;
        Ok((target, session, Some(turn)))
    }

    /// Keeps that a care was held back since others may be at it.
    async fn told<T>(&self, had: Result<T>, asked: &Asked<'_>, items: &[Item]) -> Result<T> {
        match had {
            // Another host has it: nothing is wrong.
            Err(error) if error.code != "FLEET_HELD" => {
                Err(self.held_by_fence((asked.instance, asked.wish), items.to_vec(), error).await)
            }
            had => had,
        }
    }

    /// Keeps that a care was held back since others may be at it.
    async fn held_by_fence(
        &self,
        (instance, wish): (&Instance, &Wish),
        mut items: Vec<Item>,
        error: Error,
    ) -> Error {
        items.push(Item::new("one-at-a-time", Truth::Unknown, "", "free", error.chain()));
        match self.keep_held(instance, wish, &items).await {
            Ok(()) => error,
            Err(failed) => failed,
        }
    }
}

/// What all hosts of a fleet call a database, whatever it is named in their configuration.
fn identity(standing: &Standing) -> String {
    format!("{}@{}", standing.database, standing.system)
}

/// Whether a care by some host was in the window that is open now.
fn is_cared_for(instance: &Instance, cared: &Cared, now: Timestamp) -> bool {
    // The other host's clock may be ahead, a little.
    let ahead = cared.at.duration_since(now);
    let at = if ahead.is_positive() && ahead <= CLOCKS { now } else { cared.at };
    !matches!(due(instance.schedule.as_ref(), instance.window, Some(at), now), Due::Now(_))
}
