//! Certificates as components that can be rolled back: by the verb that people go back with.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{CertificateEventRecord, GenerationRecord};
use jiff::Timestamp;

use super::view::{Life, origin};
use super::{Certificates, Standing};
use crate::error::{Error, Result};
use crate::plan::PlanStep;
use crate::runs::rollback::choose::{Move, selected};
use crate::runs::rollback::{
    Applied, Brief, Family, Health, Order, Point, Rollback, Stay, Way, diff,
};

/// The managed certificates.
pub struct CertificateFamily(pub Arc<Certificates>);

#[async_trait]
impl Family for CertificateFamily {
    fn family(&self) -> &'static str {
        "certificate"
    }

    async fn names(&self) -> Result<Vec<String>> {
        let config = self.0.config.load();
        Ok(config.certificates.iter().map(|it| it.name.clone()).collect())
    }

    async fn has(&self, name: &str) -> Result<bool> {
        Ok(self.0.config.load().certificates.iter().any(|it| it.name == name))
    }

    fn member(&self, name: &str) -> Arc<dyn Rollback> {
        Arc::new(Component { certificates: Arc::clone(&self.0), name: name.to_owned() })
    }
}

struct Component {
    certificates: Arc<Certificates>,
    name: String,
}

/// The generations that came into force, the oldest first.
fn moves(events: &[CertificateEventRecord]) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for event in events.iter().rev() {
        let back = event.kind == "rolled-back";
        let to = u64::from(event.generation);
        // One that is deployed anew, since a copy was changed, was in force all the time.
        let again = moves.last().is_some_and(|last| last.to == to);
        if (back || event.kind == "deployed") && !again {
            moves.push(Move { at: event.at, to, back });
        }
    }
    moves
}

impl Component {
    fn standing(&self) -> Result<Standing> {
        self.certificates.standing(&self.name)
    }

    fn number(&self, point: &Point) -> Result<u32> {
        point.id.parse().map_err(|_| {
            let message = format!("{} has no generation {:?}", self.name, point.id);
            Error::not_found("POINT_NOT_FOUND", message)
        })
    }

    fn generation(&self, point: &Point) -> Result<GenerationRecord> {
        let number = self.number(point)?;
        self.standing()?.generation(number).cloned().ok_or_else(|| {
            let message = format!("generation {number} of {} is gone", self.name);
            Error::not_found("POINT_NOT_FOUND", message)
        })
    }

    fn point(&self, record: &GenerationRecord, stays: Vec<Stay>, unfit: String) -> Point {
        let from = match record.ca.as_str() {
            "" => String::new(),
            ca => format!(" from {ca}"),
        };
        Point {
            id: record.number.to_string(),
            at: record.created_at,
            by: String::new(),
            description: format!("{}{from}, until {:.0}", origin(record.origin), record.not_after),
            digest: record.fingerprint.clone(),
            stays,
            restores: None,
            unfit,
        }
    }
}

#[async_trait]
impl Rollback for Component {
    async fn points(&self) -> Result<Vec<Point>> {
        let certificate = self.certificates.named(&self.name)?;
        let standing = self.standing()?;
        let events = self.certificates.history(&self.name, usize::MAX)?;
        let mut stays = selected(&moves(&events));
        let mut newer: Option<Timestamp> = None;
        let mut points = Vec::new();
        for record in &standing.generations {
            let known = stays.remove(&u64::from(record.number));
            // What happened is kept for a while only. One that was served was in force until the next came.
            let known = known.unwrap_or_else(|| match record.proven_at {
                Some(_) => vec![Stay { from: record.created_at, until: newer, left: false }],
                None => Vec::new(),
            });
            newer = Some(record.created_at);
            let unfit = self.certificates.may_serve(&certificate, record).err().unwrap_or_default();
            points.push(self.point(record, known, unfit));
        }
        Ok(points)
    }

    async fn current(&self) -> Result<Option<Point>> {
        let standing = self.standing()?;
        Ok(standing.current().map(|it| self.point(it, Vec::new(), String::new())))
    }

    async fn brief(&self) -> Result<Brief> {
        let certificate = self.certificates.named(&self.name)?;
        let view = self.certificates.view(&certificate)?;
        let current = view.standing.current().map(|it| self.point(it, Vec::new(), String::new()));
        let (in_force, names, now) =
            (view.standing.current(), &certificate.identifiers, self.certificates.now());
        let fit = in_force.map(|it| super::plan::usable(it, names, now));
        let truth = view.served.as_ref().and_then(|it| it.truth(in_force));
        let summary = view.summary.clone();
        let (health, why) = match (view.life, fit, truth) {
            (Life::Absent | Life::SelfSigned, ..) | (_, None, _) => (Health::Bad, summary),
            (_, Some(Err(why)), _) => (Health::Bad, why),
            (_, _, Some(false)) => (Health::Bad, format!("another one is served; {summary}")),
            (_, _, Some(true)) => (Health::Good, summary),
            (_, _, None) => (Health::Unknown, format!("what is served is not seen; {summary}")),
        };
        let record = &view.standing.record;
        let by = match &record.pin {
            Some(pin) => pin.by.clone(),
            None => "system:certificates".to_owned(),
        };
        let changed = record.deployed_at.map(|at| (at, by));
        Ok(Brief { current, points: view.standing.generations.len(), health, why, changed })
    }

    async fn diff(&self, way: Way<'_>) -> Result<String> {
        let (from, to) = (self.generation(way.from)?, self.generation(way.to)?);
        let times = [&from, &to].map(|it| (it.not_before.to_string(), it.not_after.to_string()));
        let names = [&from, &to].map(|it| it.identifiers.join(", "));
        Ok(diff::values(&[
            ("generation", &way.from.id, &way.to.id),
            ("serial", &from.serial, &to.serial),
            ("fingerprint", &from.fingerprint, &to.fingerprint),
            ("issuer", &from.issuer, &to.issuer),
            ("identifiers", &names[0], &names[1]),
            ("not before", &times[0].0, &times[1].0),
            ("not after", &times[0].1, &times[1].1),
        ]))
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        Ok(self.certificates.plan_rollback(&self.name, self.number(way.to)?)?.steps)
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let who = (order.by.clone(), order.reason.clone());
        self.certificates.roll_back(&self.name, (self.number(to)?, ""), who).await?;
        Ok(Applied::default())
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        let certificate = self.certificates.named(&self.name)?;
        let wanted = self.generation(to)?;
        let standing = self.standing()?;
        let not_proven = |why: String| Err(Error::internal("ROLLBACK_NOT_PROVEN", why));
        if standing.record.generation != wanted.number {
            let now = standing.record.generation;
            return not_proven(format!("generation {now} of {} is in force", self.name));
        }
        // The files themselves, as whoever serves them reads them.
        self.certificates.read_back(&certificate, &wanted)?;
        let (chain, _) = Certificates::files_of(&self.certificates.home, &self.name);
        let led = chain.parent().and_then(|it| it.canonicalize().ok());
        let folder = self.certificates.folder(&self.name).generation(wanted.number);
        if led.is_none() || led != folder.canonicalize().ok() {
            return not_proven(format!("{} does not lead to it", chain.display()));
        }
        let served = self.certificates.look_at(&certificate).await;
        Ok(format!(
            "{} is generation {}; {}",
            chain.display(),
            to.id,
            served.evidence(Some(&wanted))
        ))
    }
}
