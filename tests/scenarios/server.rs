//! What a foreign gRPC client finds: health, reflection, error details, limits.

use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_proto::v1::logs_service_client::LogsServiceClient;
use genesis_proto::v1::{
    CheckConfigRequest, GetVersionRequest, RetrieveLogsRequest, RotateLogsRequest,
};
use genesis_tests::TestAgent;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

fn agent() -> TestAgent {
    TestAgent::started(|_| {
        "[listen]\nhttp = \"127.0.0.1:0\"\nplaintext_grpc = \"127.0.0.1:0\"\n".to_owned()
    })
}

async fn connect(agent: &TestAgent) -> Channel {
    Endpoint::from_shared(format!("http://{}", agent.plaintext())).unwrap().connect().await.unwrap()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test]
async fn health_is_told_for_each_service() {
    let agent = agent();
    let mut health = HealthClient::new(connect(&agent).await);
    for service in
        ["", "genesis.v1.AgentService", "genesis.v1.LogsService", "genesis.v1.OplogService"]
    {
        let answer = health
            .check(HealthCheckRequest { service: service.into() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health
        .check(HealthCheckRequest { service: "genesis.v1.Nothing".into() })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

/// The services that a version of reflection lists.
macro_rules! listed {
    ($version:ident, $agent:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

        let mut reflection = ServerReflectionClient::new(connect($agent).await);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = reflection.server_reflection_info(tokio_stream::once(request)).await;
        let answer = asked.unwrap().into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
            panic!("{answer:?}");
        };
        listed.service.into_iter().map(|service| service.name).collect::<Vec<String>>()
    }};
}

#[tokio::test]
async fn reflection_lists_every_service_of_the_contract_in_both_versions() {
    let agent = agent();
    for names in [listed!(v1, &agent), listed!(v1alpha, &agent)] {
        for path in genesis_proto::method_policies().keys() {
            let service = path.trim_start_matches('/').split('/').next().unwrap();
            assert!(names.iter().any(|name| name == service), "{service} is not among {names:?}");
        }
        assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");
    }
}

#[tokio::test]
async fn errors_carry_their_code_as_details() {
    let agent = agent();
    let mut logs = LogsServiceClient::new(connect(&agent).await);
    let request = RetrieveLogsRequest {
        log_type: "agent".into(),
        date_range: "soon".into(),
        plan_only: false,
        host: String::new(),
    };
    let status = logs.retrieve_logs(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "RANGE_INVALID"));
    let denied = logs.rotate_logs(RotateLogsRequest::default()).await.unwrap_err();
    assert_eq!((denied.code(), reason(&denied).as_str()), (Code::PermissionDenied, "ROLE_MISSING"));
    // The client brings its own runtime, so it needs a thread of its own.
    let list = || agent.ctl(&["oplog", "list", "-o", "json"]).ok().json().to_string();
    let entries = std::thread::scope(|scope| scope.spawn(list).join()).unwrap();
    assert!(
        entries.contains("call /genesis.v1.LogsService/RotateLogs")
            && entries.contains("ROLE_MISSING"),
        "{entries}"
    );
}

#[tokio::test]
async fn an_oversized_message_is_refused_and_the_next_call_is_answered() {
    let agent = agent();
    let mut client = AgentServiceClient::new(connect(&agent).await);
    let toml = "#".repeat(64 << 20);
    let status = client.check_config(CheckConfigRequest { toml: Some(toml) }).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted | Code::Unknown),
        "{status:?}"
    );
    let mut fresh = AgentServiceClient::new(connect(&agent).await);
    fresh.get_version(GetVersionRequest {}).await.unwrap();
}

#[tokio::test]
async fn an_rpc_that_is_not_in_the_contract_is_denied() {
    let agent = agent();
    let mut client = tonic::client::Grpc::new(connect(&agent).await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<GetVersionRequest, GetVersionRequest>::default();
    let path = http::uri::PathAndQuery::from_static("/genesis.v1.AgentService/Shutdown");
    let status =
        client.unary(tonic::Request::new(GetVersionRequest {}), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}
