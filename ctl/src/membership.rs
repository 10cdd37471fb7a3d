//! `--all` in a fleet: every member is called, besides the nodes of the context.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use genesis_client::v1::{
    FleetMember, FleetStanding, GetFleetStatusRequest, GetFleetStatusResponse,
    ListFleetMembersRequest,
};
use genesis_client::{Client, Error, Kind, Node, Options};

use crate::commands::context;
use crate::connect::{MAX_NODES, Session};
use crate::exit::Halt;

/// A node that has not told of its fleet by then is not waited for.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Nor are all of them for longer than this.
const IN_ALL: Duration = Duration::from_secs(3);
/// So many nodes are asked at a time.
const ASKED: usize = 32;

/// A host that nobody named, and that is called as a member of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfFleet {
    host: String,
    gone: bool,
}

impl OfFleet {
    /// What to do about one that does not answer, other than to start it.
    pub(crate) fn advice(&self) -> String {
        format!(
            "start its agent; where {} is gone for good: `genesisctl fleet forget {}`",
            self.host, self.host
        )
    }
}

impl fmt::Display for OfFleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = if self.gone { ", which is gone" } else { "" };
        write!(f, "{}{gone}, of the fleet", self.host)
    }
}

/// What a node tells of the members.
type Answer = Result<Vec<FleetMember>, Error>;

/// What nodes told of their fleet.
#[derive(Debug, Default)]
struct Told {
    /// Of one or more fleets, each host once.
    members: Vec<FleetMember>,
    /// The hosts that the nodes themselves are.
    selves: BTreeSet<String>,
    /// Some node knew its members.
    known: bool,
    /// Some node is of no fleet.
    alone: bool,
    /// Why one that is of a fleet did not know them.
    trouble: Option<String>,
    /// Why one could not be asked.
    away: Option<String>,
}

impl Told {
    /// `host`: the node's own, where it has said that.
    fn take(&mut self, node: &Node, (host, answer): (Option<String>, Answer)) {
        self.selves.extend(host);
        match answer {
            Ok(members) => {
                self.known = true;
                for member in members {
                    if member.self_ {
                        self.selves.insert(member.host_id.clone());
                    }
                    if self.members.iter().all(|it| it.host_id != member.host_id) {
                        self.members.push(member);
                    }
                }
            }
            // It is of none, or is older than fleets are.
            Err(error) if error.reason == "FLEET_UNCONFIGURED" || error.code == "UNIMPLEMENTED" => {
                self.alone = true;
            }
            Err(error) => {
                // An agent that waits for etcd is there, and does not answer.
                let asked = error.reason == "AGENT_TIMEOUT" || error.kind != Kind::Unreachable;
                let told = if asked { &mut self.trouble } else { &mut self.away };
                let node = node.to_string();
                told.get_or_insert_with(|| match error.message.contains(&node) {
                    true => error.message.clone(),
                    false => format!("{node}: {}", error.message),
                });
            }
        }
    }

    /// Why there may be members that nobody has told of; `None`: there are none.
    fn unknown(&self) -> Option<&str> {
        match (&self.trouble, &self.away) {
            _ if self.known => None,
            (Some(trouble), _) => Some(trouble),
            // Nodes of no fleet have no members that one which is away could know.
            (None, Some(away)) if !self.alone => Some(away),
            (None, _) => None,
        }
    }

    /// The nodes of members that are not among these, neither by their address nor by their host; with what each is
    /// called.
    fn others(&self, nodes: &[Node]) -> (Vec<(Node, OfFleet)>, Vec<String>) {
        let (mut others, mut odd) = (Vec::new(), Vec::new());
        // Of two hosts with one identity a node is only one.
        let other = |it: &&FleetMember| !it.twins.is_empty() || !self.selves.contains(&it.host_id);
        for member in self.members.iter().filter(other) {
            let host = OfFleet { host: member.hostname.clone(), gone: !member.alive };
            match member.node.parse::<Node>() {
                Ok(node)
                    if nodes.contains(&node) || others.iter().any(|(other, _)| *other == node) => {}
                Ok(node) => others.push((node, host)),
                Err(_) => odd.push(format!("{} ({:?})", member.hostname, member.node)),
            }
        }
        (others, odd)
    }
}

