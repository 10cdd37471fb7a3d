//! Publishing: under the fleet's lock, parts first, then the pointer, each by the lock's token. A publisher that was frozen
//! past the end of its lock changes nothing any more.

use std::sync::Arc;

use genesis_storage::MatrixRecord;

use super::super::{Matrices, plan};
use super::acks::Ack;
use super::plan::{Due, due, next_number, published_at};
use super::published::{PART, Pointer, Published, content, hash};
use crate::error::{Error, Result};
use crate::fleet::locks::Held;
use crate::outside::coordinator::{Act, Guard};
use crate::outside::failpoint;

/// The fleet's lock.
const LOCK: &str = "matrices";
/// So many keys are deleted by one change.
const AT_ONCE: usize = 64;

impl Matrices {
    fn in_force(&self) -> Option<Arc<MatrixRecord>> {
        plan::in_state(&self.live().versions, plan::ACTIVE).cloned()
    }

    /// Publishes what is in force here, if that is due; what this host says then.
    pub(super) async fn publish_due(&self) -> Result<Ack> {
        let active = self.in_force();
        // What can't be read is taken for nothing: the next version takes its place.
        let pointer = self.pointer().unwrap_or_default();
        let me = self.fleet.me().host_id.clone();
        let number = pointer.as_ref().map_or(0, |it| it.current.number);
        let version = active.as_ref().map_or(0, |it| it.version);
        let of_other = |pointer: &Option<Pointer>| {
            let other = pointer.as_ref().map(|it| it.current.host.as_str()).unwrap_or_default();
            format!(
                "{other} has published since; the next matrix that is put into force here is published"
            )
        };
        let why = match due(pointer.as_ref(), &me, active.as_deref()) {
            Due::Nothing if active.is_none() => {
                self.note_unpublished(None);
                return Ok(self.waiting(0, "no matrix is in force here yet"));
            }
            Due::Nothing => {
                self.note_unpublished(None);
                return Ok(self.of_version(number, version));
            }
            Due::Mark(number) => {
                self.mark(version, number, "matrices.published").await?;
                self.note_unpublished(None);
                return Ok(self.of_version(number, version));
            }
            Due::Other => of_other(&pointer),
            Due::Publish { back: false } if self.runs.emergency().active() => {
                "an emergency is in force here: until it is over only a matrix that was gone back to is published"
                    .to_owned()
            }
            Due::Publish { .. } => match self.publish().await {
                Ok(Some(number)) => {
                    self.note_unpublished(None);
                    return Ok(self.of_version(number, version));
                }
                // Somebody was faster; the watch tells of it.
                Ok(None) => of_other(&pointer),
                Err(error) => {
                    // People hear of an etcd that is away as such.
                    if error.code != "FLEET_UNREACHABLE" {
                        self.note_unpublished(Some(error.message.clone()));
                    }
                    return Err(error);
                }
            },
        };
        self.note_unpublished(Some(why.clone()));
        Ok(self.waiting(number, &why))
    }

    fn note_unpublished(&self, why: Option<String>) {
        let now = self.now();
        let other = {
            let mut shared = self.shared();
            let since = shared.unpublished.as_ref().map_or(now, |(since, _)| *since);
            let other = shared.unpublished.is_some() != why.is_some();
            shared.unpublished = why.map(|why| (since, why));
            other
        };
        if other {
            self.bell.ring();
        }
    }

    /// Publishes what is in force; its number. `None`: another host has the word by now.
    async fn publish(&self) -> Result<Option<u64>> {
        let Some(active) = self.in_force() else { return Ok(None) };
        let purpose = format!("publish version {}", active.version);
        let Some(held) = self.fleet.take(LOCK, &purpose).await? else { return Ok(None) };
        let published = self.publish_under(&held, &active).await;
        held.give_back().await;
        let Some((number, leaving)) = published? else { return Ok(None) };
        self.mark(active.version, number, "matrices.published").await?;
        self.delete(&leaving).await;
        Ok(Some(number))
    }

    pub(in super::super) async fn publish_under(
        &self,
        held: &Held,
        active: &MatrixRecord,
    ) -> Result<Option<(u64, Vec<(u64, u32)>)>> {
        let (keys, me) = (self.fleet.keys(), self.fleet.me());
        // As it is now, not as it was heard of.
        let key = keys.matrix();
        let known = self.fleet.get(&key).await?;
        let pointer = known.as_ref().and_then(|it| Pointer::read(&it.value).ok());
        let Due::Publish { back } = due(pointer.as_ref(), &me.host_id, Some(active)) else {
            return Ok(None);
        };
        let number = next_number(pointer.as_ref(), &self.versions());
        let served = self.values_of(active)?;
        let bytes =
            content(active, &served.matrix).map_err(|why| Error::internal("MATRIX_BROKEN", why))?;
        // One that was cut off left what nobody was pointed to.
        let left = self.fleet.list(&keys.matrix_parts(number)).await?;
        let left: Vec<Act> = left.into_iter().map(|it| Act::Delete(it.key)).collect();
        for acts in left.chunks(AT_ONCE) {
            held.change(&[], acts).await?.ok_or_else(|| held.fenced())?;
        }
        let mut parts = 0_u32;
        for part in bytes.chunks(PART) {
            let put =
                Act::Put { key: keys.matrix_part(number, parts), value: part.to_vec(), lease: 0 };
            held.change(&[], &[put]).await?.ok_or_else(|| held.fenced())?;
            parts += 1;
        }
        failpoint::pause("matrices.before-publish");
        failpoint::hit("matrices.before-publish");
        let members = self.fleet.list(&keys.members()).await?.len() as u64;
        let current = Published {
            number,
            at: published_at(active, self.now()),
            host: me.host.clone(),
            host_id: me.host_id.clone(),
            version: active.version,
            digest: active.digest.clone(),
            series: active.series,
            calculated_at: active.calculated_at,
            back,
            hash: hash(&bytes),
            bytes: bytes.len() as u64,
            parts,
        };
        let pointer = Pointer::after(pointer, current, members);
        let unchanged = match &known {
            Some(entry) => Guard::Modified(key.clone(), entry.modified),
            None => Guard::Absent(key.clone()),
        };
        let value = serde_json::to_vec(&pointer).unwrap_or_default();
        let put = Act::Put { key, value, lease: 0 };
        held.change(&[unchanged], &[put]).await?.ok_or_else(|| held.fenced())?;
        failpoint::hit("matrices.after-publish");
        tracing::info!(number, version = active.version, parts, "published a matrix for the fleet");
        Ok(Some((number, pointer.leaving)))
    }

    /// Deletes what no host needs any more. What stays is deleted with the next version.
    async fn delete(&self, leaving: &[(u64, u32)]) {
        let keys = self.fleet.keys();
        let part = |(number, parts): &(u64, u32)| {
            let number = *number;
            (0..*parts).map(move |part| Act::Delete(keys.matrix_part(number, part)))
        };
        let acts: Vec<Act> = leaving.iter().flat_map(part).collect();
        for acts in acts.chunks(AT_ONCE) {
            if let Err(error) = self.fleet.commit(&[], acts).await {
                tracing::warn!(error = error.chain(), "an old matrix stays in the fleet for now");
                return;
            }
        }
    }
}
