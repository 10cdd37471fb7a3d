//! What is known of the times in which a point was in force: whether the agent ran, and how the component did. From the
//! operation log, the issues of the checks that look at it, and the incidents that name it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::{
    ISSUES_KEPT, IncidentRecord, IssueRecord, IssueState, OplogEntry, RollbackRecord, StorageError,
    Trigger,
};
use jiff::{SignedDuration, Timestamp};

use super::after_rollback::looks_at;
use crate::runs::rollback::Stay;
use crate::runs::rollback::choose::{Evidence, Trouble};
use crate::state::State;

/// So much of the operation log is read in all.
const READ: usize = 100_000;
/// And so much at a time.
const PAGE: usize = 100;

/// What is known of a component, at which `checks` look, for these stays.
pub(super) async fn gathered(
    state: &State,
    now: Timestamp,
    (component, checks): (&str, BTreeSet<String>),
    (stays, settled): (Vec<Stay>, Duration),
) -> Evidence {
    let (state, component) = (state.clone(), component.to_owned());
    // A long log takes longer than async code may wait.
    let read = tokio::task::spawn_blocking(move || {
        state.read(|reading| {
            let mut troubles = Vec::new();
            for check in &checks {
                let issues = reading.health().issues(check, usize::MAX)?;
                troubles.extend(of_issues(&issues));
                let known = reading.health().check(check)?;
                let untold = known.into_iter().flat_map(|it| it.untold);
                troubles.extend(untold.map(|(from, until)| Trouble {
                    from,
                    until,
                    ill: false,
                    what: format!("{check} could not be told"),
                }));
            }
            let incidents = reading.incidents().list(false, usize::MAX)?;
            let rollbacks = reading.rollbacks().list(usize::MAX, |it| it.component == component)?;
            let begins: Vec<Timestamp> = stays.iter().map(|it| it.from).collect();
            troubles.extend(of_incidents(&component, &incidents, &rollbacks, &begins));
            let mut left = READ;
            let mut ran = Vec::new();
            for span in spans(&stays, now, settled) {
                let log = reading.oplog();
                let page = |next: u64| -> Result<Vec<OplogEntry>, StorageError> {
                    Ok(log.range(next, PAGE)?.into_iter().map(|it| it.entry).collect())
                };
                let mut next = log.first_since(span.0)?;
                let mut read = Running::begun(span);
                while left > 0 && !read.ended() {
                    let entries = page(next)?;
                    left = left.saturating_sub(entries.len());
                    let full = entries.len() == PAGE;
                    next += entries.len() as u64;
                    entries.iter().for_each(|entry| read.entry(entry));
                    if !full {
                        // This agent runs.
                        read.ends();
                    }
                }
                ran.extend(read.ran);
            }
            Ok(Evidence { ran, troubles, left: Vec::new() })
        })
    });
    match read.await {
        Ok(Ok(evidence)) => evidence,
        // What can't be told is never good.
        Ok(Err(error)) => {
            tracing::warn!(error = error.chain(), "how a component did can't be read");
            Evidence::default()
        }
        Err(_) => Evidence::default(),
    }
}

/// The times for which the log is read, the newest first: the beginning and the end of each stay that was long enough.
fn spans(stays: &[Stay], now: Timestamp, settled: Duration) -> Vec<(Timestamp, Timestamp)> {
    let settled = SignedDuration::try_from(settled).unwrap_or(SignedDuration::MAX);
    // An agent that was started anew then has the time to begin again.
    let room = SignedDuration::from_hours(1).saturating_add(settled.saturating_mul(4));
    let mut spans = Vec::new();
    for stay in stays {
        let (from, until) = (stay.from, stay.until.unwrap_or(now));
        if until < from || until.duration_since(from) < settled {
            continue;
        }
        let (head, tail) = (from.saturating_add(room), until.saturating_sub(room));
        match (head, tail) {
            (Ok(head), Ok(tail)) if head < tail => spans.extend([(tail, until), (from, head)]),
            _ => spans.push((from, until)),
        }
    }
    spans.sort_unstable_by(|one, other| other.cmp(one));
    spans.dedup();
    spans
}

/// What an agent may write down before it says that it has started; at other times it is no loss.
const BEFORE_START: [&str; 8] = [
    "state.restored",
    "state.lost",
    "rollback",
    "backup.adopted",
    "host.identified",
    "host.renamed",
    "emergency.activated",
    "emergency.release-failed",
];

/// When the agent ran within a span, by the entries of the log from its beginning on.
struct Running {
    until: Timestamp,
    /// Since when it has run without a break, and when it was seen last.
    since: Timestamp,
    seen: Timestamp,
    stopped: bool,
    over: bool,
    ran: Vec<(Timestamp, Timestamp)>,
}

impl Running {
    fn begun((from, until): (Timestamp, Timestamp)) -> Self {
        Self { until, since: from, seen: from, stopped: false, over: false, ran: Vec::new() }
    }

    fn ended(&self) -> bool {
        self.over
    }

