//! How far an emergency of the fleet has got.

use genesis_client::v1::{FleetMember, FleetReach};

use super::part;
use crate::exit::Exit;
use crate::format;
use crate::render::View;

/// Adds to a view how far it has got; the exit code says whether it is known to be all the way. `emergency`: one was
/// declared, otherwise one was released.
pub(in crate::commands) fn reached(view: &mut View, reach: &FleetReach, emergency: bool) -> Exit {
    let (there, missing): (Vec<&FleetMember>, Vec<&FleetMember>) =
        reach.members.iter().partition(|member| member.emergency == emergency);
    let (count, all) = (there.len(), reach.members.len() as u64);
    let what = if emergency { "is in force" } else { "is over" };
    view.lead
        .push(format!("in the fleet it {what} on {count} of {}", format::plural(all, "member")));
    if !reach.told {
        let why = if reach.trouble.is_empty() { "it has not said so" } else { &reach.trouble };
        let then = if emergency { "; it is told as soon as etcd answers" } else { "" };
        view.lead.push(format!("the fleet's record does not say so yet: {why}{then}"));
    }
    if !missing.is_empty() {
        let title = match emergency {
            true => "Members that have not said that it is in force",
            false => "Members with an emergency still",
        };
        view.parts.push(part(title.to_owned(), &missing));
    }
    let whole = reach.told && missing.is_empty() && all > 0;
    if !whole {
        view.lead.push(match emergency {
            true => "call each of them directly: `genesisctl emergency activate --all --yes --reason TEXT`".to_owned(),
            false => "one of a host's own ends there: `genesisctl emergency release -n NODE --reason TEXT`".to_owned(),
        });
    }
    if whole { Exit::Ok } else { Exit::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_have_said_is_all_the_way() {
        let member = |host: &str, emergency: bool| FleetMember {
            hostname: host.into(),
            alive: true,
            emergency,
            ..FleetMember::default()
        };
        let reach = |told: bool, members: Vec<FleetMember>| FleetReach {
            told,
            trouble: String::new(),
            members,
        };
        for (reach, emergency, is) in [
            (reach(true, vec![member("a", true), member("b", true)]), true, Exit::Ok),
            (reach(true, vec![member("a", true), member("b", false)]), true, Exit::Unknown),
            (reach(false, vec![member("a", true)]), true, Exit::Unknown),
            (reach(true, Vec::new()), true, Exit::Unknown),
            (reach(true, vec![member("a", false)]), false, Exit::Ok),
            (reach(true, vec![member("a", false), member("b", true)]), false, Exit::Unknown),
        ] {
            let mut view = View::default();
            assert_eq!(reached(&mut view, &reach, emergency), is, "{reach:?}");
            assert!(view.lead[0].contains(&format!("of {} member", reach.members.len())));
        }
    }
}
