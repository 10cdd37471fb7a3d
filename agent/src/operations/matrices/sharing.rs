//! One matrix for all hosts of a fleet. A host that publishes calculates as ever, and what it has put into force becomes a
//! version of the fleet's: its content in parts that never change, then the pointer that all members follow. A host that
//! follows fetches what the pointer names, verifies it, puts it into force as it would one of its own, and says so.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Matrices;
use crate::error::{Error, Result, Unmet};
use crate::outside::coordinator::{Act, Guard};

pub mod acks;
mod follow;
pub mod plan;
mod publish;
pub mod published;
pub(super) mod told;

use acks::{Ack, State};
use published::Pointer;

/// How often it is looked when nothing is heard.
const LOOK: Duration = Duration::from_secs(5);
/// And at most so often.
const PAUSE: Duration = Duration::from_millis(200);
/// What was refused is tried again after so long, for what is damaged may be mended.
const AGAIN: Duration = Duration::from_secs(60);
/// How a version came that the fleet has.
pub const CAUSE: &str = "the fleet";

/// What this host has to do with the fleet's matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Nothing.
    #[default]
    Off,
    /// What it puts into force is published.
    Publish,
    /// It calculates none, and takes what is published.
    Follow,
}

/// A version that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    number: u64,
    hash: String,
    why: String,
    since: Timestamp,
    /// By the monotonic clock.
    again: Duration,
}

/// What is known in memory.
#[derive(Default)]
pub(super) struct Shared {
    /// What the fleet was told last, by which connection.
    told: Option<(u64, Option<Ack>)>,
    /// Why the version in force is not published, and since when.
    unpublished: Option<(Timestamp, String)>,
    /// The version that could not be taken.
    refusal: Option<Refusal>,
    /// When the version of a number is asked for, by the monotonic clock.
    asks: Option<(u64, Duration)>,
    /// For what is waited, since when.
    waits: Option<(String, Timestamp)>,
}

fn unreadable(why: &str) -> Error {
    let message = format!(
        "what the fleet has as its matrix can't be read ({why}); the next version that is published takes its place"
    );
    Error::internal("FLEET_MATRIX_UNREADABLE", message)
}

impl Matrices {
    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        // Each change of it is complete in itself.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This host calculates its matrices itself.
    ///
    /// # Errors
    /// `MATRIX_FOLLOWED`.
    pub(super) fn calculates(&self) -> Result<()> {
        if self.config().sharing != Sharing::Follow {
            return Ok(());
        }
        let message = "this host takes the matrix of its fleet ([matrices] fleet = \"follow\") and calculates none; \
                       `genesisctl matrix fleet` shows what is published";
        let unmet = Unmet {
            code: "MATRIX_FOLLOWED",
            subject: "matrices.fleet".to_owned(),
            message: message.to_owned(),
        };
        Err(Error::refused("MATRIX_FOLLOWED", message, vec![unmet]))
    }

