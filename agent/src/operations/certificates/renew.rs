//! A run that brings one certificate to where it should be: it asks the plan what is to be done, does that, and asks again.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

use super::config::Certificate;
use super::deploy::Deployed;
use super::failed::Failed;
use super::plan::{self, Decision};
use super::record::{Event, Who};
use super::{Certificates, RENEW, key, key_beside, lock, material};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Context, Report, Request, SecondCaller, Started};

/// So often in a run it is asked what is to be done.
const ROUNDS: usize = 6;
/// After a run that failed, no other is begun by itself for so long; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Up to that.
const LONGEST_PAUSE: Duration = Duration::from_secs(40);

/// What is asked of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// Order also what is not due, and what waits after a failure.
    pub(super) force: bool,
    /// It is the daily check.
    pub(super) checking: bool,
    /// Only what needs no CA, beside a run that waits for one.
    pub(super) beside: bool,
    /// Somebody asks for it: what waits to come into service is not waited for.
    pub(super) by_hand: bool,
}

impl Certificates {
    /// Starts bringing a certificate to where it should be, or attaches to the run that does.
    ///
    /// # Errors
    /// Those of starting a run.
    pub(super) async fn start(
        self: &Arc<Self>,
        name: &str,
        wish: Wish,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        let request = Request {
            kind: RENEW,
            actor,
            reason,
            parameters: json!({ "certificate": name, "force": wish.force }),
            key: if wish.beside { key_beside(name) } else { key(name) },
            second: SecondCaller::Attach,
            stance: Stance::GoOn,
        };
        let (own, name) = (Arc::clone(self), name.to_owned());
        let body = move |context| async move {
            let ended = Arc::clone(&own).run(&name, wish, context).await;
            own.pause_after(&name, ended.is_err());
            ended
        };
        self.runs.start(request, body).await
    }

