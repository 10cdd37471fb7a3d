//! `matrix rollout status`: how a new matrix fares, stage by stage.

use genesis_client::v1::{GetRolloutRequest, OutcomeArm, Rollout, RolloutStage, StageState};

use super::history;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count, figure, p_value};
use crate::render::{Answer, Cell, Part, View};

const STAGE_COLUMNS: &[&str] =
    &["STAGE", "STATE", "OUTCOMES", "NEEDED", "", "LIFT", "p_harm", "ALPHA", "BEGAN", "ENDED"];
const ARM_COLUMNS: &[&str] = &["ARM", "VERSION", "OUTCOMES", "CONSUMERS", "MEAN", "SD"];

/// How a rollout ends that comes to its end.
const ACTIVE: &str = "active";

/// The width of a bar, in characters.
const WIDTH: usize = 20;

pub(super) async fn status(session: &Session<'_>, version: u64) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let request = GetRolloutRequest { version };
            let found = client
                .call(request, |c, r| async move { c.matrices().get_rollout(r).await })
                .await?;
            let json = session.json("GetRolloutResponse", &found)?;
            let Some(rollout) = &found.rollout else {
                let empty = "there was no rollout yet";
                return Ok(Answer::new(json, View { empty, ..View::default() }));
            };
            // That it came to its end says not that nobody has gone back since.
            let active = match rollout.outcome.as_str() {
                ACTIVE => Some(history::ask(&client, 1).await?.active),
                _ => None,
            };
            let view = View { parts: parts(rollout, active), ..View::default() };
            Ok(Answer::new(json, view).exit(exit(rollout)))
        })
        .await
}

/// The stage that goes on, or was the last.
fn stage(rollout: &Rollout) -> Option<&RolloutStage> {
    rollout.stages.last()
}

fn exit(rollout: &Rollout) -> Exit {
    match stage(rollout).map(RolloutStage::state) {
        Some(StageState::Held) if rollout.ended_at.is_none() => Exit::Findings,
        // An agent of another version knows of something else.
        Some(StageState::Unspecified) => Exit::Unknown,
        _ => Exit::Ok,
    }
}

/// A rollout in a line. `active` is the version that is active now; `None`: as the rollout has left it.
pub(super) fn line(rollout: &Rollout, active: Option<u64>) -> String {
    let Rollout { version, control, .. } = rollout;
    if rollout.ended_at.is_none() {
        let percent = stage(rollout).map_or(0, |stage| stage.percent);
        return format!(
            "matrix {version} is used by {percent} % of the consumers, version {control} by the others"
        );
    }
    let at = format::time(rollout.ended_at.as_ref());
    let because = match rollout.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    match rollout.outcome.as_str() {
        ACTIVE => match active {
            Some(0) => format!("matrix {version} became active at {at}{because}; none is now"),
            Some(now) if now != *version => {
                format!("matrix {version} became active at {at}{because}; version {now} is now")
            }
            _ => format!("matrix {version} is active since {at}{because}"),
        },
        "rolled back" => format!(
            "matrix {version} was rolled back at {at}, all consumers use version {control}{because}"
        ),
        other => format!("the rollout of matrix {version} ended at {at} ({other}){because}"),
    }
}

fn parts(rollout: &Rollout, active: Option<u64>) -> Vec<Part> {
    let titled = |what: &str| format!("matrix {}: {what}", rollout.version);
    let mut head = vec![line(rollout, active)];
    head.push(format!("  began at {}", format::time(rollout.began_at.as_ref())));
    let mut parts = vec![
        Part { lines: head, ..Part::default() },
        Part {
            title: titled("stages"),
            columns: STAGE_COLUMNS,
            rows: rollout.stages.iter().map(row).collect(),
            ..Part::default()
        },
    ];
    if let Some(stage) = stage(rollout) {
        let goes_on = if rollout.ended_at.is_none() { "stage that goes on" } else { "last stage" };
        parts.push(arms(titled(&format!("{goes_on}, {} %", stage.percent)), stage));
    }
    let verdicts = rollout.stages.iter().filter(|stage| !stage.verdict.is_empty());
    parts.push(Part {
        title: titled("verdicts"),
        lines: verdicts
            .map(|stage| format!("  {:>3} %: {}", stage.percent, stage.verdict))
            .collect(),
        ..Part::default()
    });
    parts.extend(next(rollout, active));
    parts.retain(|part| !(part.rows.is_empty() && part.lines.is_empty()));
    parts
}

/// The outcomes of the arm that has fewer.
fn fewer(stage: &RolloutStage) -> u64 {
    let of = |arm: &Option<OutcomeArm>| arm.as_ref().map_or(0, |arm| arm.outcomes);
    of(&stage.control).min(of(&stage.canary))
}