    /// What the fleet has, as it is known here; `None`: nothing is published.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(super) fn pointer(&self) -> Result<Option<Pointer>, String> {
        let Some(entry) = self.fleet.known(&self.fleet.keys().matrix()) else { return Ok(None) };
        Pointer::read(&entry.value).map(Some)
    }

    /// Has this host's part in the fleet's matrix done, for ever.
    pub(super) async fn share(self: Arc<Self>) {
        if !self.fleet.is_configured() {
            return;
        }
        let (mut changed, mut revisions) = (self.fleet.follow(), self.revisions());
        let mut said = String::new();
        loop {
            let text = match self.fleet.is_open() {
                true => self.share_once().await.err().map(|error| error.chain()),
                false => None,
            };
            let text = text.unwrap_or_default();
            if !text.is_empty() && said != text {
                tracing::warn!(error = text, "the fleet's matrix");
            }
            said = text;
            self.outside.clock.sleep(PAUSE).await;
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                _ = revisions.changed() => {}
                () = self.outside.clock.tick(LOOK) => {}
            }
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// `FLEET_UNREACHABLE`, `FLEET_HELD`, `FENCED`, `STORAGE_FAILED`.
    pub(super) async fn share_once(self: &Arc<Self>) -> Result<()> {
        self.forget_what_is_over();
        let ack = match self.config().sharing {
            Sharing::Off => None,
            Sharing::Publish => Some(self.publish_due().await?),
            Sharing::Follow => Some(self.follow_once().await?),
        };
        self.tell_fleet(ack).await
    }

    /// Nobody hears any more of what this host could not do, where it does not try any more.
    fn forget_what_is_over(&self) {
        let sharing = self.config().sharing;
        let pointer = self.pointer();
        let unreadable = pointer.is_err();
        let current = pointer.ok().flatten().map(|it| (it.current.number, it.current.hash));
        let over = {
            let mut shared = self.shared();
            // One without a number is about the pointer itself.
            let stands = |it: &Refusal| {
                (it.number == 0 && unreadable) || current == Some((it.number, it.hash.clone()))
            };
            let refusal = shared.refusal.take_if(|it| sharing != Sharing::Follow || !stands(it));
            let unpublished = shared.unpublished.take_if(|_| sharing != Sharing::Publish);
            refusal.is_some() || unpublished.is_some()
        };
        if over {
            self.bell.ring();
        }
    }

    /// What this host says, of a version that stands here as its record says.
    fn of_version(&self, number: u64, version: u64) -> Ack {
        let record = self.versions().get(&version).cloned();
        let (state, percent, since, why) = match record {
            Some(record) => plan::stands(&record),
            None => (State::Refused, 0, self.now(), "it is not kept here any more".to_owned()),
        };
        Ack { version, percent, ..self.says(number, state, (since, why)) }
    }

    fn says(&self, number: u64, state: State, (since, why): (Timestamp, String)) -> Ack {
        let (host, sharing) = (self.fleet.me().host.clone(), self.config().sharing);
        Ack { host, sharing, number, state, percent: 0, version: 0, since, why }
    }

    /// That it waits for something; since the first time that this was said.
    fn waiting(&self, number: u64, why: &str) -> Ack {
        let now = self.now();
        let since = {
            let mut shared = self.shared();
            match &shared.waits {
                Some((before, since)) if before == why => *since,
                _ => {
                    shared.waits = Some((why.to_owned(), now));
                    now
                }
            }
        };
        self.says(number, State::Waiting, (since, why.to_owned()))
    }

    /// Tells the fleet what this host says, unless it was told by this connection.
    async fn tell_fleet(&self, ack: Option<Ack>) -> Result<()> {
        let (_, _, connection) = self.fleet.connection();
        let telling = Some((connection, ack));
        if self.shared().told == telling {
            return Ok(());
        }
        let key = self.fleet.keys().matrix_ack(&self.fleet.me().host_id);
        let known = self.fleet.get(&key).await?;
        // What was said before and given up may still be on its way: once this is said it must not take its place.
        let unchanged = match &known {
            Some(entry) => Guard::Modified(key.clone(), entry.modified),
            None => Guard::Absent(key.clone()),
        };
        // Of strings, numbers and a time: it can be written.
        let written = |ack: &Ack| serde_json::to_vec(ack).unwrap_or_default();
        let value = telling.as_ref().and_then(|(_, ack)| ack.as_ref()).map(written);
        let act = match (value, known) {
            (Some(value), Some(known)) if value == known.value => None,
            (Some(value), _) => Some(Act::Put { key, value, lease: 0 }),
            // It has nothing to do with it any more, or never had.
            (None, known) => known.map(|_| Act::Delete(key)),
        };
        let done = match act {
            Some(act) => self.fleet.commit(&[unchanged], &[act]).await?.done,
            None => true,
        };
        // Where that came in meanwhile it is said anew with the next look.
        if done {
            self.shared().told = telling;
        }
        Ok(())
    }
}
