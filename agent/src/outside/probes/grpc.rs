//! Whether a service is well by its own account: the health protocol of gRPC (grpc.health.v1).

use std::path::Path;

use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::channel::{Authorities, connect};
use super::net::{answered, down};
use super::{Outcome, bare};
use crate::outside::Clock;
use crate::outside::dial::{Failure, Resolver};

/// An answer is a number.
const ANSWER_LIMIT: usize = 4 << 10;

/// Milliseconds until `service` at `target` says that it serves.
///
/// # Errors
/// Why it can't be told, in words; that it does not serve is an answer.
pub(super) async fn health(
    clock: &dyn Clock,
    resolver: &Resolver,
    authorities: &Authorities,
    target: &str,
    service: &str,
    ca: Option<&Path>,
) -> Outcome {
    let shown = match service {
        "" => bare(target),
        service => format!("{service} at {}", bare(target)),
    };
    let roots = match target.starts_with("https://") {
        true => match authorities.trusted(ca).await {
            Ok(roots) => Some(roots),
            Err(why) => return down(Failure::Unknown(why), &shown),
        },
        false => None,
    };
    let began = clock.monotonic();
    let serves = match connect(resolver, target, roots).await {
        Ok(channel) => ask(channel, service).await,
        Err(failure) => Err(failure),
    };
    let took = clock.monotonic().saturating_sub(began);
    match serves {
        Ok(()) => Ok(answered(took, &format!("{shown} serves"))),
        Err(failure) => down(failure, &shown),
    }
}

/// Asks once; `Ok` when the service serves.
async fn ask(channel: Channel, service: &str) -> Result<(), Failure> {
    let mut client = HealthClient::new(channel).max_decoding_message_size(ANSWER_LIMIT);
    let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
    let status = match answer {
        Ok(answer) => answer.into_inner().status(),
        Err(status) => {
            let why = format!("{:?}: {}", status.code(), status.message());
            return Err(match status.code() {
                // These are about the question. Nothing gets better by acting on who was asked.
                Code::NotFound => Failure::Unknown("the server knows no such service".to_owned()),
                Code::Unimplemented => {
                    Failure::Unknown("the server does not tell health".to_owned())
                }
                Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
                    Failure::Unknown(why)
                }
                _ => Failure::Down(why),
            });
        }
    };
    let said = format!("the server says {}", status.as_str_name());
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::NotServing => Err(Failure::Down(said)),
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => Err(Failure::Unknown(said)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener};
    use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
    use tonic::transport::{Identity, Server, ServerTlsConfig};

    use super::*;
    use crate::outside::SystemClock;

    async fn check(target: &str, service: &str, ca: Option<&Path>) -> Outcome {
        let authorities = Authorities::default();
        health(&SystemClock::new(), &Resolver::default(), &authorities, target, service, ca).await
    }

    /// A server with a service that serves, and one that does not.
    async fn serve(tls: Option<ServerTlsConfig>, unix: &Path) -> u16 {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("good", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("bad", tonic_health::ServingStatus::NotServing).await;
        reporter.set_service_status("shy", tonic_health::ServingStatus::Unknown).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = server.add_service(health);
        let local = UnixListenerStream::new(UnixListener::bind(unix).unwrap());
        tokio::spawn(router.clone().serve_with_incoming(local));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        port
    }

    #[tokio::test]
    async fn who_serves_answers_and_who_does_not_is_down() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let port = serve(None, &socket).await;
        let places = [
            format!("http://127.0.0.1:{port}"),
            format!("http://localhost:{port}"),
            format!("unix:{}", socket.display()),
            format!("unix://{}", socket.display()),
        ];
        for target in &places {
            for service in ["", "good"] {
                let measured = check(target, service, None).await.unwrap();
                assert!(measured.value.is_finite() && measured.value > 0.0, "{measured:?}");
                assert!(measured.detail.contains("serves"), "{measured:?}");
            }
            let measured = check(target, "bad", None).await.unwrap();
            assert_eq!(measured.value, f64::INFINITY);
            assert!(measured.detail.contains("bad at "), "{measured:?}");
            assert!(measured.detail.contains(" says NOT_SERVING"), "{measured:?}");
            let unknown = check(target, "other", None).await.unwrap_err();
            assert!(unknown.contains("no such service"), "{unknown}");
            assert!(check(target, "shy", None).await.unwrap_err().contains("UNKNOWN"));
        }
    }

    #[tokio::test]
    async fn nobody_is_down_and_what_can_t_be_asked_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], crate::outside::ports::free_port()));
        let nothing = format!("unix:{}/none", folder.path().display());
        for target in [format!("http://{free}"), nothing] {
            let measured = check(&target, "", None).await.unwrap();
            assert_eq!(measured.value, f64::INFINITY, "{measured:?}");
        }
        let unresolved = format!("http://{}:1", "x".repeat(64));
        for (target, why) in [
            (unresolved.as_str(), "can't resolve"),
            ("http://localhost", "names no port"),
            ("localhost:1", "none of http://"),
            ("http://a b:1", "no URL"),
        ] {
            let said = check(target, "", None).await.unwrap_err();
            assert!(said.contains(why), "{target}: {said}");
        }
        // Somebody who speaks HTTP, but not gRPC.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
        let said = check(&target, "", None).await.unwrap_err();
        assert!(said.contains("does not tell health"), "{said}");
    }

    #[tokio::test]
    async fn only_a_server_that_its_authority_vouches_for_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let path = folder.path().join(name);
            std::fs::write(&path, made.cert.pem()).unwrap();
            (made, path)
        };
        let ((own, ours), (_, theirs)) = (made("ours"), made("theirs"));
        let identity = Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem());
        let tls = ServerTlsConfig::new().identity(identity);
        let port = serve(Some(tls), &folder.path().join("socket")).await;
        let target = format!("https://localhost:{port}");
        let measured = check(&target, "good", Some(&ours)).await.unwrap();
        assert!(measured.value.is_finite(), "{measured:?}");
        let measured = check(&target, "good", Some(&theirs)).await.unwrap();
        assert_eq!(measured.value, f64::INFINITY);
        assert!(measured.detail.contains("certificate"), "{measured:?}");
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "x").unwrap();
        for (ca, why) in [(empty.as_path(), "no certificate"), (Path::new("/none"), "can't read")] {
            let said = check(&target, "good", Some(ca)).await.unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        // The host's own authorities do not know it, or there are none.
        match check(&target, "good", None).await {
            Ok(measured) => assert_eq!(measured.value, f64::INFINITY),
            Err(why) => assert!(why.contains("can't be asked"), "{why}"),
        }
        let plain = check(&format!("http://localhost:{port}"), "good", None).await.unwrap();
        assert_eq!(plain.value, f64::INFINITY);
    }
}
