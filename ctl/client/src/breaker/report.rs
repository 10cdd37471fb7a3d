//! Tells the agent how calls went, and asks it for probes. All of it beside the calls, within bounds.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use genesis_proto::v1;
use prost_types::{Duration as Span, Timestamp};

use super::local::State;
use super::{Inner, clock};
use crate::{Client, Kind};

/// So many windows wait for an agent that is away; older ones would come late anyway.
const WAITING: usize = 8;
/// A call to the agent may take so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// An agent that does not answer, or has no probe to grant, is left alone for so long.
const REST: Duration = Duration::from_millis(50);

/// What was reported last.
struct Reported {
    reporter: String,
    sequence: u64,
    start: Timestamp,
    calls: u64,
    failed: u64,
    slow: u64,
    rejected: u64,
}

pub(super) async fn run(inner: Weak<Inner>) {
    let mut last = Reported {
        reporter: ulid::Ulid::generate().to_string(),
        sequence: 0,
        start: clock::wall(),
        calls: 0,
        failed: 0,
        slow: 0,
        rejected: 0,
    };
    let mut waiting = VecDeque::new();
    let mut due = clock::monotonic();
    loop {
        let Some(breaker) = inner.upgrade() else { return };
        let now = clock::monotonic();
        let (client, window, wanted, urgent) = {
            let gate = breaker.gate();
            (gate.client.clone(), gate.window, gate.wanted, !gate.results.is_empty())
        };
        let every = breaker.settings.report_every;
        let every = every.min(window.map_or(every, |window| window / 5));
        if now >= due || urgent {
            due = now.saturating_add(every);
            if let Some(report) = breaker.report(&mut last) {
                waiting.push_back(report);
            }
            while waiting.len() > WAITING {
                waiting.pop_front();
                breaker.unreported.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut rest = due.saturating_sub(now);
        if let Some(client) = client {
            if !waiting.is_empty() && !breaker.send(&client, &mut waiting).await {
                rest = rest.max(REST);
            }
            if wanted > 0 && breaker.ask(&client, wanted).await == 0 {
                tokio::time::sleep(REST).await;
            }
        }
        let hurry = Arc::clone(&breaker.hurry);
        // Nothing is kept alive by waiting: the breaker's end ends this task.
        drop(breaker);
        let _ = tokio::time::timeout(rest.max(Duration::from_millis(1)), hurry.notified()).await;
    }
}

fn span(span: Duration) -> Option<Span> {
    Span::try_from(span).ok()
}

impl Inner {
    /// What has happened since the last report; `None`: nothing.
    fn report(&self, last: &mut Reported) -> Option<v1::OutcomeReport> {
        let results = std::mem::take(&mut self.gate().results);
        let slow_after = self.slow_after.load(Ordering::Relaxed);
        // In this order, so that no failure is counted before its call.
        let failed = self.failed.load(Ordering::Relaxed);
        let slow = self.slow.load(Ordering::Relaxed);
        let rejected = self.rejected.load(Ordering::Relaxed);
        let calls = self.calls.load(Ordering::Relaxed);
        let end = clock::wall();
        let length = Duration::try_from(Span {
            seconds: end.seconds - last.start.seconds,
            nanos: end.nanos - last.start.nanos,
        });
        let window = (last.start, length.unwrap_or_default());
        last.start = end;
        let new_calls = calls - last.calls;
        let probes = results.into_iter().map(|(probe, passed)| v1::ProbeResult {
            probe,
            outcome: match passed {
                None => v1::ProbeOutcome::Unspecified,
                Some(true) => v1::ProbeOutcome::Passed,
                Some(false) => v1::ProbeOutcome::Failed,
            }
            .into(),
        });
        let report = v1::OutcomeReport {
            operation: self.name.to_string(),
            reporter: last.reporter.clone(),
            sequence: last.sequence,
            window_start: Some(window.0),
            window_length: span(window.1),
            calls: new_calls,
            errors: (failed - last.failed).min(new_calls),
            slow: (slow - last.slow).min(new_calls),
            slow_after: match slow_after {
                u64::MAX => None,
                slow_after => span(Duration::from_nanos(slow_after)),
            },
            rejected: rejected - last.rejected,
            probes: probes.collect(),
        };
        if report.calls == 0 && report.rejected == 0 && report.probes.is_empty() {
            return None;
        }
        (last.calls, last.rejected) = (calls, rejected);
        // What was cut off by `min` belongs to a call that is counted next time.
        last.failed += report.errors;
        last.slow += report.slow;
        last.sequence += 1;
        Some(report)
    }

    /// Sends what waits. `false`: it waits on.
    async fn send(&self, client: &Client, waiting: &mut VecDeque<v1::OutcomeReport>) -> bool {
        let request = v1::ReportOutcomesRequest { reports: waiting.iter().cloned().collect() };
        let count = waiting.len() as u64;
        let call = client.call(request, |c, r| async move { c.breaker().report_outcomes(r).await });
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(_)) => {
                self.reported.fetch_add(count, Ordering::Relaxed);
                waiting.clear();
                true
            }
            // It won't take them another time either.
            Ok(Err(error)) if !matches!(error.kind, Kind::Unreachable | Kind::Unavailable) => {
                self.unreported.fetch_add(count, Ordering::Relaxed);
                waiting.clear();
                true
            }
            _ => false,
        }
    }

    /// Asks for as many probes as there were calls for; how many there are.
    async fn ask(&self, client: &Client, wanted: u32) -> usize {
        let operation = self.name.to_string();
        let request = v1::TakeProbesRequest { operation, wanted };
        let asked = clock::monotonic();
        let call = client.call(request, |c, r| async move { c.breaker().take_probes(r).await });
        let answer = tokio::time::timeout(PATIENCE, call).await;
        let mut gate = self.gate();
        gate.wanted = 0;
        let Ok(Ok(answer)) = answer else { return 0 };
        let valid = answer.valid_for.and_then(|valid| Duration::try_from(valid).ok());
        let granted = answer.probes.len();
        if gate.agent.state == State::HalfOpen {
            // Begun in the second half of its time, a probe might not end within it.
            let until = asked.saturating_add(valid.unwrap_or_default() / 2);
            gate.granted.extend(answer.probes.into_iter().map(|probe| (probe, until)));
        }
        granted
    }
}
