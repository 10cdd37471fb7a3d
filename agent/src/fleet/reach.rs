//! How far an emergency of the fleet has got: every member tells how it stands.

use std::time::Duration;

use super::Fleet;
use super::emergency::FleetEmergency;
use super::members::HostView;

/// So long it is waited until all members have told.
const WAIT: Duration = Duration::from_secs(2);
/// How often they are looked at meanwhile.
const PACE: Duration = Duration::from_millis(50);

/// How far it has got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The fleet's record says so.
    pub told: bool,
    /// Why not, or why the members could not be asked.
    pub trouble: String,
    /// Every member. What is not heard of any more may live all the same, with or without an emergency.
    pub members: Vec<HostView>,
}

impl Fleet {
    /// Waits until every member that is heard of has an emergency in force, or has none, and the fleet's record says the same; for
    /// two seconds at most.
    pub async fn reach(&self, emergency: bool) -> Reach {
        let until = self.clock.monotonic() + WAIT;
        let mut reach = Reach::default();
        loop {
            let looked = tokio::select! {
                // The time is up also where every answer is there at once.
                biased;
                // What was told last stands.
                () = self.clock.sleep(until.saturating_sub(self.clock.monotonic())) => {
                    if reach.members.is_empty() && reach.trouble.is_empty() {
                        reach.trouble = "the members could not be asked in time".to_owned();
                    }
                    return reach;
                }
                hosts = self.hosts() => hosts.map_err(|error| error.message),
            };
            reach = match looked {
                Ok(members) => {
                    // A record that can't be read says neither.
                    let (told, trouble) = match self.known_emergency() {
                        Ok(known) => {
                            let active = known.as_ref().is_some_and(FleetEmergency::active);
                            (active == emergency, self.trouble())
                        }
                        Err(why) => (false, why),
                    };
                    Reach { told, trouble, members }
                }
                Err(trouble) => Reach { told: false, trouble, members: Vec::new() },
            };
            let alive = reach.members.iter().filter(|host| host.alive > 0);
            let said = |host: &HostView| host.member.stand.as_ref().map(|stand| stand.emergency);
            let all = alive.clone().all(|host| said(host) == Some(emergency));
            if reach.told && all && alive.count() > 0 {
                return reach;
            }
            self.clock.sleep(PACE).await;
        }
    }
}
