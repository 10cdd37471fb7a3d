//! Parse, call, convert: the fleet over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::fleet_service_server::FleetService;
use tonic::{Request, Response, Status};

use super::emergency::FleetEmergency;
use super::locks::LockView;
use super::members::{HostView, Member};
use super::reach::Reach;
use super::{Fleet, Standing};
use crate::outside::coordinator::BUILT_IN;
use crate::server::convert::{duration, planned, time};
use crate::server::status::to_status;

impl Fleet {
    /// A domain of its own where a fleet is configured.
    pub fn domain_status(&self) -> Option<v1::DomainStatus> {
        let standing = self.standing();
        let finding = |code: &str, message: String| v1::Finding {
            code: code.into(),
            subject: self.config.name.clone(),
            message,
        };
        let (mut condition, mut findings) = (v1::Condition::Ok, Vec::new());
        let trouble = self.trouble();
        match standing {
            Standing::Alone => return None,
            Standing::Connected => {}
            Standing::Stale(age) => {
                condition = v1::Condition::Warn;
                let message = format!("etcd was not heard of for {} s: {trouble}", age.as_secs());
                findings.push(finding("FLEET_STALE", message));
            }
            Standing::Lost(age) => {
                condition = v1::Condition::Critical;
                let message = format!(
                    "etcd was not heard of for {} s: {trouble}; an emergency of the fleet does not reach this host",
                    age.as_secs()
                );
                findings.push(finding("FLEET_LOST", message));
            }
        }
        if let Some(why) = self.full() {
            condition = condition.max(v1::Condition::Warn);
            let message =
                format!("etcd takes no changes ({why}): make room there, or raise its quota");
            findings.push(finding("FLEET_FULL", message));
        }
        for twin in self.twins() {
            condition = v1::Condition::Critical;
            let message = format!("{twin} has the identity {} of this host", self.me.host_id);
            findings.push(finding("IDENTITY_TWICE", message));
        }
        if let Some((wrong, _)) = self.head_wrong() {
            condition = v1::Condition::Critical;
            findings.push(finding("FLEET_HEAD", wrong));
        }
        if self.emergency_untold() {
            condition = v1::Condition::Critical;
            let message = "the fleet has not been told of this host's emergency yet".to_owned();
            findings.push(finding("FLEET_UNTOLD", message));
        }
        Some(v1::DomainStatus {
            domain: "fleet".into(),
            condition: condition.into(),
            summary: format!("{} in fleet {}", standing.name(), self.config.name),
            findings,
        })
    }
}

/// The service over the fleet.
pub struct Service(pub Arc<Fleet>);

fn standing(standing: Standing) -> v1::FleetStanding {
    match standing {
        Standing::Alone => v1::FleetStanding::Alone,
        Standing::Connected => v1::FleetStanding::Connected,
        Standing::Stale(_) => v1::FleetStanding::Stale,
        Standing::Lost(_) => v1::FleetStanding::Lost,
    }
}

fn emergency(record: Option<FleetEmergency>) -> v1::FleetEmergency {
    let Some(record) = record else { return v1::FleetEmergency::default() };
    let active = record.active();
    let release = record.release;
    v1::FleetEmergency {
        active,
        epoch: record.epoch,
        since: Some(time(record.since)),
        activated_by: record.by,
        reason: record.reason,
        host: record.host,
        released_at: release.as_ref().map(|it| time(it.at)),
        released_by: release.as_ref().map(|it| it.by.clone()).unwrap_or_default(),
        release_reason: release.map(|it| it.reason).unwrap_or_default(),
    }
}

fn member(member: Member, alive: bool, twins: Vec<String>, me: &str) -> v1::FleetMember {
    let unreadable = member.stand.is_none();
    let stand = member.stand.filter(|_| alive).unwrap_or_default();
    v1::FleetMember {
        self_: member.session == me && alive,
        host_id: member.host_id,
        hostname: member.host,
        version: member.version,
        node: member.node,
        since: (!unreadable).then(|| time(member.since)),
        emergency: stand.emergency,
        fleet_epoch: stand.fleet_epoch,
        unreadable,
        alive,
        twins,
    }
}