    /// What the plan wants at once may fail at once, and again: a disk that is full is not asked every few seconds.
    fn pause_after(&self, name: &str, failed: bool) {
        let mut pauses = lock(&self.pauses);
        if !failed {
            pauses.remove(name);
            return;
        }
        let failures = pauses.get(name).map_or(0, |(failures, _)| *failures) + 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE);
        let until = self.outside.clock.monotonic() + pause;
        pauses.insert(name.to_owned(), (failures, until));
    }

    /// Whether the last run failed just now.
    pub(super) fn pauses(&self, name: &str) -> bool {
        let now = self.outside.clock.monotonic();
        lock(&self.pauses).get(name).is_some_and(|(_, until)| *until > now)
    }

    async fn run(self: Arc<Self>, name: &str, wish: Wish, context: Context) -> Result<Report> {
        let who = Who { actor: context.actor(), reason: context.reason(), run: context.id() };
        let (mut wish, mut did, mut proven) = (wish, Vec::new(), true);
        for _ in 0..ROUNDS {
            context.safe_point()?;
            let certificate = self.named(name)?;
            let decision = self.decision(&certificate, wish).await?;
            // Once is what was asked for.
            let force = std::mem::take(&mut wish.force);
            wish.by_hand = false;
            let (said, seen) = match decision {
                Decision::Nothing => break,
                Decision::Order { .. } if wish.beside => break,
                Decision::Order { cas } => {
                    self.order(&certificate, cas, (force, &who), &context).await?
                }
                placed => self.place(&certificate, placed, (&context, &who)).await?,
            };
            did.push(said);
            proven &= seen;
        }
        let summary = match did.is_empty() {
            true => format!("{name}: nothing is due"),
            false => format!("{name}: {}", did.join("; ")),
        };
        Ok(if proven { Report::proven(summary) } else { Report::unknown(summary) })
    }

    /// What is to be done now. Before one that looks ended is replaced, a CA is asked what time it is.
    pub(super) async fn decision(&self, certificate: &Certificate, wish: Wish) -> Result<Decision> {
        let look = |clock: Option<String>| {
            let config = self.config.load();
            let standing = self.fit(self.standing(&certificate.name)?);
            let digest = certificate.digest(&config);
            let clock = clock.or_else(|| self.clock_for(&standing));
            let now = self.now();
            let situation =
                standing.situation(certificate, &digest, (clock.as_deref(), wish.checking), now);
            Ok::<_, Error>(match (wish.force || wish.by_hand) && clock.is_none() {
                true => self.by_hand(certificate, &situation, wish.force),
                false => plan::decide(&situation),
            })
        };
        let decision = look(None)?;
        match decision {
            Decision::SelfSign | Decision::DeployBackup | Decision::Deploy(_) => {
                look(self.ask_the_time(certificate).await)
            }
            decision => Ok(decision),
        }
    }

    /// What is done for somebody who asks: what was issued already and is no worse for it comes into service before another
    /// is ordered, also while it would wait after a failure.
    pub(super) fn by_hand(
        &self,
        certificate: &Certificate,
        situation: &plan::Situation<'_>,
        force: bool,
    ) -> Decision {
        if situation.cas.is_empty() {
            return plan::decide(situation);
        }
        let waiting = situation.waiting().filter(|it| self.read_back(certificate, it).is_ok());
        match waiting {
            Some(waiting) => Decision::Deploy(waiting.number),
            None if force => Decision::Order { cas: situation.cas.len() },
            None => plan::decide(situation),
        }
    }

    /// Puts something into service that needs no CA.
    async fn place(
        self: &Arc<Self>,
        certificate: &Certificate,
        decision: Decision,
        (context, who): (&Context, &Who),
    ) -> Result<(String, bool)> {
        let name = &certificate.name;
        let number = match decision {
            Decision::Deploy(number) => number,
            Decision::DeployBackup => {
                let step = context.begin("take-backup", name).await?;
                let number = self.take_backup(certificate, who).await?;
                step.done(format!("as generation {number}")).await?;
                number
            }
            Decision::SelfSign => {
                let step = context.begin("self-sign", name).await?;
                let number = self.self_sign(certificate, who).await?;
                step.done(format!("as generation {number}")).await?;
                number
            }
            Decision::Nothing | Decision::Order { .. } => return Ok((String::new(), true)),
        };
        let step = context.begin("deploy", &format!("{name}/gen-{number}")).await?;
        let digest = certificate.digest(&self.config.load());
        match self.deploy(certificate, number, who).await {
            Ok(deployed) => {
                step.done(deployed.evidence.clone()).await?;
                Ok(said(number, &deployed))
            }
            Err(error) => {
                step.failed(error.chain()).await?;
                let failed = Failed::placing(Error::internal("DEPLOY_FAILED", error.chain()));
                match error.code {
                    // Pinned meanwhile: whoever did that wanted this.
                    "CERTIFICATE_PINNED" => {}
                    // Whatever else there is has its turn at once.
                    "GENERATION_UNUSABLE" if number != self.standing(name)?.record.generation => {
                        self.pass_over(name, number);
                    }
                    _ => self.hold(certificate, (&digest, &[failed]), (who, context)).await?,
                }
                Err(error)
            }
        }
    }

    /// Takes the one for need over as a generation.
    async fn take_backup(&self, certificate: &Certificate, who: &Who) -> Result<u32> {
        let folder = self.folder(&certificate.name);
        let read = folder.read(0).and_then(|(fullchain, key)| {
            material::preflight(
                (&fullchain, &key),
                &certificate.identifiers,
                None,
                None,
                self.now(),
            )
            .and_then(|(_, checks)| {
                checks.into_iter().find_map(|it| it.outcome.err()).map_or(Ok(()), Err)
            })
            .map(|()| (fullchain, key))
        });
        match read {
            Ok(read) => self.adopt(certificate, read, (CertificateOrigin::Backup, ""), who).await,
            Err(why) => {
                self.pass_over(&certificate.name, 0);
                Err(disk_failed(format!("the one for need is no use: {why}")))
            }
        }
    }

    /// Makes a certificate that nobody trusts, but that a service can start with.
    async fn self_sign(&self, certificate: &Certificate, who: &Who) -> Result<u32> {
        let now = self.now();
        let (fullchain, key) = self_signed(&certificate.identifiers, now)
            .map_err(|why| Error::internal("CERTIFICATE_UNUSABLE", why))?;
        self.adopt(certificate, (fullchain, key), (CertificateOrigin::SelfSigned, ""), who).await
    }

    /// Writes a chain and its key as a new generation; its number.
    pub(super) async fn adopt(
        &self,
        certificate: &Certificate,
        (fullchain, key): (Vec<u8>, Vec<u8>),
        (origin, ca): (CertificateOrigin, &str),
        who: &Who,
    ) -> Result<u32> {
        let name = certificate.name.clone();
        let number = self.reserve(&name).await?;
        let chain = material::chain(&fullchain).map_err(unusable)?;
        let leaf = material::leaf(&chain[0]).map_err(unusable)?;
        let record = material::record((&name, number), &leaf, (origin, ca), self.now());
        let (folder, written) = (self.folder(&name), record.clone());
        blocking(move || folder.install((&fullchain, &key), &written)).await?;
        let kind = match origin {
            CertificateOrigin::SelfSigned => "self-signed",
            CertificateOrigin::Backup => "backup-taken",
            _ => "imported",
        };
        let event = Event {
            kind,
            generation: number,
            identifiers: record.identifiers.clone(),
            detail: format!("until {}, sha256 {}", record.not_after, &record.fingerprint[..16]),
            ..Event::default()
        };
        self.change(&name, who, event, move |_| vec![record]).await?;
        Ok(number)
    }

    /// A number for a new generation, which no other has or gets.
    pub(super) async fn reserve(&self, name: &str) -> Result<u32> {
        let folder = self.folder(name);
        let others = blocking(move || folder.greatest()).await?;
        let name = name.to_owned();
        self.state.bookkeep(move |books| Ok(books.certificates().reserve(&name, others)?)).await
    }
}