    fn entry(&mut self, entry: &OplogEntry) {
        if self.over {
            return;
        }
        let (at, last) = (entry.at.min(self.until), entry.at >= self.until);
        match entry.action.as_str() {
            "agent.started" => {
                // Until when the one before ran is known by what it wrote last.
                self.ran.push((self.since, self.seen));
                (self.since, self.seen, self.stopped) = (at, at, false);
            }
            _ if self.stopped => {}
            // Whose it is shows by what comes next.
            action if BEFORE_START.contains(&action) => return,
            action => {
                self.seen = self.seen.max(at);
                self.stopped = action == "agent.stopped";
            }
        }
        if last {
            self.ends_at(self.seen);
        }
    }

    /// The log ends, and the agent runs.
    fn ends(&mut self) {
        let until = if self.stopped { self.seen } else { self.until };
        self.ends_at(until);
    }

    fn ends_at(&mut self, until: Timestamp) {
        if !self.over {
            self.ran.push((self.since, until));
            self.over = true;
        }
    }
}

/// When a check was ill, by its issues, the newest first.
fn of_issues(issues: &[IssueRecord]) -> Vec<Trouble> {
    let each = issues.iter().map(|issue| Trouble {
        from: issue.opened.wall,
        until: (issue.state == IssueState::Resolved).then_some(issue.since.wall),
        ill: true,
        what: format!("{}: {}", issue.check, issue.detail),
    });
    let mut troubles: Vec<Trouble> = each.collect();
    // The oldest are forgotten.
    if let Some(oldest) = issues.last().filter(|_| issues.len() as u64 >= ISSUES_KEPT) {
        troubles.push(Trouble {
            from: Timestamp::MIN,
            until: Some(oldest.opened.wall),
            ill: false,
            what: format!("what {} went through before is forgotten", oldest.check),
        });
    }
    troubles
}

/// When an incident went on that names the component. That of a rollback tells against what it put there, until the
/// next point `begins`: what came later is not to blame for it, however long it stays open.
fn of_incidents(
    component: &str,
    incidents: &[IncidentRecord],
    rollbacks: &[RollbackRecord],
    begins: &[Timestamp],
) -> Vec<Trouble> {
    // The deep check after a rollback may have seen nothing at all.
    let found: BTreeMap<&str, &str> =
        rollbacks.iter().map(|it| (it.incident.as_str(), it.health.as_str())).collect();
    let named = |it: &IncidentRecord| match it.trigger {
        Trigger::Rollback => it.subject == component,
        Trigger::ByHand => says(&it.title, component),
        _ => {
            it.subject == component || it.issues.iter().any(|(check, _)| looks_at(check, component))
        }
    };
    let each = incidents.iter().filter(|it| named(it)).map(|it| Trouble {
        from: it.opened_at,
        until: match it.trigger {
            Trigger::Rollback => {
                let next = begins.iter().filter(|begin| **begin > it.opened_at).min().copied();
                it.over_at.into_iter().chain(next).min()
            }
            _ => it.over_at,
        },
        ill: it.trigger != Trigger::Rollback || found.get(it.id.as_str()) == Some(&"bad"),
        what: format!("incident {}: {}", it.id, it.title),
    });
    each.collect()
}

