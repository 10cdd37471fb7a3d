//! The connection to what holds the fleet together: it is made anew, with the next member of the cluster, for as long as
//! the agent runs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::members::{Member, Stand, member_value};
use super::{Fleet, Open};
use crate::outside::coordinator::{Act, CALL, Entry, LONGEST_CALL, Link, Place, Seen, Trouble};
use crate::outside::tasks;

/// So long after the first failure the next endpoint is tried; twice as long each time.
const FIRST: Duration = Duration::from_millis(50);
/// But not longer than this.
const LAST: Duration = Duration::from_secs(1);
/// The lease is kept at least and at most so often.
const BEAT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// Every so many beats it is looked whether somebody else lives under this host's identity.
const LOOK_AROUND: u32 = 10;

/// A number by which hosts differ, and each start of an agent, whose session is made of chance; of one session it is always
/// the same, so that what a host did can be done again.
fn drawn(session: &str, turn: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (session, turn).hash(&mut hasher);
    hasher.finish()
}

/// How often the lease is kept, so that one look may fail.
fn beat(lease: Duration) -> Duration {
    (lease / 5).clamp(BEAT.0, BEAT.1)
}

impl Fleet {
    /// Holds the connection for ever.
    pub async fn serve(self: Arc<Self>) {
        let Some(place) = &self.config.etcd else { return };
        let _emergency = tasks::attached(Arc::clone(&self).keep_emergency());
        let session = &self.me.session;
        // Not all hosts of a fleet begin with the first.
        let mut turn = drawn(session, 0);
        let (mut pause, mut limit) = (FIRST, CALL);
        loop {
            let began = self.clock.monotonic();
            let count = self.now().connected;
            let place_of = usize::try_from(turn % place.endpoints.len() as u64).unwrap_or(0);
            let endpoint = &place.endpoints[place_of];
            let trouble = self.hold(place, endpoint, limit).await;
            self.close(endpoint, &trouble);
            turn = turn.wrapping_add(1);
            limit = (limit * 3 / 2).min(LONGEST_CALL);
            if self.now().connected > count {
                pause = FIRST;
                if self.clock.monotonic().saturating_sub(began) > LONGEST_CALL {
                    limit = CALL;
                }
            }
            // Between a half and all of it, so that a thousand hosts don't come back in the same instant.
            let part = drawn(session, turn) % 512;
            self.clock.sleep(pause * u32::try_from(512 + part).unwrap_or(512) / 1024).await;
            pause = (pause * 2).min(LAST);
        }
    }

    /// Connects, and holds the connection until it breaks; why it did.
    async fn hold(&self, place: &Place, endpoint: &str, limit: Duration) -> Trouble {
        match self.try_to_hold(place, endpoint, limit).await {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        }
    }

    async fn try_to_hold(
        &self,
        place: &Place,
        endpoint: &str,
        limit: Duration,
    ) -> Result<std::convert::Infallible, Trouble> {
        let link = self.coordinator.connect(place, endpoint, limit).await?;
        let lease = self.join(&*link).await?;
        let from = self.catch_up(&*link).await?;
        let mut watch = link.watch(&self.keys.common(), from).await?;
        let open = Open { link: Arc::clone(&link), lease, endpoint: endpoint.to_owned() };
        {
            let mut now = self.now();
            (now.open, now.heard.0) = (Some(open), Some(self.clock.monotonic()));
            now.connected += 1;
        }
        self.metrics.connected();
        tracing::info!(endpoint, "the fleet can be reached");
        self.tell();
        let mut beats = 0_u32;
        let mut ended = self.follow();
        let mut next = Box::pin(self.clock.sleep(Duration::ZERO));
        loop {
            tokio::select! {
                // In this order, and not by chance: the lease does not wait for news, however many there are.
                biased;
                () = &mut next => {
                    self.beat(&*link).await?;
                    if beats.is_multiple_of(LOOK_AROUND) {
                        self.look_around(&*link).await?;
                    }
                    beats = beats.wrapping_add(1);
                    next = Box::pin(self.clock.sleep(beat(self.config.lease)));
                }
                // Somebody else found it broken.
                _ = ended.changed() => {
                    if self.now().open.is_none() {
                        return Err(Trouble::Away(self.now().trouble.clone()));
                    }
                }
                seen = watch.recv() => match seen {
                    Some(Ok(seen)) => self.take_in(seen),
                    Some(Err(trouble)) => return Err(trouble),
                    None => return Err(Trouble::Away("the watch has ended".to_owned())),
                },
            }
        }
    }

