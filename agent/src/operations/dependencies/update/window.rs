//! Whether a service does well for long enough after its restart. The decision is pure; the loop only asks and waits.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::super::config::managed::{Deploy, Probe};
use crate::error::{Error, Result};
use crate::outside::replaced::{self, Place};
use crate::outside::{Outside, hooks};
use crate::runs::{Context, Progress};

/// It is asked so often.
const EVERY: Duration = Duration::from_secs(1);
/// An answer may take so long.
const ANSWER: Duration = Duration::from_secs(2);
/// So many bad answers in a row are taken for the truth: one may be bad luck.
const IN_A_ROW: u32 = 2;

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// It does well.
    Well,
    /// It does not, or does not say; why.
    Ill(String),
}

/// What is known so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It goes on.
    Open,
    /// It did well for long enough.
    Proven,
    /// It does not do well.
    Failed(String),
}

/// A window, from the restart on. Times are on the monotonic clock, since the restart.
#[derive(Debug, Clone)]
pub struct Window {
    start_within: Duration,
    health_for: Duration,
    since: Option<Duration>,
    ill: u32,
}

impl Window {
    /// The service has to do well within `start_within`, and from then on for `health_for`.
    pub fn new(start_within: Duration, health_for: Duration) -> Self {
        Self { start_within, health_for, since: None, ill: 0 }
    }

    /// Takes a look that was made at a time.
    pub fn note(&mut self, at: Duration, look: Look) -> Judged {
        match (look, self.since) {
            (Look::Well, since) => {
                let since = *self.since.insert(since.unwrap_or(at));
                self.ill = 0;
                match at.saturating_sub(since) >= self.health_for {
                    true => Judged::Proven,
                    false => Judged::Open,
                }
            }
            (Look::Ill(why), None) if at >= self.start_within => {
                let within = self.start_within.as_secs_f64();
                Judged::Failed(format!(
                    "it did not do well within {within} s of its restart: {why}"
                ))
            }
            (Look::Ill(_), None) => Judged::Open,
            (Look::Ill(why), Some(_)) => {
                self.ill += 1;
                match self.ill >= IN_A_ROW {
                    true => Judged::Failed(format!("it did well, and then not any more: {why}")),
                    false => Judged::Open,
                }
            }
        }
    }

    /// How much of the window is over, in percent.
    fn percent(&self, at: Duration) -> u64 {
        let since = self.since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
        (100.0 * since.as_secs_f64() / self.health_for.as_secs_f64().max(0.001)).min(100.0) as u64
    }
}

async fn look(outside: &Outside, probe: &Probe) -> Look {
    match probe {
        Probe::Url(url) => match tokio::time::timeout(ANSWER, outside.web.get(url, &[], 0)).await {
            Ok(Ok(answer)) if (200..300).contains(&answer.status) => Look::Well,
            Ok(Ok(answer)) => Look::Ill(format!("it answers with {}", answer.status)),
            Ok(Err(failure)) => Look::Ill(failure.to_string()),
            Err(_) => Look::Ill(format!("it does not answer within {} s", ANSWER.as_secs())),
        },
        Probe::Hook(hook) => match hooks::run(hook, &json!({}), &[]).await {
            Ok(_) => Look::Well,
            Err(error) => Look::Ill(error.chain()),
        },
    }
}

/// Whether a service says that it does well.
pub(super) async fn well(outside: &Outside, deploy: &Deploy) -> bool {
    look(outside, &deploy.health).await == Look::Well
}

/// Who answers well may be what was to be replaced.
async fn look_at_processes(place: Place, now: Timestamp) -> Look {
    let seen = tokio::task::spawn_blocking(move || replaced::look(&place, now)).await;
    match seen {
        Ok(Ok(seen)) => match seen.stale.first() {
            Some(stale) => Look::Ill(format!(
                "process {} still runs what was replaced ({}): {}",
                stale.pid, stale.why, stale.command
            )),
            None => Look::Well,
        },
        // What can't be seen is told by `deps status`.
        Ok(Err(_)) | Err(_) => Look::Well,
    }
}

/// Watches a service until it has proven itself.
///
/// # Errors
/// `HEALTH_WINDOW_FAILED`, `CANCELLED`.
pub async fn watch(
    outside: &Outside,
    (deploy, place): (&Deploy, Option<&Place>),
    mut window: Window,
    context: Option<&Context>,
) -> Result<()> {
    let began = outside.clock.monotonic();
    loop {
        let mut seen = look(outside, &deploy.health).await;
        if let (Look::Well, Some(place)) = (&seen, place) {
            seen = look_at_processes(place.clone(), outside.clock.now()).await;
        }
        let at = outside.clock.monotonic().saturating_sub(began);
        match window.note(at, seen) {
            Judged::Proven => return Ok(()),
            Judged::Failed(why) => {
                return Err(Error::unavailable("HEALTH_WINDOW_FAILED", why));
            }
            Judged::Open => {}
        }
        let Some(context) = context else {
            outside.clock.sleep(EVERY).await;
            continue;
        };
        let done = window.percent(at);
        let message = "watching the new release".to_owned();
        context.progress(Progress { done, total: 100, unit: "%", message });
        tokio::select! {
            () = outside.clock.sleep(EVERY) => {}
            () = context.cancelled() => return Err(Error::cancelled()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// What comes of looks once a second, "+" well and "-" not, and after how many seconds.
    fn judged(looks: &str) -> (&'static str, usize) {
        let mut window = Window::new(seconds(3), seconds(4));
        for (at, look) in looks.chars().enumerate() {
            let look = if look == '+' { Look::Well } else { Look::Ill("why".to_owned()) };
            match window.note(seconds(at as u64), look) {
                Judged::Open => {}
                Judged::Proven => return ("proven", at),
                Judged::Failed(why) if why.contains("within 3 s") => return ("never", at),
                Judged::Failed(_) => return ("fell", at),
            }
        }
        ("open", looks.len())
    }

    #[test]
    fn a_service_has_to_start_in_time_and_to_do_well_for_long_enough() {
        for (looks, expected) in [
            ("+++++", ("proven", 4)),
            // The time counts from when it did well first.
            ("--+++++", ("proven", 6)),
            ("---+++++", ("proven", 7)),
            ("----", ("never", 3)),
            // One bad answer may be bad luck; two are not.
            ("++-++", ("proven", 4)),
            ("+-+-+", ("proven", 4)),
            ("++--", ("fell", 3)),
            // It ends with a good one.
            ("++++-+", ("proven", 5)),
            ("++++--", ("fell", 5)),
            ("+++", ("open", 3)),
        ] {
            assert_eq!(judged(looks), expected, "{looks}");
        }
    }
}