impl Session<'_> {
    /// Takes the members of the fleet in that the nodes are of. Where they are not known, only the nodes are called, and
    /// the command ends as incomplete.
    pub(crate) async fn take_members_in(&mut self) -> Result<(), Halt> {
        let mut told = Told::default();
        {
            let limit = self.global.timeout.unwrap_or(PATIENCE).min(PATIENCE);
            let options = Options { timeout: limit, connect_timeout: limit, ..self.options() };
            let options = Options { request_id: None, ..options };
            let asked = self.nodes.iter().map(|node| {
                let options = options.clone();
                async move { (node, members(node, options).await) }
            });
            let mut answers = futures_util::stream::iter(asked).buffer_unordered(ASKED);
            let end = tokio::time::sleep(IN_ALL);
            tokio::pin!(end);
            loop {
                tokio::select! {
                    biased;
                    answer = answers.next() => match answer {
                        Some((node, answer)) => told.take(node, answer),
                        None => break,
                    },
                    () = &mut end => {
                        told.trouble.get_or_insert_with(|| "not all nodes could be asked in time".to_owned());
                        break;
                    }
                }
            }
        }
        let (others, odd) = told.others(&self.nodes);
        if let Some(why) = told.unknown() {
            self.members_unknown.set(true);
            self.warn(&format!(
                "the members of the fleet are not known ({why}): only {} {} called",
                crate::format::plural(self.nodes.len() as u64, "node"),
                if self.many() { "are" } else { "is" }
            ));
        } else if self.only_by_fleet && !told.known {
            return Err(Halt::Usage(context::NONE_CHOSEN.to_owned()));
        }
        let twice: Vec<String> = told
            .members
            .iter()
            .filter(|it| !it.twins.is_empty())
            .map(|it| it.twins.join(" and "))
            .collect();
        if !twice.is_empty() {
            self.members_unknown.set(true);
            self.warn(&format!(
                "{}: they have one identity, and it is not known whether each was called",
                twice.join("; ")
            ));
        }
        if !odd.is_empty() {
            self.members_unknown.set(true);
            self.warn(&format!("members that can't be called: {}", odd.join(", ")));
        }
        if self.nodes.len() + others.len() > MAX_NODES {
            return Err(Halt::Usage(format!("more than {MAX_NODES} nodes: name them with -n")));
        }
        self.nodes.extend(others.iter().map(|(node, _)| node.clone()));
        self.of_fleet = others.into_iter().collect();
        self.check_plan_hash()
    }
}

/// The host that a node is, where that can be had, and the members that it knows.
async fn members(node: &Node, options: Options) -> (Option<String>, Answer) {
    let asked = async {
        let client = Client::connect(node, options).await?;
        let request = GetFleetStatusRequest {};
        let status =
            client.call(request, |c, r| async move { c.fleet().get_fleet_status(r).await }).await?;
        Ok((client, status))
    };
    match asked.await {
        Ok((client, status)) => {
            let host = Some(status.host_id.clone()).filter(|host| !host.is_empty());
            (host, members_by(node, &client, &status).await)
        }
        Err(error) => (None, Err(error)),
    }
}

