//! What the fake agent knows of its fleet.

use genesis_client::v1::fleet_service_server::FleetService;
use genesis_client::v1::*;
use tonic::{Request, Response};

use super::{Answer, Inner, changed, refusal};

impl Inner {
    fn of_fleet(&self) -> Result<(), tonic::Status> {
        let why = self.script.fleet_refusal;
        match why.is_empty() {
            true => Ok(()),
            false => Err(refusal(tonic::Code::FailedPrecondition, why, "etcd is away")),
        }
    }
}

#[tonic::async_trait]
impl FleetService for Inner {
    async fn get_fleet_status(
        &self,
        request: Request<GetFleetStatusRequest>,
    ) -> Answer<GetFleetStatusResponse> {
        self.called("GetFleetStatus", "", &request).await?;
        let mut fleet = self.script.fleet.clone();
        if fleet.standing() == FleetStanding::Unspecified {
            fleet.set_standing(FleetStanding::Alone);
        }
        Ok(Response::new(fleet))
    }

    async fn list_fleet_members(
        &self,
        request: Request<ListFleetMembersRequest>,
    ) -> Answer<ListFleetMembersResponse> {
        self.called("ListFleetMembers", "", &request).await?;
        self.of_fleet()?;
        Ok(Response::new(ListFleetMembersResponse { members: self.script.members.clone() }))
    }

    async fn list_fleet_locks(
        &self,
        request: Request<ListFleetLocksRequest>,
    ) -> Answer<ListFleetLocksResponse> {
        self.called("ListFleetLocks", "", &request).await?;
        self.of_fleet()?;
        Ok(Response::new(ListFleetLocksResponse { locks: self.script.locks.clone() }))
    }

    async fn forget_fleet_member(
        &self,
        request: Request<ForgetFleetMemberRequest>,
    ) -> Answer<ForgetFleetMemberResponse> {
        let ForgetFleetMemberRequest { host, plan_hash } = request.get_ref().clone();
        self.called("ForgetFleetMember", format!("{host} {plan_hash}").trim(), &request).await?;
        changed(&plan_hash)?;
        let member = self.script.members.iter().find(|it| it.hostname == host).cloned();
        Ok(Response::new(ForgetFleetMemberResponse { member }))
    }

    async fn plan_forget_fleet_member(
        &self,
        request: Request<ForgetFleetMemberRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanForgetFleetMember", &request).await
    }
}
