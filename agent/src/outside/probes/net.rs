//! Whether somebody answers: TCP and HTTP.

use std::time::Duration;

use super::{Measured, Outcome, bare};
use crate::outside::Clock;
use crate::outside::dial::{Failure, Resolver};
use crate::outside::web::Web;

/// Milliseconds until a connection to `address` stands.
///
/// # Errors
/// Why it can't be told, in words; that nobody takes it is an answer.
pub(super) async fn tcp(clock: &dyn Clock, resolver: &Resolver, address: &str) -> Outcome {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port: u16 = port.parse().map_err(|_| format!("{address:?} is no host:port"))?;
    let began = clock.monotonic();
    let connected = resolver.connect(host, port).await;
    let took = clock.monotonic().saturating_sub(began);
    match connected {
        Ok(_) => Ok(answered(took, &format!("{address} takes connections"))),
        Err(failure) => down(failure, address),
    }
}

/// Milliseconds until the head of the answer is there, if its status is the wanted one.
///
/// # Errors
/// Why it can't be told, in words; that nobody answers, or otherwise, is an answer.
pub(super) async fn http(clock: &dyn Clock, web: &Web, url: &str, wanted: Option<u16>) -> Outcome {
    let shown = bare(url);
    let began = clock.monotonic();
    let answer = web.get(url, &[], 0).await;
    let took = clock.monotonic().saturating_sub(began);
    match answer {
        Ok(answer) => {
            let status = answer.status;
            let good = wanted.map_or((200..300).contains(&status), |wanted| wanted == status);
            if good {
                return Ok(answered(took, &format!("{shown} answered {status}")));
            }
            let wanted = wanted.map_or_else(|| "2xx".to_owned(), |wanted| wanted.to_string());
            let to = answer.headers.get("location").and_then(|to| to.to_str().ok()).map(bare);
            let to = to.map_or_else(String::new, |to| format!(" to {to}"));
            down(Failure::Down(format!("answered {status}{to}, not {wanted}")), &shown)
        }
        Err(failure) => down(failure, &shown),
    }
}

/// The measurement of an answer that took so long.
pub(super) fn answered(took: Duration, what: &str) -> Measured {
    let value = took.as_secs_f64() * 1_000.0;
    Measured { value, detail: format!("{what} after {value:.1} ms") }
}

/// A service that is down takes for ever; one that was not asked is not measured.
pub(super) fn down(failure: Failure, whose: &str) -> Outcome {
    match failure {
        Failure::Down(why) => {
            Ok(Measured { value: f64::INFINITY, detail: format!("{whose} is down: {why}") })
        }
        Failure::Unknown(why) => Err(format!("{whose} can't be asked: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use futures_util::FutureExt;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::outside::{ManualClock, SystemClock};

    async fn ask(address: &str) -> Outcome {
        tcp(&SystemClock::new(), &Resolver::default(), address).await
    }

    async fn get_it(url: &str, wanted: Option<u16>) -> Outcome {
        http(&SystemClock::new(), &Web::default(), url, wanted).await
    }

    #[tokio::test]
    async fn a_port_with_a_listener_answers_and_one_without_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let measured = ask(&address).await.unwrap();
        assert!(measured.value.is_finite() && measured.value > 0.0, "{measured:?}");
        drop(listener);
        let measured = ask(&address).await.unwrap();
        assert_eq!(measured.value, f64::INFINITY);
        assert!(measured.detail.contains("refused"), "{measured:?}");
        for odd in ["", "host", "host:", "host:x", "host:65536"] {
            assert!(ask(odd).await.unwrap_err().contains("host:port"), "{odd}");
        }
        let unresolved = ask(&format!("{}:1", "x".repeat(64))).await.unwrap_err();
        assert!(unresolved.contains("can't resolve"), "{unresolved}");
    }

    #[tokio::test]
    async fn the_value_is_the_time_of_the_answer() {
        let (clock, web) = (ManualClock::new(jiff::Timestamp::UNIX_EPOCH), Web::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            clock.advance(Duration::from_micros(12_500));
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 204 x\r\n\r\n")
                .await
                .unwrap();
        };
        let (measured, ()) = tokio::join!(http(&clock, &web, &url, None), serve);
        assert_eq!(measured.unwrap().value, 12.5);
    }

    #[tokio::test]
    async fn a_status_that_is_not_wanted_is_down() {
        let status = |code: u16| move || async move { StatusCode::from_u16(code).unwrap() };
        let router = axum::Router::new()
            .route("/200", get(status(200)))
            .route("/204", get(status(204)))
            .route("/503", get(status(503)))
            .route("/302", get(|| async { (StatusCode::FOUND, [("location", "/200?hush")]) }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        for (path, wanted, said) in [
            ("200?hush", None, "answered 200 after"),
            ("204", None, "answered 204 after"),
            ("503", Some(503), "answered 503 after"),
            ("503", None, "is down: answered 503, not 2xx"),
            ("200", Some(204), "is down: answered 200, not 204"),
            ("302", None, "is down: answered 302 to /200, not 2xx"),
        ] {
            let measured = get_it(&format!("{base}/{path}"), wanted).await.unwrap();
            assert_eq!(measured.value.is_infinite(), said.contains("down"), "{measured:?}");
            assert!(measured.detail.contains(said), "{measured:?}");
            assert!(!measured.detail.contains("hush"), "{measured:?}");
        }
    }

    #[tokio::test]
    async fn who_does_not_speak_http_is_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |bytes: &'static [u8]| {
            let listener = &listener;
            async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1_024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.unwrap();
            }
        };
        for (scheme, bytes) in
            [("http", b"".as_slice()), ("http", b"SSH-2.0-x\r\n"), ("https", b"no TLS at all")]
        {
            let url = format!("{scheme}://{address}");
            let (measured, ()) = tokio::join!(get_it(&url, None), answer(bytes));
            match measured {
                Ok(measured) => assert_eq!(measured.value, f64::INFINITY, "{measured:?}"),
                Err(why) => assert!(scheme == "https" && why.contains("no HTTP client"), "{why}"),
            }
        }
        let unresolved = get_it(&format!("http://{}", "x".repeat(64)), None).await.unwrap_err();
        assert!(unresolved.contains("can't resolve"), "{unresolved}");
    }

    #[tokio::test]
    async fn who_never_answers_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (clock, web) = (SystemClock::new(), Web::default());
        let mut waiting = Box::pin(http(&clock, &web, &url, None));
        let accepted = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream
        };
        let mut stream = tokio::select! {
            measured = &mut waiting => panic!("{measured:?}"),
            stream = accepted => stream,
        };
        assert!(waiting.as_mut().now_or_never().is_none());
        // Who gives up waiting lets go of the connection.
        drop(waiting);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}