/// Whether a text has the component's name as a word of its own.
fn says(text: &str, component: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "-_.:".contains(c));
    text.match_indices(component).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + component.len()..]);
        // A full stop or a colon ends a sentence, and no name.
        let mut rest = after.chars();
        let next = rest.next();
        let within = part(next) && (next.is_some_and(char::is_alphanumeric) || part(rest.next()));
        !part(before.chars().next_back()) && !within
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    #[test]
    fn the_agent_ran_from_start_to_stop_and_until_it_was_seen_last() {
        // Of each: the entries ("s"tarted, "e"nded, "b"efore a start or not, "." anything else) and the times that it ran from 100 to 200.
        for (entries, expected) in [
            (&[][..], &[(100, 200)][..]),
            (&[(150, '.')], &[(100, 200)]),
            (&[(150, '.'), (210, '.')], &[(100, 200)]),
            // After a crash it is known to have run until what it wrote last.
            (&[(150, '.'), (170, 's'), (180, '.')], &[(100, 150), (170, 200)]),
            (&[(170, 's')], &[(100, 100), (170, 200)]),
            (&[(120, 'e'), (170, 's')], &[(100, 120), (170, 200)]),
            (&[(120, '.'), (260, 's')], &[(100, 120), (200, 200)]),
            (&[(120, 'e')], &[(100, 120)]),
            // What it writes before it says that it has started is no sign of the one before.
            (&[(120, '.'), (169, 'b'), (170, 's')], &[(100, 120), (170, 200)]),
            (&[(120, 'e'), (169, 'b'), (170, 's')], &[(100, 120), (170, 200)]),
            (&[(120, '.'), (209, 'b'), (210, 's')], &[(100, 120), (200, 200)]),
            (&[(120, '.'), (150, 'b'), (160, '.')], &[(100, 200)]),
            (&[(120, '.'), (205, 'b'), (206, '.')], &[(100, 200)]),
            (&[(120, '.'), (205, 'b')], &[(100, 200)]),
        ] {
            let mut read = Running::begun((at(100), at(200)));
            for (minute, what) in entries {
                let action = match what {
                    's' => "agent.started",
                    'e' => "agent.stopped",
                    'b' => "rollback",
                    _ => "config.loaded",
                };
                read.entry(&OplogEntry {
                    sequence: 1,
                    at: at(*minute),
                    actor: String::new(),
                    action: action.into(),
                    target: String::new(),
                    reason: String::new(),
                    outcome: String::new(),
                    detail: String::new(),
                    correlation_id: String::new(),
                    trace_id: String::new(),
                });
            }
            read.ends();
            let expected: Vec<_> = expected.iter().map(|it| (at(it.0), at(it.1))).collect();
            assert_eq!(read.ran, expected, "{entries:?}");
        }
    }

    #[test]
    fn the_beginning_and_the_end_of_what_was_long_enough_is_read() {
        let stay = |from: i64, until: Option<i64>| Stay {
            from: at(from),
            until: until.map(at),
            left: false,
        };
        let stays = [stay(0, Some(5)), stay(5, Some(60)), stay(60, Some(1_000)), stay(1_000, None)];
        let spans = spans(&stays, at(1_009), Duration::from_secs(600));
        let expected = [(at(900), at(1_000)), (at(60), at(160)), (at(5), at(60))];
        assert_eq!(spans, expected);
    }

    #[test]
    fn an_incident_tells_against_what_it_names() {
        let incident = |trigger, subject: &str, title: &str, issue: &str| IncidentRecord {
            subject: subject.into(),
            issues: if issue.is_empty() { vec![] } else { vec![(issue.to_owned(), 1)] },
            ..IncidentRecord::new(("01I".into(), at(5)), trigger, title, "olga")
        };
        let found = |health: &str| RollbackRecord {
            component: "config".into(),
            incident: "01I".into(),
            health: health.into(),
            ..RollbackRecord::default()
        };
        use Trigger::{AttemptsFailed, ByHand, Emergency, Rollback};
        for (component, incident, health, expected) in [
            ("config", incident(Rollback, "config", "", ""), "bad", Some(true)),
            ("config", incident(Rollback, "config", "", ""), "unknown", Some(false)),
            ("config", incident(Rollback, "matrix", "", ""), "bad", None),
            ("config", incident(ByHand, "", "the config: it is odd", ""), "", Some(true)),
            ("config", incident(ByHand, "", "reconfigured", ""), "", None),
            ("database:o", incident(ByHand, "", "database:orders is slow", ""), "", None),
            ("dependencies:api", incident(AttemptsFailed, "", "", "service:api"), "", Some(true)),
            ("dependencies:web", incident(AttemptsFailed, "", "", "service:api"), "", None),
            ("config", incident(Emergency, "emergency 1", "config", ""), "", None),
        ] {
            let rolled_back = incident.trigger == Rollback;
            let told =
                of_incidents(component, &[incident], &[found(health)], &[at(3), at(9), at(7)]);
            // It goes on: what was there from minute 7 on has nothing to do with a rollback before.
            let until = rolled_back.then(|| at(7));
            assert!(told.iter().all(|it| it.until == until), "{component} {told:?}");
            let told: Vec<bool> = told.iter().map(|it| it.ill).collect();
            assert_eq!(told.first().copied(), expected, "{component} {health}");
        }
    }

    #[tokio::test]
    async fn what_is_known_is_gathered_from_the_log_the_checks_and_the_incidents() {
        use genesis_storage::{CheckRecord, Intent, Options, Store};

        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(std::sync::Arc::new(store), tokio::sync::watch::channel(0).1);
        for (minute, action) in
            [(100, "agent.started"), (110, "x"), (115, "agent.stopped"), (150, "agent.started")]
        {
            state.note(Intent::new(at(minute), "system:agent", action)).await.unwrap();
        }
        let check = CheckRecord {
            check: "agent".into(),
            untold: vec![(at(160), Some(at(165)))],
            ..CheckRecord::default()
        };
        state.store().bookkeep(|it| it.health().put_check(&check)).unwrap();
        let incident = IncidentRecord {
            over_at: Some(at(180)),
            ..IncidentRecord::new(("01I".into(), at(170)), Trigger::ByHand, "state is odd", "olga")
        };
        let opened = Intent::new(at(170), "olga", "incident.opened");
        state.write(opened, move |it| Ok(it.incidents().put(&incident, 9)?)).await.unwrap();
        let stays = vec![Stay { from: at(100), until: Some(at(200)), left: false }];
        let checks = BTreeSet::from(["agent".to_owned()]);
        let (about, within) = (("state", checks), (stays, Duration::from_secs(600)));
        let found = gathered(&state, at(300), about, within).await;
        assert_eq!(found.ran, [(at(100), at(100)), (at(100), at(115)), (at(150), at(200))]);
        let told: Vec<_> = found.troubles.iter().map(|it| (it.from, it.until, it.ill)).collect();
        assert_eq!(
            told,
            [(at(160), Some(at(165)), false), (at(170), Some(at(180)), true)],
            "{found:?}"
        );
    }
}
