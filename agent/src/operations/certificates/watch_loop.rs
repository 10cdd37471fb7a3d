//! What can't wait for the daily check: what has none yet, one that ends, a retry whose time has come, a time that the CA
//! names.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use genesis_storage::{CertificateOrigin, RenewalRecord};

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
/// So many runs are begun by a look, and so many go on at a time.
const AT_ONCE: usize = 8;
/// So many CAs are asked at a time when they want a certificate renewed.
const ASKED: usize = 4;

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
            self.outside.clock.sleep(LOOK).await;
        }
    }

    async fn look_on(self: &Arc<Self>) {
        loop {
            if let Err(error) = self.look_once().await {
                tracing::error!(error = error.chain(), "the certificates could not be looked at");
            }
            tokio::select! {
                () = self.outside.clock.sleep(LOOK) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Looks once, and begins what is to be done.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn look_once(self: &Arc<Self>) -> Result<()> {
        self.confirm_the_time().await;
        let wanted = self.wanted(false)?;
        for name in wanted {
            if self.pauses(&name) {
                continue;
            }
            if let Some(run) = self.runs.active_with_key(&super::key(&name)) {
                self.place_beside(&name, &run).await?;
                continue;
            }
            if self.going_on() >= AT_ONCE {
                break;
            }
            let who = ("system:certificates".to_owned(), String::new());
            if let Err(error) = self.start(&name, Wish::default(), who).await {
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
        let (config, certificate) = (self.config.load_full(), self.named(name)?);
        let (standing, digest) = (self.standing(name)?, certificate.digest(&config));
        let clock = self.clock_for(&standing);
        let seen = (clock.as_deref(), false);
        let situation = standing.situation(&certificate, &digest, seen, self.now());
        if matches!(plan::decide(&situation), Decision::Nothing | Decision::Order { .. }) {
            return Ok(());
        }
        let wish = Wish { beside: true, ..Wish::default() };
        let who = ("system:certificates".to_owned(), String::new());
        self.start(name, wish, who).await.map(|_| ())
    }

    /// The certificates about which something is to be done, the most urgent first. Costs microseconds for each.
    pub(super) fn wanted(&self, checking: bool) -> Result<Vec<String>> {
        let (config, now) = (self.config.load_full(), self.now());
        let clock = self.clock_trouble();
        let mut wanted = Vec::new();
        for certificate in &config.certificates {
            let standing = self.fit(self.standing(&certificate.name)?);
            let clock = clock.clone().or_else(|| self.clock_for(&standing));
            let digest = certificate.digest(&config);
            let situation =
                standing.situation(certificate, &digest, (clock.as_deref(), checking), now);
            if plan::decide(&situation) != Decision::Nothing {
                let ends = situation.sound().map(|it| it.not_after);
                wanted.push((ends, certificate.name.clone()));
            }
        }
        wanted.sort();
        Ok(wanted.into_iter().map(|(_, name)| name).collect())
    }

    fn going_on(&self) -> usize {
        let config = self.config.load();
        let on = |it: &&Certificate| self.runs.active_with_key(&super::key(&it.name)).is_some();
        config.certificates.iter().filter(on).count()
    }

    /// A clock that was set is compared with a CA's.
    async fn confirm_the_time(&self) {
        let _ = self.clock_trouble();
        if !super::lock(&self.clock).is_to_be_asked(&self.moment()) {
            return;
        }
        let config = self.config.load_full();
        for ca in &config.authorities {
            if let Ok(directory) = self.outside.acme.directory(&ca.authority).await
                && directory.date.is_some()
            {
                let _ = self.heard(directory.date);
                return;
            }
        }
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
            let due = known.is_none_or(|it| it.ask_at <= now);
            if current.origin != CertificateOrigin::Acme || current.not_after <= now || !due {
                continue;
            }
            if let Some(ca) = config.ca(&current.ca) {
                asked.push((certificate.name.clone(), ca.clone(), standing));
            }
        }
        let each = asked.into_iter().map(|(name, ca, standing)| self.ask_one(name, ca, standing));
        let ended: Vec<Result<()>> = stream::iter(each).buffer_unordered(ASKED).collect().await;
        ended.into_iter().collect()
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
        if !moved {
            return self.keep_renewal(&name, record).await;
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
        .await
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