    /// Keeps the lease, or takes a new one where it has ended.
    async fn beat(&self, link: &dyn Link) -> Result<(), Trouble> {
        let (lease, full) = {
            let now = self.now();
            (now.lease, now.full.is_some())
        };
        let asked = self.clock.monotonic();
        match lease {
            Some(lease) if !full => match link.keep(lease).await {
                Ok(()) => {
                    self.kept(asked);
                    return Ok(());
                }
                Err(Trouble::NoLease) => {
                    tracing::warn!(
                        "what this host held in the fleet has ended, since it was silent for too long"
                    );
                    self.now().lease = None;
                }
                Err(trouble) => return Err(trouble),
            },
            _ => {}
        }
        let lease = self.join(link).await?;
        if let Some(open) = self.now().open.as_mut() {
            open.lease = lease;
        }
        self.tell();
        Ok(())
    }

    /// Makes this host a member; the lease by which it is one. Where etcd has no room for that, what it has is followed all
    /// the same, and there is none (0).
    async fn join(&self, link: &dyn Link) -> Result<i64, Trouble> {
        match self.lease_of(link).await {
            Err(Trouble::Full(why)) => {
                // Whether it still lives is asked in another way then.
                link.list(&self.keys.member(&self.me.host_id)).await?;
                let mut now = self.now();
                now.heard.0 = Some(self.clock.monotonic());
                now.full = Some(why);
                Ok(now.lease.unwrap_or(0))
            }
            joined => joined,
        }
    }

    /// The lease that this host holds, or a new one; this host is a member by it.
    async fn lease_of(&self, link: &dyn Link) -> Result<i64, Trouble> {
        let asked = self.clock.monotonic();
        let known = self.now().lease;
        let lease = match known {
            Some(lease) => match link.keep(lease).await {
                Ok(()) => {
                    self.kept(asked);
                    Some(lease)
                }
                Err(Trouble::NoLease) => {
                    self.now().lease = None;
                    None
                }
                Err(trouble) => return Err(trouble),
            },
            None => None,
        };
        let (lease, new) = match lease {
            Some(lease) => (lease, false),
            None => (link.grant(self.config.lease).await?, true),
        };
        let stand = self.stand();
        let value = member_value(&self.me, &stand);
        let session = |name: &str| self.keys.session(&self.me.host_id, name);
        // Also with a lease that was kept: the key may have been taken away.
        let mut acts =
            vec![Act::Put { key: session(&self.me.session), value: value.clone(), lease }];
        if new {
            acts.push(Act::Put { key: self.keys.known(&self.me.host_id), value, lease: 0 });
        }
        if new && !self.me.before.is_empty() {
            acts.push(Act::Delete(session(&self.me.before)));
        }
        link.commit(&[], &acts).await?;
        {
            let mut now = self.now();
            now.lease = Some(lease);
            now.told = Some((self.me.session.clone(), stand));
            now.full = None;
        }
        self.kept(asked);
        Ok(lease)
    }

    /// Takes over what every member follows; from which revision on it is to be watched.
    async fn catch_up(&self, link: &dyn Link) -> Result<i64, Trouble> {
        if self.now().mirror.revision() > 0 {
            let names = link.names(&self.keys.common()).await?;
            let (resumed, witness) = {
                let now = self.now();
                let witness = now.mirror.witness(&names).cloned();
                (now.mirror.resumes(link.cluster(), &names), witness)
            };
            if let Some(from) = resumed
                && self.bears_out(link, witness).await?
            {
                return Ok(from);
            }
        }
        let listed = link.list(&self.keys.common()).await?;
        let from = listed.revision + 1;
        let changed = self.now().mirror.replace(listed, link.cluster());
        self.metrics.seen(changed.len());
        tracing::info!(keys = changed.len(), from, "what the fleet has in common was listed");
        Ok(from)
    }

