//! Calls a URL again and again behind a circuit breaker, and prints what came of each call:
//! `breaker NAME HOST:PORT/PATH [--agent NODE] [--every MS] [--slow-after MS] [--open-for MS]`.
//!
//! A line is `ok STATE`, `failed STATE` or `rejected STATE RETRY_MS agent|local`. Ends when its output is closed.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use genesis_client::breaker::{Breaker, BreakerError, Policy, Settings, State};
use genesis_client::{Node, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, Service, ServiceExt};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match arguments() {
        Some(arguments) => run(arguments).await,
        None => {
            let usage = "breaker NAME HOST:PORT/PATH [--agent NODE] [--every MS] [--slow-after MS] [--open-for MS]";
            let _ = writeln!(io::stderr(), "usage: {usage}");
            ExitCode::from(2)
        }
    }
}

struct Arguments {
    name: String,
    target: String,
    agent: Option<Node>,
    every: Duration,
    slow_after: Option<Duration>,
    open_for: Option<Duration>,
}

fn arguments() -> Option<Arguments> {
    let mut given = std::env::args().skip(1);
    let mut arguments = Arguments {
        name: given.next()?,
        target: given.next()?,
        agent: None,
        every: Duration::from_millis(50),
        slow_after: None,
        open_for: None,
    };
    while let Some(flag) = given.next() {
        let value = given.next()?;
        let span = || value.parse().ok().map(Duration::from_millis);
        match flag.as_str() {
            "--agent" => arguments.agent = Some(value.parse().ok()?),
            "--every" => arguments.every = span()?,
            "--slow-after" => arguments.slow_after = Some(span()?),
            "--open-for" => arguments.open_for = Some(span()?),
            _ => return None,
        }
    }
    Some(arguments)
}

async fn run(arguments: Arguments) -> ExitCode {
    let mut policy = Policy::default();
    if let Some(open_for) = arguments.open_for {
        (policy.open_for, policy.open_for_max) = (open_for, open_for * 4);
    }
    let slow_after = arguments.slow_after;
    let settings = Settings { slow_after, policy, ..Settings::new(arguments.name) };
    let breaker = match arguments.agent {
        Some(node) => Breaker::follow(node, Options::default(), settings),
        None => Breaker::local(settings),
    };
    let target = arguments.target;
    let service = tower::service_fn(move |(): ()| get(target.clone()));
    let is_failure = |result: &io::Result<u16>| result.as_ref().map_or(true, |code| *code >= 500);
    let mut service = breaker.layer().failing_if(is_failure).layer(Box::new(service));
    loop {
        // It is always ready.
        let Ok(ready) = service.ready().await else { return ExitCode::FAILURE };
        let called = ready.call(()).await;
        let state = match breaker.status().state {
            State::Closed => "CLOSED",
            State::Open => "OPEN",
            State::HalfOpen => "HALF_OPEN",
        };
        let line = match called {
            Ok(code) if code < 500 => format!("ok {state}"),
            Ok(_) | Err(BreakerError::Inner(_)) => format!("failed {state}"),
            Err(BreakerError::Rejected(rejected)) => {
                let by = if rejected.by_agent { "agent" } else { "local" };
                format!("rejected {state} {} {by}", rejected.retry_after.as_millis())
            }
        };
        let mut out = io::stdout();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
        tokio::time::sleep(arguments.every).await;
    }
}

/// The status of the answer to a GET. A program would take a client of HTTP; this one needs nothing else.
async fn get(target: String) -> io::Result<u16> {
    let (host, path) = target.split_once('/').unwrap_or((&target, ""));
    let mut connection = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    let code = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    code.ok_or_else(|| io::Error::other("no HTTP"))
}
