//! How certificates stand, in the state: read, and changed together with what happened.

use std::time::Duration;

use genesis_storage::{CertificateEventRecord, CertificateRecord, GenerationRecord, Intent};
use jiff::Timestamp;

use super::budget::COUNTED;
use super::config::Certificate;
use super::plan::{Situation, minus};
use super::{Certificates, Config, lock};
use crate::error::Result;

/// So many events are kept beside those that limits count.
const EVENTS: usize = 2_000;

/// What is no use is looked at again after that time.
const UNFIT: Duration = Duration::from_secs(3_600);

/// How a certificate stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Its record.
    pub record: CertificateRecord,
    /// Its generations, the newest first.
    pub generations: Vec<GenerationRecord>,
    /// The one for need.
    pub backup: Option<GenerationRecord>,
}

impl Standing {
    /// The generation in force.
    pub fn current(&self) -> Option<&GenerationRecord> {
        self.generation(self.record.generation)
    }

    /// The generation of this number; 0: the one for need.
    pub fn generation(&self, number: u32) -> Option<&GenerationRecord> {
        match number {
            0 => None,
            number => self.generations.iter().find(|it| it.number == number),
        }
    }

    /// What is asked of the plan.
    pub fn situation<'a>(
        &'a self,
        certificate: &'a Certificate,
        configuration: &'a str,
        (clock, checking): (Option<&'a str>, bool),
        now: Timestamp,
    ) -> Situation<'a> {
        Situation {
            identifiers: &certificate.identifiers,
            renew_before: certificate.renew_before,
            cas: &certificate.cas,
            record: &self.record,
            generations: &self.generations,
            backup: self.backup.as_ref(),
            configuration,
            clock,
            checking,
            now,
        }
    }
}

/// Who does something, why, and in which run.
#[derive(Debug, Clone, Default)]
pub(super) struct Who {
    pub(super) actor: String,
    pub(super) reason: String,
    pub(super) run: String,
}

impl Who {
    pub(super) fn system() -> Self {
        Self { actor: "system:certificates".to_owned(), ..Self::default() }
    }
}

/// What happened, in the words of the history.
#[derive(Debug, Clone, Default)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    pub(super) ca: String,
    pub(super) generation: u32,
    pub(super) identifiers: Vec<String>,
    pub(super) exempt: bool,
    pub(super) detail: String,
    /// "ok", or an error's code.
    pub(super) outcome: &'static str,
}

impl Certificates {
    /// How a certificate stands.
    pub(super) fn standing(&self, name: &str) -> Result<Standing> {
        self.state.read(|reading| {
            let table = reading.certificates();
            let record = table.get_or_new(name)?;
            let mut generations = table.generations(name)?;
            let backup = generations.pop_if(|it| it.number == 0);
            Ok(Standing { record, generations, backup })
        })
    }

    /// A generation whose files are no use is passed over for a while: another may do, or a new one has to be had.
    pub(super) fn pass_over(&self, name: &str, number: u32) {
        let until = self.outside.clock.monotonic() + UNFIT;
        lock(&self.unfit).insert((name.to_owned(), number), until);
    }

    /// How a certificate stands without the generations that are passed over.
    pub(super) fn fit(&self, mut standing: Standing) -> Standing {
        let now = self.outside.clock.monotonic();
        let mut unfit = lock(&self.unfit);
        unfit.retain(|_, until| *until > now);
        let (name, current) = (standing.record.name.clone(), standing.record.generation);
        let fit = |number: u32| number == current || !unfit.contains_key(&(name.clone(), number));
        standing.generations.retain(|it| fit(it.number));
        standing.backup.take_if(|_| unfit.contains_key(&(name.clone(), 0)));
        standing
    }

    /// Changes how a certificate stands, together with the history; the new generations that `f` returns come to it.
    pub(super) async fn change(
        &self,
        name: &str,
        who: &Who,
        event: Event,
        f: impl FnOnce(&mut CertificateRecord) -> Vec<GenerationRecord> + Send + 'static,
    ) -> Result<()> {
        self.change_all((name, None), who, event, |record, _| f(record)).await
    }

    /// Changes how a certificate stands, and one of its generations (0: the one for need) as the state has it at that
    /// moment: what others note of it meanwhile stays. `f` gets `None` where there is none of this number any more.
    pub(super) async fn change_generation(
        &self,
        name: &str,
        number: u32,
        who: &Who,
        event: Event,
        f: impl FnOnce(&mut CertificateRecord, Option<&mut GenerationRecord>) + Send + 'static,
    ) -> Result<()> {
        self.change_all((name, Some(number)), who, event, move |record, generation| {
            f(record, generation);
            Vec::new()
        })
        .await
    }

    async fn change_all(
        &self,
        (name, number): (&str, Option<u32>),
        who: &Who,
        event: Event,
        f: impl FnOnce(&mut CertificateRecord, Option<&mut GenerationRecord>) -> Vec<GenerationRecord>
        + Send
        + 'static,
    ) -> Result<()> {
        let now = self.now();
        let outcome = if event.outcome.is_empty() { "ok" } else { event.outcome };
        let intent = Intent::new(now, who.actor.clone(), format!("certificate.{}", event.kind))
            .target(match event.generation {
                0 => name.to_owned(),
                number => format!("{name}/gen-{number}"),
            })
            .reason(who.reason.clone())
            .outcome(outcome)
            .detail(event.detail.clone())
            .correlation_id(who.run.clone());
        let told = CertificateEventRecord {
            id: self.new_id(),
            at: now,
            name: name.to_owned(),
            kind: event.kind.to_owned(),
            ca: event.ca,
            generation: event.generation,
            identifiers: event.identifiers,
            exempt: event.exempt,
            detail: event.detail,
            actor: who.actor.clone(),
        };
        let name = name.to_owned();
        self.state
            .write(intent, move |writing| {
                let table = writing.certificates();
                let mut record = table.get_or_new(&name)?;
                let mut known = match number {
                    Some(number) => table.generation(&name, number)?,
                    None => None,
                };
                for generation in f(&mut record, known.as_mut()).into_iter().chain(known) {
                    table.put_generation(&generation)?;
                }
                table.put(&record)?;
                table.put_event(&told, minus(now, COUNTED), EVENTS)?;
                Ok(())
            })
            .await?;
        self.bell.ring();
        Ok(())
    }

    /// What counts for the limits of a CA. Two that are one by their directory have one account and one count.
    pub(super) fn counted(&self, config: &Config, ca: &str) -> Result<Vec<CertificateEventRecord>> {
        let directory = config.ca(ca).map(|ca| ca.authority.directory.as_str());
        let same: Vec<&str> = config
            .authorities
            .iter()
            .filter(|it| Some(it.authority.directory.as_str()) == directory)
            .map(|it| it.authority.name.as_str())
            .collect();
        let from = minus(self.now(), COUNTED);
        self.state.read(|reading| {
            Ok(reading.certificates().events(usize::MAX, |event| {
                event.at > from && (event.ca == ca || same.contains(&event.ca.as_str()))
            })?)
        })
    }
}