fn host(view: HostView, me: &str) -> v1::FleetMember {
    member(view.member, view.alive > 0, view.twins, me)
}

fn lock(lock: LockView) -> v1::FleetLock {
    v1::FleetLock {
        name: lock.name,
        token: lock.token,
        hostname: lock.host,
        host_id: lock.host_id,
        run: lock.purpose,
        since: lock.since.map(time),
    }
}

/// How far an emergency has got.
pub fn reached(fleet: &Fleet, reach: Reach) -> v1::FleetReach {
    let me = &fleet.me().session;
    let members = reach.members.into_iter().map(|view| host(view, me)).collect();
    v1::FleetReach { told: reach.told, trouble: reach.trouble, members }
}

/// The answer of GetFleetStatus, also for HTTP.
pub fn status_response(fleet: &Fleet) -> v1::GetFleetStatusResponse {
    let (is, me) = (fleet.standing(), fleet.me());
    let (endpoint, revision, connections) = fleet.connection();
    v1::GetFleetStatusResponse {
        fleet: fleet.config().name.clone(),
        standing: standing(is).into(),
        age: is.age().map(duration),
        endpoint,
        trouble: if fleet.is_configured() { fleet.trouble() } else { String::new() },
        revision,
        lease: Some(duration(fleet.config().lease)),
        emergency: Some(match fleet.known_emergency() {
            Ok(known) => emergency(known),
            // What can't be read counts as one that is in force.
            Err(reason) => v1::FleetEmergency { active: true, reason, ..Default::default() },
        }),
        emergency_untold: fleet.emergency_untold(),
        twins: fleet.twins(),
        host_id: me.host_id.clone(),
        hostname: me.host.clone(),
        node: me.node.clone(),
        built_in: BUILT_IN,
        connections,
    }
}

#[tonic::async_trait]
impl FleetService for Service {
    async fn get_fleet_status(
        &self,
        _: Request<v1::GetFleetStatusRequest>,
    ) -> Result<Response<v1::GetFleetStatusResponse>, Status> {
        Ok(Response::new(status_response(&self.0)))
    }

    async fn list_fleet_members(
        &self,
        _: Request<v1::ListFleetMembersRequest>,
    ) -> Result<Response<v1::ListFleetMembersResponse>, Status> {
        let me = &self.0.me().session;
        let hosts = self.0.hosts().await.map_err(to_status)?;
        let members = hosts.into_iter().map(|view| host(view, me)).collect();
        Ok(Response::new(v1::ListFleetMembersResponse { members }))
    }

    async fn list_fleet_locks(
        &self,
        _: Request<v1::ListFleetLocksRequest>,
    ) -> Result<Response<v1::ListFleetLocksResponse>, Status> {
        let locks = self.0.locks().await.map_err(to_status)?;
        let locks = locks.into_iter().map(lock).collect();
        Ok(Response::new(v1::ListFleetLocksResponse { locks }))
    }

    async fn forget_fleet_member(
        &self,
        request: Request<v1::ForgetFleetMemberRequest>,
    ) -> Result<Response<v1::ForgetFleetMemberResponse>, Status> {
        let v1::ForgetFleetMemberRequest { host, plan_hash } = request.into_inner();
        let gone = self.0.forget(&host, &plan_hash).await.map_err(to_status)?;
        let gone = member(gone, false, Vec::new(), "");
        Ok(Response::new(v1::ForgetFleetMemberResponse { member: Some(gone) }))
    }

    async fn plan_forget_fleet_member(
        &self,
        request: Request<v1::ForgetFleetMemberRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_forget(&request.get_ref().host).await)
    }
}
