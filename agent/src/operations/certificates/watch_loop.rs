//! What can't wait for the daily check: what has none yet, one that ends, a retry whose time has come, a time that the CA
//! names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use genesis_storage::{CertificateOrigin, RenewalRecord};
use jiff::Timestamp;

use super::config::{Ca, Certificate};
use super::plan::{self, Decision};
use super::record::{Event, Who};
use super::renew::Wish;
use super::{Certificates, Standing, backoff};
use crate::error::Result;
use crate::outside::acme::Class;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);
/// A run that goes on for longer waits for a CA.
const WAITED: Duration = Duration::from_secs(20);
/// So many runs wait for CAs at a time; and so many, beside them, put into service what takes none.
const AT_ONCE: usize = 8;
/// So many CAs are asked at a time when they want a certificate renewed.
const ASKED: usize = 4;

/// A CA is asked no sooner than that after the last time, also where what it said could not be written down.
const CLOSEST: Duration = Duration::from_secs(60);
/// No CA is asked later than that: what says otherwise was written while the clock was ahead.
const LATEST: Duration = Duration::from_secs(86_400);

/// Something is to be done about a certificate.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Its name.
    pub(super) name: String,
    /// What.
    pub(super) decision: Decision,
}

/// The runs that go on, by what they do.
#[derive(Debug, Default)]
struct Going {
    /// They wait for a CA, or are about to.
    ordering: usize,
    /// They put into service what is there, and order afterwards.
    placing: usize,
    /// They do no more than that.
    beside: usize,
}

impl Certificates {
    /// Looks at the certificates, for ever. The CAs are asked for their times beside that: one that hangs keeps no
    /// certificate waiting that ends.
    pub async fn serve(self: Arc<Self>) {
        tokio::join!(self.look_on(), self.ask_on());
    }

    async fn ask_on(&self) {
        loop {
            if let Err(error) = self.ask_when().await {
                tracing::error!(
                    error = error.chain(),
                    "the CAs could not be asked for their times"
                );
            }
            self.outside.clock.tick(LOOK).await;
        }
    }

