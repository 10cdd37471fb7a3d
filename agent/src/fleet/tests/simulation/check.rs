//! What must be so: at each moment, and once all is well again. A panic of this file is a promise that was broken.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_storage::EmergencyRecord;
use serde_json::Value;

use super::world::{Agent, Host, LEASE, World};
use crate::fleet::Standing;
use crate::fleet::emergency::FleetEmergency;
use crate::outside::coordinator::Entry;

/// An emergency of the fleet that a host has heard of is in force there after so long, whatever call hangs.
const HEARD: Duration = Duration::from_secs(25);
/// A host from which nothing gets through says so after so long, beside what silence may last: one call may hang, and what
/// had come before may be read late.
const HANGS: Duration = Duration::from_secs(14);
/// After so much time everything agrees, once all is well: the longest call and the longest pause between two tries, several
/// times.
pub(super) const SETTLES: Duration = Duration::from_secs(90);

fn value(entry: &Entry) -> Value {
    serde_json::from_slice(&entry.value).unwrap_or_default()
}

impl World {
    /// Looks at all hosts.
    pub(super) fn check(&self) {
        for (number, host) in self.hosts.iter().enumerate() {
            if self.sim.is_frozen(number) {
                host.seen().still = self.sim.now();
            }
            let agent = host.seen().agent.clone();
            let Some(agent) = agent else { continue };
            self.check_mirror(number, &agent);
            self.check_emergency(number, &agent);
            self.check_standing(number, &agent);
            let wrong = agent.fleet.head_wrong();
            assert!(wrong.is_none(), "the log of host {number} is doubted: {wrong:?}");
        }
        self.book().excludes();
    }

    /// What a host knows to be common at a revision was so then: nothing was left out, nothing came twice.
    fn check_mirror(&self, number: usize, agent: &Agent) {
        let (_, revision, _) = agent.fleet.connection();
        let mut seen = self.hosts[number].seen();
        // 0: it has to list everything anew.
        if revision == 0 || std::mem::replace(&mut seen.revision, revision) == revision {
            return;
        }
        let mut known: Vec<Entry> = Vec::new();
        agent.fleet.each_common(&self.keys.common(), |entry| known.push(entry.clone()));
        self.book().mirrors(number, revision, &known);
    }

    fn check_emergency(&self, number: usize, agent: &Agent) {
        let now = agent.emergency.current();
        let known = agent.fleet.known_emergency();
        let mut seen = self.hosts[number].seen();
        let before = std::mem::replace(&mut seen.emergency, now.clone());
        if before != now {
            self.sim.note(&format!("host {number}: {}", shown(now.as_ref())));
        }
        let was = before.as_ref().filter(|it| it.active());
        let is = now.as_ref().filter(|it| it.active());
        match (was, is, &now) {
            (Some(_), None, Some(over)) => self.book().ended(number, over),
            (Some(_), None, None) => panic!("host {number} forgets its emergency"),
            (Some(was), Some(is), _) if was.epoch != is.epoch => {
                self.book().replaced(number);
                self.book().came(number, is);
            }
            (None, Some(is), _) => self.book().came(number, is),
            _ => {}
        }
        let heard = known.map_or(true, |known| known.is_some_and(|it| it.active()));
        let at = self.sim.now();
        let behind = heard && is.is_none() && !self.sim.is_frozen(number);
        seen.behind = seen.behind.or(Some(at)).filter(|_| behind);
        let long = seen.behind.map_or(Duration::ZERO, |since| at - since);
        assert!(long < HEARD, "host {number} knows of an emergency that is not in force there");
    }

    /// A host from which nothing gets through does not count itself as connected.
    fn check_standing(&self, number: usize, agent: &Agent) {
        let host = &self.hosts[number];
        let Some(since) = host.network.cut_off() else { return };
        let silent = self.sim.now() - since.max(host.seen().still);
        let standing = agent.fleet.standing();
        if silent > HANGS + crate::fleet::standing::STALE_AFTER {
            assert_ne!(standing, Standing::Connected, "host {number} is cut off for {silent:?}");
        }
        if silent > HANGS + LEASE {
            let lost = matches!(standing, Standing::Lost(_));
            assert!(lost, "host {number} is cut off for {silent:?}, and {}", standing.name());
        }
    }

    fn agents(&self) -> Result<Vec<(&Host, Agent)>, String> {
        let of = |host| {
            let agent = Host::seen(host).agent.clone();
            agent.map(|agent| (host, agent)).ok_or_else(|| format!("{} is not up", host.name))
        };
        self.hosts.iter().map(of).collect()
    }

    /// The fleet's emergency, if it is in force.
    pub(super) fn fleets_emergency(&self) -> Option<FleetEmergency> {
        let entries = self.etcd.under(&self.keys.emergency());
        let known: Option<FleetEmergency> =
            entries.first().and_then(|it| serde_json::from_slice(&it.value).ok());
        known.filter(FleetEmergency::active)
    }

