//! What a circuit breaker costs: nanoseconds for each call through the layer beside the bare service, for a breaker
//! that is closed and for one that rejects; and how many reports of outcomes an agent takes in a second, one caller
//! after the other, beside the no-op GetVersion over the same connection.
//!
//! The layer has cost 82 ns on two shared cores (most of it two looks at the clock), a rejection 87 ns.
//!
//! `cargo bench -p genesis-benches --bench breaker`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::convert::Infallible;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use genesis_client::breaker::{Breaker, Policy, Settings};
use genesis_client::v1::{GetVersionRequest, OutcomeReport, ReportOutcomesRequest};
use genesis_client::{Client, Node, Options};
use support::agent::Agent;
use support::figures::Figure;
use support::{Outcome, quantile};
use tower::{Layer, Service};

/// Rounds in alternation, and calls in each.
const ROUNDS: usize = 40;
const CALLS: u32 = 200_000;
/// Calls to the agent in a round.
const REPORTS: u32 = 200;
/// Nanoseconds of the layer to stay below.
const GOAL: f64 = 250.0;

fn main() -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cost = layer().await?;
        reports().await?;
        Ok(if cost < GOAL { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Nanoseconds of a call.
async fn calls<S: Service<u64>>(service: &mut S) -> f64 {
    let began = Instant::now();
    for request in 0..u64::from(CALLS) {
        let _ = black_box(service.call(black_box(request)).await);
    }
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

async fn layer() -> Outcome<f64> {
    let bare = || tower::service_fn(|request: u64| async move { Ok::<_, Infallible>(request) });
    let settings = Settings {
        slow_after: Some(Duration::from_millis(1)),
        policy: Policy { open_for: Duration::from_secs(3_600), ..Policy::default() },
        ..Settings::new("bench")
    };
    let closed = Breaker::local(settings.clone());
    let open = Breaker::local(settings);
    while let Ok(entered) = open.enter() {
        entered.finish(false);
    }
    let (mut alone, mut behind) = (bare(), closed.layer().layer(bare()));
    let mut rejected = open.layer().layer(bare());
    let (mut without, mut with, mut rejecting) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(calls(&mut alone).await);
        with.push(calls(&mut behind).await);
        rejecting.push(calls(&mut rejected).await);
    }
    let median = |samples: &mut Vec<f64>| quantile(samples, 0.5);
    let (without, with) = (median(&mut without), median(&mut with));
    let rejecting = median(&mut rejecting);
    println!(
        "a call, ns: bare {without:.1}, behind a closed breaker {with:.1}, rejected {rejecting:.1}"
    );
    println!("the layer costs {:.1} ns", with - without);
    Figure::new("a call through a closed breaker, added", with - without, "ns")
        .at_most(GOAL)
        .say()?;
    Figure::new("a call rejected", rejecting, "ns").say()?;
    Ok(with - without)
}

async fn reports() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(folder.path(), "")?;
    let node: Node = format!("unix:{}", agent.socket().display()).parse()?;
    let client = Client::connect(&node, Options::default()).await?;
    let (mut bare, mut taken) = (Vec::new(), Vec::new());
    let mut sequence = 0;
    for _ in 0..ROUNDS / 4 {
        let began = Instant::now();
        for _ in 0..REPORTS {
            client.agent().get_version(GetVersionRequest {}).await?;
        }
        bare.push(f64::from(REPORTS) / began.elapsed().as_secs_f64());
        let began = Instant::now();
        for _ in 0..REPORTS {
            sequence += 1;
            let request = ReportOutcomesRequest { reports: vec![report(sequence)?] };
            client.breaker().report_outcomes(request).await?;
        }
        taken.push(f64::from(REPORTS) / began.elapsed().as_secs_f64());
    }
    let (bare, taken) = (quantile(&mut bare, 0.5), quantile(&mut taken, 0.5));
    println!(
        "calls a second, one after the other: GetVersion {bare:.0}, ReportOutcomes {taken:.0}"
    );
    println!("ratio {:.2}", bare / taken);
    let reports = Figure::new("reports of outcomes, one after the other", taken, "a second");
    Ok(reports.beside("GetVersion", bare).say()?)
}

fn report(sequence: u64) -> Outcome<OutcomeReport> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(OutcomeReport {
        operation: "orders-api".into(),
        reporter: "bench".into(),
        sequence,
        window_start: Some(prost_types::Timestamp {
            seconds: i64::try_from(now.as_secs())?,
            nanos: 0,
        }),
        window_length: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        calls: 100,
        ..Default::default()
    })
}
