//! What somebody asks for: where it goes, by which steps, what is demanded for it, and how it is undone.

use genesis_storage::RollbackRecord;

use super::choose::Evidence;
use super::{Care, Dispatcher, Point, RollbackPlan, Way, Wish, bounded, choose};
use crate::error::{Error, Kind, Result, Unmet};
use crate::plan::{Plan, demand_reason};

impl Dispatcher {
    /// What is known of a component's points beside when they were in force.
    pub(super) async fn evidence(&self, component: &str, points: &[Point]) -> Evidence {
        let stays = points.iter().flat_map(|it| it.stays.clone()).collect();
        let told = self.0.surroundings.evidence(component, stays, (self.0.settled)()).await;
        let left = match self.past(Some(component), usize::MAX) {
            Ok(past) => choose::left_by(&past, points),
            // What can't be told is never good.
            Err(_) => return Evidence::default(),
        };
        Evidence { left, ..told }
    }

    /// Plans a rollback.
    ///
    /// # Errors
    /// `COMPONENT_NOT_FOUND`, `POINT_NOT_FOUND`, `NO_EARLIER_POINT`, `POINT_NOT_NAMED`, `ARGUMENT_NOT_TAKEN`, or the
    /// component's refusal.
    pub async fn plan(&self, wish: &Wish) -> Result<RollbackPlan> {
        let name = wish.component.as_str();
        let component = self.component(name).await?;
        let care = component.care();
        taken(&care, wish)?;
        let points = bounded(component.points().await?);
        let current = component.current().await?.ok_or_else(|| {
            let why = "it has no recorded state yet, so there is nothing to go back to";
            no_earlier(name, why)
        })?;
        let evidence = self.evidence(name, &points).await;
        let at = (self.0.clock.now(), (self.0.settled)());
        let list = format!("`genesisctl rollback points --component {name}` lists them");
        let target = match wish.to.as_str() {
            "" if care.named => {
                let message = format!("{name} goes back to no point by itself: name one with --to; {list}");
                return Err(Error::invalid("POINT_NOT_NAMED", message));
            }
            "" => choose::default_target(&points, &current, at, &evidence).map_err(|against| {
                let against: Vec<String> =
                    against.into_iter().take(3).map(|(id, why)| format!("{id}: {why}")).collect();
                let but = match against.is_empty() {
                    true => "there is no other before it".to_owned(),
                    false => format!("{}; --to names one all the same", against.join("; ")),
                };
                no_earlier(
                    name,
                    &format!("it has no earlier point that is known to be good and differs from the current one ({but})"),
                )
            })?,
            to => points.iter().find(|point| point.id == to).ok_or_else(|| {
                let shown: String = to.chars().take(64).collect();
                Error::not_found("POINT_NOT_FOUND", format!("{name} has no point {shown:?}; {list}"))
            })?,
        };
        let known = choose::known(&points, target, at, &evidence);
        let way = Way { from: &current, to: target, into: &wish.into };
        let already = component.in_force(target, &current).await?;
        let (steps, diff) = match already {
            true => (Vec::new(), String::new()),
            false => (component.plan(way).await?, component.diff(way).await?),
        };
        let situation =
            [name, &current.id, &current.digest, &target.id, &target.digest, &wish.into];
        let plan = Plan::new("rollback", &situation, steps);
        Ok(RollbackPlan { plan, target: target.clone(), known, current, diff, care, already })
    }

    /// The command that undoes a rollback; empty: there is nothing to undo.
    pub(super) async fn undo(&self, record: &RollbackRecord) -> String {
        let Ok(component) = self.component(&record.component).await else { return String::new() };
        let Some(to) = component.undone_by(record) else { return String::new() };
        let care = component.care();
        let mut command = format!(
            "genesisctl rollback --component {} --to {}",
            shell(&record.component),
            shell(&to)
        );
        if !care.typed.is_empty() {
            command.push_str(&format!(" --confirm {}", shell(&care.typed)));
        }
        if care.reason {
            command.push_str(&format!(" --reason 'undo {}'", record.id));
        }
        command
    }
}

/// A word as a shell takes it as one.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@%+=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn no_earlier(name: &str, why: &str) -> Error {
    let message = format!("{name} can't be rolled back: {why}");
    let unmet =
        Unmet { code: "NO_EARLIER_POINT", subject: name.to_owned(), message: message.clone() };
    Error::refused("NO_EARLIER_POINT", message, vec![unmet])
}

/// Refuses what a component takes no notice of: whoever says it means something else.
fn taken(care: &Care, wish: &Wish) -> Result<()> {
    let superfluous = [
        ("--into", "it is not restored to a place of its own", !wish.into.is_empty() && !care.into),
        ("--confirm", "no name is typed for it", !wish.confirm.is_empty() && care.typed.is_empty()),
    ];
    match superfluous.iter().find(|(.., said)| *said) {
        None => Ok(()),
        Some((argument, why, _)) => {
            let message =
                format!("{} takes no {argument}: {why}; nothing was done", wish.component);
            Err(Error::invalid("ARGUMENT_NOT_TAKEN", message))
        }
    }
}

/// What may be said against a rollback before anything is done.
pub(super) fn demands(care: &Care, wish: &Wish, reason: &str) -> Result<()> {
    if care.admin && !wish.admin {
        let message = format!("rolling {} back wants the role of an admin", wish.component);
        return Err(Error::new(Kind::NotAllowed, "ROLE_MISSING", message));
    }
    if care.reason {
        demand_reason(reason, "a rollback is told with a reason")?;
    }
    if !care.typed.is_empty() && wish.confirm != care.typed {
        let message = format!(
            "rolling {} back wants its name to be typed: --confirm {}; nothing was done",
            wish.component, care.typed
        );
        return Err(Error::invalid("NAME_NOT_CONFIRMED", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_a_command_as_it_is() {
        for (word, shown) in [
            ("certificate:api", "certificate:api"),
            ("baseline:place order", "'baseline:place order'"),
            ("it's; rm", "'it'\\''s; rm'"),
            ("", "''"),
        ] {
            assert_eq!(shell(word), shown);
        }
    }
}