/// What is said of a generation that came into service, and whether it was seen.
pub(super) fn said(number: u32, deployed: &Deployed) -> (String, bool) {
    let how = match deployed.seen {
        Some(true) => "served",
        Some(false) => "not served",
        None => "in force, not looked at",
    };
    (format!("generation {number} {how}"), deployed.seen != Some(false))
}

pub(super) fn unusable(why: String) -> Error {
    Error::refused("CERTIFICATE_UNUSABLE", why, Vec::new())
}

pub(super) fn disk_failed(why: String) -> Error {
    Error::internal("CERTIFICATE_DISK_FAILED", why)
}

/// Runs what may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(f).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            Err(disk_failed("the generation can't be written".into()).caused_by(error))
        }
        Err(error) => {
            Err(Error::internal("CERTIFICATE_DISK_FAILED", "the work was cut off").caused_by(error))
        }
    }
}

/// A certificate in PEM that signs itself, and its key.
fn self_signed(identifiers: &[String], now: Timestamp) -> Result<(Vec<u8>, Vec<u8>), String> {
    let made = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::new(identifiers.to_vec())?;
        let time = |at: Timestamp| {
            time::OffsetDateTime::from_unix_timestamp(at.as_second())
                .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
        };
        params.not_before = time(plan::minus(now, Duration::from_secs(60)));
        params.not_after = time(plan::plus(now, plan::SELF_SIGNED_LIFE));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "GENESIS self-signed, not trusted");
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok((certificate.pem().into_bytes(), key.serialize_pem().into_bytes()))
    };
    made().map_err(|error| format!("a self-signed certificate can't be made: {error}"))
}

/// A generation that is in the record and whose issuance was asked for by somebody.
pub(super) fn issued(mut record: GenerationRecord, forced: bool) -> GenerationRecord {
    record.forced = forced;
    record
}
