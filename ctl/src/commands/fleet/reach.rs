//! How far an emergency of the fleet has got.

use genesis_client::v1::{Emergency, FleetMember, FleetReach};

use crate::exit::Exit;
use crate::format;
use crate::render::{Cell, Part, View};

const COLUMNS: &[&str] = &["MEMBER", "IN FORCE", "NODE"];
/// So many members are named in a line.
const NAMED: usize = 10;
/// So many of those are listed that have said what they should.
const SHOWN: usize = 50;

/// Whether a member has said what all are to say. One that is gone may live all the same; of two hosts with one identity only one can.
fn has_said(member: &FleetMember, emergency: bool) -> bool {
    let known = member.alive && !member.unreadable && member.twins.is_empty();
    known && member.emergency == emergency
}

/// As [`reached`], of an answer; where the fleet was asked for and the answer has none, nobody else was told.
pub(in crate::commands) fn told(
    view: &mut View,
    (asked, reach): (bool, Option<&FleetReach>),
    emergency: bool,
) -> Exit {
    match reach {
        Some(reach) => reached(view, reach, emergency),
        None if asked => {
            view.lead.push(
                "it was done on this host only: its agent is older than fleets are".to_owned(),
            );
            Exit::Unknown
        }
        None => Exit::Ok,
    }
}

/// Adds to a view how far it has got; the exit code says whether it is known to be all the way. `emergency`: one was
/// declared, otherwise one was released.
fn reached(view: &mut View, reach: &FleetReach, emergency: bool) -> Exit {
    let (there, missing): (Vec<&FleetMember>, Vec<&FleetMember>) =
        reach.members.iter().partition(|member| has_said(member, emergency));
    let (count, all) = (there.len(), reach.members.len() as u64);
    let what = if emergency { "is in force" } else { "is over" };
    view.lead.push(match all {
        0 => format!("on which members of the fleet it {what} is not known"),
        all => format!("in the fleet it {what} on {count} of {}", format::plural(all, "member")),
    });
    match emergency {
        true => view.lead.extend(names("have not said so", &missing)),
        false => {
            let (alive, gone): (Vec<_>, Vec<_>) = missing.iter().partition(|member| member.alive);
            view.lead.extend(names("have one still", &alive));
            view.lead.extend(names("are not heard of", &gone));
        }
    }
    if !reach.told {
        let why = if reach.trouble.is_empty() { "it has not said so" } else { &reach.trouble };
        let then = if emergency { "; it is told as soon as etcd answers" } else { "" };
        view.lead.push(format!("the fleet's record does not say so yet: {why}{then}"));
    }
    let whole = reach.told && missing.is_empty() && all > 0;
    if !whole {
        let next = match emergency {
            // Then `--all` does not know them either.
            true if reach.members.is_empty() => {
                "call each host directly: `genesisctl emergency activate -n NODE,NODE --yes --reason TEXT`; `genesisctl fleet \
                 status` says what became of etcd"
            }
            true => {
                "call each of them directly: `genesisctl emergency activate --all --yes --reason TEXT`; who they are: \
                 `genesisctl fleet members`"
            }
            false => {
                "one of a host's own ends there: `genesisctl emergency release -n NODE --reason TEXT`; who has one: \
                 `genesisctl fleet members`"
            }
        };
        view.lead.push(next.to_owned());
    }
    if let Some(gone) = missing.iter().find(|member| !member.alive) {
        view.lead.push(format!(
            "a host that is gone for good is forgotten: `genesisctl fleet forget {}`",
            gone.hostname
        ));
    }
    let left = there.len().saturating_sub(SHOWN);
    let rows = missing.iter().chain(there.iter().take(SHOWN)).map(|it| row(it, emergency));
    view.parts.push(Part {
        title: "Members".to_owned(),
        columns: COLUMNS,
        rows: rows.collect(),
        lines: (left > 0)
            .then(|| format!("and {left} more, on which it {what}"))
            .into_iter()
            .collect(),
    });
    view.parts.retain(|part| !part.rows.is_empty());
    if whole { Exit::Ok } else { Exit::Unknown }
}

/// Names some, and says how many more there are.
fn names(said: &str, members: &[&FleetMember]) -> Option<String> {
    let mut named: Vec<&str> = members.iter().take(NAMED).map(|it| it.hostname.as_str()).collect();
    let more = format!("{} more", members.len().saturating_sub(NAMED));
    named.extend((members.len() > NAMED).then_some(more.as_str()));
    (!named.is_empty()).then(|| format!("{said}: {}", named.join(", ")))
}

fn row(member: &FleetMember, emergency: bool) -> Vec<Cell> {
    let in_force = match member.emergency {
        _ if !member.twins.is_empty() => {
            format!("unknown: {} have one identity", member.twins.join(", "))
        }
        _ if !member.alive => "unknown: it is not heard of".to_owned(),
        _ if member.unreadable => "unknown: what it tells can't be read".to_owned(),
        false => "no".to_owned(),
        true => "yes".to_owned(),
    };
    vec![
        Cell::from(member.hostname.as_str()),
        Cell::alert(in_force, !has_said(member, emergency)),
        Cell::from(format::or_none(&member.node)),
    ]
}