    /// Whether all hosts agree with etcd, and so with each other.
    ///
    /// # Errors
    /// On what they don't.
    pub(super) fn agree(&self) -> Result<(), String> {
        let fleet = self.fleets_emergency();
        let common = self.common();
        let mut sessions = BTreeMap::new();
        for (number, (host, agent)) in self.agents()?.into_iter().enumerate() {
            let (name, standing) = (&host.name, agent.fleet.standing());
            if standing != Standing::Connected || !agent.fleet.is_open() {
                return Err(format!("{name} is {}: {}", standing.name(), agent.fleet.trouble()));
            }
            let mut known = Vec::new();
            agent.fleet.each_common(&self.keys.common(), |entry| known.push(entry.clone()));
            if known != common {
                return Err(format!("{name} has not heard of everything"));
            }
            let record = agent.emergency.current().filter(EmergencyRecord::active);
            self.agrees(number, record.as_ref(), fleet.as_ref())?;
            let mark = record.as_ref().and_then(|it| it.fleet).filter(|mark| mark.told);
            let stand = (record.is_some(), mark.map_or(0, |mark| mark.epoch));
            sessions.insert(self.keys.session(&host.id(), &host.session()), stand);
        }
        let there: BTreeMap<String, (bool, u64)> = self
            .etcd
            .under(&self.keys.members())
            .iter()
            .map(|entry| {
                let told = value(entry);
                let stand = &told["stand"];
                let emergency = stand["emergency"].as_bool().unwrap_or(false);
                (entry.key.clone(), (emergency, stand["fleet_epoch"].as_u64().unwrap_or(0)))
            })
            .collect();
        if there != sessions {
            return Err(format!("the members are {there:?} and not {sessions:?}"));
        }
        self.book().all_told()
    }

    /// An emergency anywhere is in force on every host, and what is over is over.
    fn agrees(
        &self,
        number: usize,
        record: Option<&EmergencyRecord>,
        fleet: Option<&FleetEmergency>,
    ) -> Result<(), String> {
        let mark = record.and_then(|it| it.fleet);
        let fault = match (fleet, record, mark) {
            (Some(fleet), _, Some(mark)) if mark.told && mark.epoch == fleet.epoch => return Ok(()),
            (Some(_), ..) => "has not what the fleet has",
            (None, _, Some(mark)) if !mark.told => "has not told the fleet",
            (None, _, Some(mark)) if mark.only => "has not ended what was the fleet's",
            (None, Some(_), _) if self.book().is_of_fleet(number) => {
                "has kept what was the fleet's"
            }
            (None, ..) => return Ok(()),
        };
        Err(format!("host {number} {fault}: {}; {fleet:?}", shown(record)))
    }

    /// Whether values, matrices and locks are what they are to be, where no emergency is in force anywhere.
    ///
    /// # Errors
    /// Which of them is not.
    pub(super) fn agree_in_peace(&self) -> Result<(), String> {
        self.agree()?;
        let parameters = self.etcd.under(&self.keys.parameters());
        let pointer = self.etcd.under(&self.keys.matrix());
        let digest = pointer.first().map(|it| value(it)["current"]["digest"].clone());
        let number = pointer.first().and_then(|it| value(it)["current"]["number"].as_u64());
        for (host, agent) in self.agents()? {
            let name = &host.name;
            if agent.emergency.active() {
                return Err(format!("an emergency is in force on {name}"));
            }
            for parameter in &parameters {
                let wanted = value(parameter);
                let here = agent.experiments.parameters("mm").unwrap_or_default();
                let here = here.iter().find(|(it, _)| wanted["name"] == it.name.as_str());
                if here.is_none_or(|(it, _)| wanted["value"] != it.value.as_str()) {
                    return Err(format!("{name} has {here:?} and not {wanted}"));
                }
            }
            let follows = agent.matrices.config().sharing
                == crate::operations::matrices::sharing::Sharing::Follow;
            let serving = agent.matrices.serving();
            let served = serving.active().map(|it| Value::from(it.digest.clone()));
            if follows && served != digest {
                return Err(format!("{name} has the matrix {served:?} and not {digest:?}"));
            }
            let said = self.etcd.under(&self.keys.matrix_ack(&host.id()));
            let said = said.first().map(value).unwrap_or_default();
            let says = (said["number"].as_u64(), said["state"].as_str());
            if follows && number.is_some() && says != (number, Some("in-force")) {
                return Err(format!("{name} says of matrix {number:?}: {said}"));
            }
            if !agent.fleet.twins().is_empty() {
                return Err(format!("{name} sees others under its identity"));
            }
        }
        let locks = self.etcd.under(&self.keys.locks());
        match locks.is_empty() {
            true => Ok(()),
            false => Err(format!("these locks stay: {locks:?}")),
        }
    }
}

fn shown(record: Option<&EmergencyRecord>) -> String {
    let Some(record) = record else { return "no emergency".to_owned() };
    let over = record.release.as_ref();
    let over = over.map_or_else(String::new, |it| format!(", over by {}: {}", it.by, it.reason));
    let (epoch, by, mark) = (record.epoch, &record.activated_by, record.fleet);
    format!("emergency {epoch} by {by}: {} {mark:?}{over}", record.reason)
}