    /// Whether a key that has to be as it is known is so by its value, too.
    async fn bears_out(&self, link: &dyn Link, witness: Option<Entry>) -> Result<bool, Trouble> {
        let Some(witness) = witness else { return Ok(true) };
        // One that has changed since its revisions were asked for proves nothing.
        Ok(link.list(&witness.key).await?.entries.contains(&witness))
    }

    fn take_in(&self, seen: Seen) {
        let changed = {
            let mut now = self.now();
            now.heard.0 = Some(self.clock.monotonic());
            now.mirror.apply(seen)
        };
        self.metrics.seen(changed.len());
        // Also where nothing changed: whoever waits for a revision looks at it.
        self.tell();
    }

    /// Waits until what happened up to a revision is known here; not for ever.
    pub async fn heard_of(&self, revision: i64) {
        let mut changed = self.follow();
        let heard = async {
            while self.now().mirror.revision() < revision {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = heard => {}
            () = self.clock.sleep(super::PATIENCE) => {}
        }
    }

    fn kept(&self, asked: Duration) {
        let mut now = self.now();
        now.kept = asked;
        now.heard.0 = Some(self.clock.monotonic());
    }

    /// How the fleet was told that this host stands.
    fn told_stand(&self) -> Option<Stand> {
        self.now().told.as_ref().map(|(_, stand)| stand.clone())
    }

    async fn look_around(&self, link: &dyn Link) -> Result<(), Trouble> {
        let listed = link.list(&self.keys.member(&self.me.host_id)).await?;
        let members: Vec<Member> =
            listed.entries.iter().filter_map(|entry| Member::of(&self.keys, entry)).collect();
        match members.iter().find(|it| it.session == self.me.session) {
            // An older word of it has come in behind a newer one, as from a call that was given up.
            Some(mine) if mine.stand != self.told_stand() => {
                self.now().told = None;
                self.tell();
            }
            Some(_) => {}
            // Somebody took it away: a copy of this host, which took this agent for its own that was before.
            None => {
                self.join(link).await?;
            }
        }
        // So may a lock that was given up, after the run for which it was to be taken.
        self.give_back_what_is_left(link).await?;
        let twins = self.twins_among(members);
        let mut now = self.now();
        let other = now.twins.len() != twins.len();
        now.twins = twins;
        drop(now);
        if other {
            self.bell.ring();
        }
        Ok(())
    }

    /// A connection that is of no use any more; the next one is made at once.
    pub(super) fn broken(&self, open: &Open, trouble: &Trouble) {
        if !matches!(trouble, Trouble::Away(_)) {
            let known = match trouble {
                Trouble::Full(why) => self.now().full.replace(why.clone()).is_some(),
                _ => false,
            };
            if !known {
                tracing::warn!(%trouble, "the fleet could not be told something");
            }
            return;
        }
        {
            let mut now = self.now();
            if now.open.as_ref().is_some_and(|it| Arc::ptr_eq(&it.link, &open.link)) {
                now.open = None;
                now.trouble = trouble.to_string();
            }
        }
        self.tell();
    }

    fn close(&self, endpoint: &str, trouble: &Trouble) {
        let (was_open, said) = {
            let mut now = self.now();
            let text = format!("{endpoint}: {trouble}");
            let was_open = now.open.take().is_some();
            let said = now.trouble != text;
            now.trouble = text;
            if matches!(trouble, Trouble::Compacted(_)) {
                // What happened in between can't be told any more; what is now can.
                now.mirror.forget_place();
            }
            (was_open, said)
        };
        if was_open || said {
            tracing::warn!(endpoint, %trouble, "the fleet can't be reached");
        }
        self.metrics.failed();
        self.tell();
    }
}