/// How the emergency that is in force on a host stands to its fleet: in a word, and in a line. `None`: it is the host's
/// alone.
pub(in crate::commands) fn stands(emergency: &Emergency) -> Option<(&'static str, String)> {
    let (epoch, only) = (emergency.fleet_epoch, emergency.fleet_only);
    match emergency.fleet_told {
        true if only => Some((
            "the fleet's",
            format!(
                "it is the fleet's, number {epoch}, and ends with that: `genesisctl emergency release --fleet --reason TEXT`"
            ),
        )),
        true => Some((
            "and the fleet's",
            format!(
                "the fleet has one too, number {epoch}; this host's own was in force before, and stays when that is over"
            ),
        )),
        false if epoch > 0 => Some((
            "fleet NOT told",
            "it is to be the whole fleet's, which has NOT been told yet; that is done as soon as etcd answers. Until then \
             tell the others: `genesisctl emergency activate -n NODE,NODE --yes --reason TEXT`"
                .to_owned(),
        )),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host: &str, emergency: bool) -> FleetMember {
        FleetMember { hostname: host.into(), alive: true, emergency, ..FleetMember::default() }
    }

    #[test]
    fn only_what_all_have_said_is_all_the_way() {
        let reach = |told: bool, members: Vec<FleetMember>| FleetReach {
            told,
            trouble: String::new(),
            members,
        };
        let twins = vec!["b".to_owned(), "copy".to_owned()];
        let twice = FleetMember { twins, ..member("b", true) };
        let gone = |emergency| FleetMember { alive: false, ..member("b", emergency) };
        for (reach, emergency, is) in [
            (reach(true, vec![member("a", true), member("b", true)]), true, Exit::Ok),
            (reach(true, vec![member("a", true), member("b", false)]), true, Exit::Unknown),
            (reach(true, vec![member("a", true), twice]), true, Exit::Unknown),
            (reach(true, vec![member("a", true), gone(true)]), true, Exit::Unknown),
            (reach(true, vec![member("a", false), gone(false)]), false, Exit::Unknown),
            (reach(false, vec![member("a", true)]), true, Exit::Unknown),
            (reach(true, Vec::new()), true, Exit::Unknown),
            (reach(true, vec![member("a", false)]), false, Exit::Ok),
            (reach(true, vec![member("a", false), member("b", true)]), false, Exit::Unknown),
        ] {
            let mut view = View::default();
            assert_eq!(reached(&mut view, &reach, emergency), is, "{reach:?}");
            let counted = match reach.members.len() {
                0 => "is not known".to_owned(),
                all => format!("of {all} member"),
            };
            assert!(view.lead[0].contains(&counted), "{:?}", view.lead);
        }
    }

    #[test]
    fn an_agent_that_knows_of_no_fleets_has_told_nobody() {
        let mut view = View::default();
        assert_eq!(told(&mut view, (false, None), true), Exit::Ok);
        assert!(view.lead.is_empty());
        assert_eq!(told(&mut view, (true, None), true), Exit::Unknown);
        assert!(view.lead[0].contains("on this host only"), "{:?}", view.lead);
    }

    #[test]
    fn of_many_members_those_are_told_of_that_have_not_said_so() {
        let mut members: Vec<FleetMember> =
            (0..200).map(|number| member(&format!("gw-{number}"), true)).collect();
        members.extend((0..12).map(|number| member(&format!("late-{number}"), false)));
        let mut view = View::default();
        let reach = FleetReach { told: true, trouble: String::new(), members };
        assert_eq!(reached(&mut view, &reach, true), Exit::Unknown);
        assert_eq!(view.lead[0], "in the fleet it is in force on 200 of 212 members");
        assert!(view.lead[1].ends_with("late-9, 2 more"), "{:?}", view.lead);
        assert_eq!(view.parts[0].rows.len(), 12 + SHOWN);
        assert_eq!(view.parts[0].lines, ["and 150 more, on which it is in force"]);
    }

    #[test]
    fn whose_an_emergency_is() {
        let of = |fleet_epoch, fleet_only, fleet_told| {
            let emergency =
                Emergency { fleet_epoch, fleet_only, fleet_told, ..Emergency::default() };
            stands(&emergency).map(|(word, _)| word)
        };
        assert_eq!(of(0, false, false), None);
        assert_eq!(of(7, true, false), Some("fleet NOT told"));
        assert_eq!(of(7, true, true), Some("the fleet's"));
        assert_eq!(of(7, false, true), Some("and the fleet's"));
        // A record of the fleet that can't be read has no number.
        assert_eq!(of(0, true, true), Some("the fleet's"));
    }
}