    async fn look_on(self: &Arc<Self>) {
        loop {
            if let Err(error) = self.look_once().await {
                tracing::error!(error = error.chain(), "the certificates could not be looked at");
            }
            tokio::select! {
                () = self.outside.clock.tick(LOOK) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Looks once, and begins what is to be done. What takes no CA is begun however many runs wait for one.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn look_once(self: &Arc<Self>) -> Result<()> {
        self.confirm_the_time().await?;
        let wanted = self.wanted(false)?;
        let mut going = self.going_on()?;
        for Wanted { name, decision } in wanted {
            if self.pauses(&name) {
                continue;
            }
            if let Some(run) = self.runs.active_with_key(&super::key(&name)) {
                self.place_beside(&name, &run).await?;
                continue;
            }
            if self.runs.active_with_key(&super::key_beside(&name)).is_some() {
                continue;
            }
            let wish = match decision {
                Decision::Order { .. } if going.ordering >= AT_ONCE => continue,
                Decision::Order { .. } => {
                    going.ordering += 1;
                    Wish::default()
                }
                _ if going.placing + going.beside >= AT_ONCE => continue,
                // It would order afterwards, and wait with the others.
                _ if going.ordering + going.placing >= AT_ONCE => {
                    going.beside += 1;
                    Wish { beside: true, ..Wish::default() }
                }
                _ => {
                    going.placing += 1;
                    Wish::default()
                }
            };
            let who = ("system:certificates".to_owned(), String::new());
            if let Err(error) = self.start(&name, wish, who).await {
                tracing::warn!(certificate = name, error = error.chain(), "no run could be begun");
                break;
            }
        }
        Ok(())
    }

    /// A run that waits for a CA does not keep another certificate from coming into service when the one in force ends.
    async fn place_beside(self: &Arc<Self>, name: &str, run: &str) -> Result<()> {
        let Ok(going) = self.runs.find(run) else { return Ok(()) };
        if self.now() < plan::plus(going.record.started_at, WAITED) {
            return Ok(());
        }
        let certificate = self.named(name)?;
        if matches!(
            self.decided(&certificate, false)?.1,
            Decision::Nothing | Decision::Order { .. }
        ) {
            return Ok(());
        }
        let wish = Wish { beside: true, ..Wish::default() };
        let who = ("system:certificates".to_owned(), String::new());
        self.start(name, wish, who).await.map(|_| ())
    }

    /// What the plan wants for a certificate now, and until when its certificate in force does, if that may be in service.
    fn decided(
        &self,
        certificate: &Certificate,
        checking: bool,
    ) -> Result<(Option<Timestamp>, Decision)> {
        let standing = self.fit(self.standing(&certificate.name)?);
        let (clock, digest) = (self.clock_for(&standing), certificate.digest(&self.config.load()));
        let seen = (clock.as_deref(), checking);
        let situation = standing.situation(certificate, &digest, seen, self.now());
        Ok((situation.sound().map(|it| it.not_after), plan::decide(&situation)))
    }

    /// The certificates about which something is to be done, the most urgent first: those that have none that may be in
    /// service. Costs microseconds for each.
    pub(super) fn wanted(&self, checking: bool) -> Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for certificate in &self.config.load_full().certificates {
            let (ends, decision) = self.decided(certificate, checking)?;
            if decision != Decision::Nothing {
                wanted.push((ends, Wanted { name: certificate.name.clone(), decision }));
            }
        }
        wanted.sort_by(|(a, one), (b, other)| (a, &one.name).cmp(&(b, &other.name)));
        Ok(wanted.into_iter().map(|(_, wanted)| wanted).collect())
    }

    fn going_on(&self) -> Result<Going> {
        let mut going = Going::default();
        for certificate in &self.config.load_full().certificates {
            let name = &certificate.name;
            if self.runs.active_with_key(&super::key_beside(name)).is_some() {
                going.beside += 1;
            }
            if self.runs.active_with_key(&super::key(name)).is_some() {
                match self.decided(certificate, false)?.1 {
                    Decision::Order { .. } | Decision::Nothing => going.ordering += 1,
                    _ => going.placing += 1,
                }
            }
        }
        Ok(going)
    }

    /// Asks the CAs when they want their certificates renewed, where it is time to ask.
    pub(super) async fn ask_when(&self) -> Result<()> {
        let (config, now) = (self.config.load_full(), self.now());
        if self.clock_trouble().is_some() {
            return Ok(());
        }
        let mut asked = Vec::new();
        for certificate in &config.certificates {
            let standing = self.standing(&certificate.name)?;
            let Some(current) = standing.current() else { continue };
            let known =
                standing.record.renewal.as_ref().filter(|it| it.fingerprint == current.fingerprint);
            let due =
                known.is_none_or(|it| it.ask_at <= now || it.ask_at > plan::plus(now, LATEST));
            if current.origin != CertificateOrigin::Acme || current.not_after <= now || !due {
                continue;
            }
            if let Some(ca) = config.ca(&current.ca)
                && self.may_ask_when(&current.fingerprint)
            {
                asked.push((certificate.name.clone(), ca.clone(), standing));
            }
        }
        let each = asked.into_iter().map(|(name, ca, standing)| self.ask_one(name, ca, standing));
        let ended: Vec<Result<()>> = stream::iter(each).buffer_unordered(ASKED).collect().await;
        ended.into_iter().collect()
    }

    /// When to ask again is in the state.
    fn is_noted(&self, fingerprint: &str) {
        super::lock(&self.asked_when).remove(fingerprint);
    }

    /// Whether it was not asked just now about this one, without an end that the state could take: a disk may be full. Then
    /// it counts as asked.
    pub(super) fn may_ask_when(&self, fingerprint: &str) -> bool {
        let now = self.outside.clock.monotonic();
        let mut asked = super::lock(&self.asked_when);
        asked.retain(|_, at| now.saturating_sub(*at) < CLOSEST);
        let may = !asked.contains_key(fingerprint);
        if may {
            asked.insert(fingerprint.to_owned(), now);
        }
        may
    }

    async fn ask_one(&self, name: String, ca: Ca, standing: Standing) -> Result<()> {
        let Some(current) = standing.current() else { return Ok(()) };
        let Some(leaf) = self.leaf_of(&name, current.number) else { return Ok(()) };
        let answer = self.outside.acme.renewal_info(&ca.authority, &leaf).await;
        let now = self.now();
        let before =
            standing.record.renewal.as_ref().filter(|it| it.fingerprint == current.fingerprint);
        let record = match answer {
            Ok(info) => {
                // The instant stays, as long as the window does.
                let same = before
                    .and_then(|it| it.window)
                    .filter(|(start, end, _)| (*start, *end) == (info.start, info.end));
                let seed = format!("{}/{}/{}", self.host.host_id, current.fingerprint, info.start);
                let chosen = same
                    .map_or_else(|| backoff::choose(info.start, info.end, &seed), |(_, _, at)| at);
                RenewalRecord {
                    fingerprint: current.fingerprint.clone(),
                    window: Some((info.start, info.end, chosen)),
                    ask_at: backoff::ask_again(now, info.ask_again),
                    explanation: info.explanation.unwrap_or_default(),
                }
            }
            Err(trouble) => {
                let unsupported = trouble.class == Class::Policy;
                if !unsupported {
                    tracing::info!(
                        certificate = name,
                        error = trouble.message,
                        "the CA does not say when to renew"
                    );
                }
                // What it said last stays; a CA that can't say anything is asked once a day.
                let window = if unsupported { None } else { before.and_then(|it| it.window) };
                let pause = if unsupported {
                    Some(Duration::from_secs(86_400))
                } else {
                    trouble.retry_after
                };
                RenewalRecord {
                    fingerprint: current.fingerprint.clone(),
                    window,
                    ask_at: backoff::ask_again(now, pause),
                    explanation: before.map(|it| it.explanation.clone()).unwrap_or_default(),
                }
            }
        };
        let moved = before.map(|it| it.window) != Some(record.window);
        let fingerprint = record.fingerprint.clone();
        if !moved {
            self.keep_renewal(&name, record).await?;
            self.is_noted(&fingerprint);
            return Ok(());
        }
        let detail = match record.window {
            Some((start, end, chosen)) => format!("from {start} to {end}, chosen {chosen}"),
            None => "the CA names no time".to_owned(),
        };
        let event = Event {
            kind: "renewal-window",
            ca: ca.authority.name,
            generation: current.number,
            detail,
            ..Event::default()
        };
        self.change(&name, &Who::system(), event, move |standing| {
            standing.renewal = Some(record);
            Vec::new()
        })
        .await?;
        self.is_noted(&fingerprint);
        Ok(())
    }

    /// Notes when to ask again: nothing happened, so nothing is told.
    async fn keep_renewal(&self, name: &str, record: RenewalRecord) -> Result<()> {
        let name = name.to_owned();
        self.state
            .bookkeep(move |books| {
                books.certificates().asked(&name, record)?;
                Ok(())
            })
            .await
    }
}