fn row(stage: &RolloutStage) -> Vec<Cell> {
    let known = |number: Option<String>| number.unwrap_or_else(|| format::NONE.to_owned());
    let (found, needed) = (fewer(stage), stage.needed);
    let harmful = stage.p_harm.is_some_and(|p| p < stage.alpha);
    vec![
        Cell::number(format!("{} %", stage.percent)),
        Cell::stage_state(stage.state()),
        Cell::number(count(found)),
        Cell::number(count(needed)),
        Cell::from(bar(found, needed)),
        Cell::number(known(stage.lift.map(format::lift))),
        Cell::measured(known(stage.p_harm.map(p_value)), harmful),
        Cell::number(p_value(stage.alpha)),
        Cell::from(format::time(stage.began_at.as_ref())),
        Cell::from(format::time(stage.ended_at.as_ref())),
    ]
}

/// How much there is of what is needed. It is full only where nothing is lacking.
fn bar(found: u64, needed: u64) -> String {
    let full = match needed {
        0 => WIDTH as u128,
        needed => (u128::from(found) * WIDTH as u128 / u128::from(needed)).min(WIDTH as u128),
    } as usize;
    "█".repeat(full) + &"░".repeat(WIDTH - full)
}

fn arms(title: String, stage: &RolloutStage) -> Part {
    let row = |name: &str, arm: Option<&OutcomeArm>| {
        let arm = arm.copied().unwrap_or_default();
        let known = |number: Option<f64>| {
            Cell::number(number.map_or_else(|| format::NONE.to_owned(), figure))
        };
        vec![
            Cell::from(name),
            Cell::number(arm.version.to_string()),
            Cell::number(count(arm.outcomes)),
            Cell::number(count(arm.consumers)),
            known(arm.mean),
            known(arm.deviation),
        ]
    };
    let control = if stage.control_frozen { "control (as it was)" } else { "control" };
    let rows = vec![row(control, stage.control.as_ref()), row("canary", stage.canary.as_ref())];
    let mut lines = Vec::new();
    lines.push(match stage.lift {
        Some(lift) => format!("  lift {}", format::lift(lift)),
        None => "  lift undefined: the control's mean may be 0, or there is none yet".to_owned(),
    });
    lines.push(match stage.p_harm {
        Some(p) => format!(
            "  p_harm = {}, valid however often it is looked at; harm below {}",
            p_value(p),
            p_value(stage.alpha)
        ),
        None => format!("  nothing to judge by yet; harm is a p below {}", p_value(stage.alpha)),
    });
    if stage.control_frozen {
        lines
            .push("  nobody uses the control any more: what was reported until then stands".into());
    }
    let left_out = [
        (stage.late, "from before the stage"),
        (stage.other_version, "of other versions"),
        (stage.rejected, "no numbers"),
    ];
    let left_out: Vec<_> = left_out
        .iter()
        .filter(|(outcomes, _)| *outcomes > 0)
        .map(|(outcomes, what)| format!("{} {what}", count(*outcomes)))
        .collect();
    if !left_out.is_empty() {
        lines.push(format!("  outcomes that don't count: {}", left_out.join(", ")));
    }
    Part { title, columns: ARM_COLUMNS, rows, lines }
}

/// What somebody who looks at it may want to type.
fn next(rollout: &Rollout, active: Option<u64>) -> Option<Part> {
    let in_use = active.is_none_or(|active| active == rollout.version);
    let lines = match (rollout.ended_at.is_some(), rollout.outcome.as_str()) {
        (false, _) => vec![
            "`genesisctl matrix rollout abort --reason ...` ends it, and all consumers use the control".to_owned(),
            "`genesisctl matrix rollout advance --reason ...` goes on without more outcomes".to_owned(),
        ],
        (true, ACTIVE) if in_use => vec![format!(
            "`genesisctl matrix rollback --reason ...` goes back to version {}",
            rollout.control
        )],
        (true, _) => vec![format!(
            "`genesisctl matrix show --version {}` has what it was held against",
            rollout.version
        )],
    };
    let lines = lines.iter().map(|line| format!("  {line}")).collect();
    Some(Part { title: "next".to_owned(), lines, ..Part::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_only_where_nothing_is_lacking() {
        let full = |found, needed| bar(found, needed).chars().filter(|c| *c == '█').count();
        for (found, needed, wanted) in [
            (0, 100, 0),
            (4, 100, 0),
            (50, 100, 10),
            (99, 100, 19),
            (100, 100, 20),
            (u64::MAX, 1, 20),
            (0, 0, 20),
            (u64::MAX - 1, u64::MAX, 19),
        ] {
            assert_eq!(full(found, needed), wanted, "{found} of {needed}");
            assert_eq!(bar(found, needed).chars().count(), WIDTH);
        }
    }
}