async fn members_by(node: &Node, client: &Client, status: &GetFleetStatusResponse) -> Answer {
    let cut_off = || {
        let message = format!("{node} can't reach etcd: {}", status.trouble);
        let next = "see `genesisctl fleet status`";
        Error::new(Kind::Refused, "FAILED_PRECONDITION", "FLEET_UNREACHABLE", message, next)
    };
    // It would wait for a while, and for nothing.
    if status.standing() == FleetStanding::Lost {
        return Err(cut_off());
    }
    let request = ListFleetMembersRequest {};
    let told = client.call(request, |c, r| async move { c.fleet().list_fleet_members(r).await });
    match told.await {
        Ok(told) => Ok(told.members),
        Err(error) if error.reason == "AGENT_TIMEOUT" && !status.trouble.is_empty() => {
            Err(cut_off())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host_id: &str, node: &str, own: bool) -> FleetMember {
        FleetMember {
            host_id: host_id.into(),
            hostname: format!("host-{host_id}"),
            node: node.into(),
            self_: own,
            alive: true,
            ..FleetMember::default()
        }
    }

    fn node(text: &str) -> Node {
        text.parse().unwrap()
    }

    #[test]
    fn each_host_is_called_once_whatever_it_is_called() {
        let mut told = Told::default();
        let gone = FleetMember { alive: false, ..member("5", "e:7443", false) };
        let of_a = vec![
            member("1", "a.inner:7443", true),
            member("2", "b:7443", false),
            member("3", "c:7443", false),
            member("4", "no node", false),
            gone,
        ];
        told.take(&node("a:7443"), (None, Ok(of_a.clone())));
        told.take(&node("a:7443"), (None, Ok(of_a)));
        // The first is a:7443 itself, the second is named already.
        let (others, odd) = told.others(&[node("a:7443"), node("b:7443")]);
        assert_eq!(
            others,
            [
                (node("c:7443"), OfFleet { host: "host-3".into(), gone: false }),
                (node("e:7443"), OfFleet { host: "host-5".into(), gone: true })
            ]
        );
        assert_eq!(odd, ["host-4 (\"no node\")"]);
    }

    #[test]
    fn who_is_cut_off_is_no_other_host_and_one_of_two_with_one_identity_is() {
        let members = || vec![member("1", "a:7443", true), member("2", "b.example:7443", false)];
        let away = Error::new(Kind::Refused, "FAILED_PRECONDITION", "FLEET_UNREACHABLE", "x", "y");
        let nodes = [node("a:7443"), node("b:7443")];
        let mut told = Told::default();
        told.take(&nodes[0], (Some("1".into()), Ok(members())));
        told.take(&nodes[1], (Some("2".into()), Err(away)));
        assert_eq!(told.others(&nodes), (Vec::new(), Vec::new()));
        // What a node says of itself is of one of two.
        let twins = vec!["b".to_owned(), "copy".to_owned()];
        let twice = FleetMember { twins, ..member("2", "copy:7443", false) };
        let mut told = Told::default();
        told.take(&nodes[0], (Some("1".into()), Ok(vec![member("1", "a:7443", true), twice])));
        told.take(&nodes[1], (Some("2".into()), Ok(Vec::new())));
        let (others, _) = told.others(&nodes);
        assert_eq!(others.len(), 1, "{others:?}");
    }

    #[test]
    fn whether_members_may_be_missing() {
        let error =
            |kind, code, reason: &str| Err(Error::new(kind, code, reason, "etcd is away", "wait"));
        let known = || Ok(vec![member("1", "a:7443", true)]);
        let alone = || error(Kind::Refused, "FAILED_PRECONDITION", "FLEET_UNCONFIGURED");
        let older = || error(Kind::Internal, "UNIMPLEMENTED", "");
        let cut_off = || error(Kind::Refused, "FAILED_PRECONDITION", "FLEET_UNREACHABLE");
        let late = || error(Kind::Unreachable, "DEADLINE_EXCEEDED", "AGENT_TIMEOUT");
        let away = || error(Kind::Unreachable, "UNAVAILABLE", "AGENT_UNREACHABLE");
        let stranger = || error(Kind::NotAllowed, "PERMISSION_DENIED", "ROLE_MISSING");
        for (answers, unknown) in [
            (vec![known()], false),
            (vec![known(), cut_off()], false),
            (vec![away(), known()], false),
            (vec![alone()], false),
            (vec![older(), away()], false),
            (vec![alone(), away()], false),
            (vec![alone(), cut_off()], true),
            (vec![alone(), late()], true),
            (vec![cut_off()], true),
            (vec![stranger()], true),
            (vec![away()], true),
        ] {
            let mut told = Told::default();
            let said = format!("{answers:?}");
            answers.into_iter().for_each(|answer| told.take(&node("d:7443"), (None, answer)));
            let why = unknown.then_some("d:7443: etcd is away");
            assert_eq!(told.unknown(), why, "{said}");
        }
    }
}
