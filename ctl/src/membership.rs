//! `--all` in a fleet: every member is called, besides the nodes of the context.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use genesis_client::v1::{FleetMember, ListFleetMembersRequest};
use genesis_client::{Client, Error, Node, Options};

use crate::connect::{MAX_NODES, Session};
use crate::exit::Halt;

/// A node that has not told of its fleet by then is not waited for.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// So many nodes are asked at a time.
const ASKED: usize = 32;

/// What nodes told of their fleet.
#[derive(Debug, Default)]
struct Told {
    /// Of one or more fleets, each host once.
    members: Vec<FleetMember>,
    /// The hosts that the nodes themselves are.
    selves: BTreeSet<String>,
    /// Some node knew its members.
    known: bool,
    /// Why one that is of a fleet did not.
    trouble: Option<String>,
}

impl Told {
    fn take(&mut self, node: &Node, answer: Result<Vec<FleetMember>, Error>) {
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
            }
            Err(error) => {
                self.trouble.get_or_insert_with(|| format!("{node}: {}", error.message));
            }
        }
    }

    /// The nodes of members that are not among these: neither by their address nor by their host.
    fn others(&self, nodes: &[Node]) -> (Vec<Node>, Vec<String>) {
        let (mut others, mut odd) = (Vec::new(), Vec::new());
        for member in self.members.iter().filter(|it| !self.selves.contains(&it.host_id)) {
            match member.node.parse::<Node>() {
                Ok(node) if nodes.contains(&node) || others.contains(&node) => {}
                Ok(node) => others.push(node),
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
            while let Some((node, answer)) = answers.next().await {
                told.take(node, answer);
            }
        }
        if !told.known
            && let Some(trouble) = &told.trouble
        {
            self.members_unknown.set(true);
            self.warn(&format!(
                "the members of the fleet are not known ({trouble}): only the {} of the context {} called",
                crate::format::plural(self.nodes.len() as u64, "node"),
                if self.many() { "are" } else { "is" }
            ));
        }
        let (others, odd) = told.others(&self.nodes);
        if !odd.is_empty() {
            self.members_unknown.set(true);
            self.warn(&format!("members that can't be called: {}", odd.join(", ")));
        }
        if self.nodes.len() + others.len() > MAX_NODES {
            return Err(Halt::Usage(format!("more than {MAX_NODES} nodes: name them with -n")));
        }
        self.nodes.extend(others);
        self.check_plan_hash()
    }
}

async fn members(node: &Node, options: Options) -> Result<Vec<FleetMember>, Error> {
    let client = Client::connect(node, options).await?;
    let request = ListFleetMembersRequest {};
    let told = client.call(request, |c, r| async move { c.fleet().list_fleet_members(r).await });
    Ok(told.await?.members)
}

#[cfg(test)]
mod tests {
    use genesis_client::Kind;

    use super::*;

    fn member(host_id: &str, node: &str, own: bool) -> FleetMember {
        FleetMember {
            host_id: host_id.into(),
            hostname: format!("host-{host_id}"),
            node: node.into(),
            self_: own,
            ..FleetMember::default()
        }
    }

    fn node(text: &str) -> Node {
        text.parse().unwrap()
    }

    #[test]
    fn each_host_is_called_once_whatever_it_is_called() {
        let mut told = Told::default();
        let of_a = vec![
            member("1", "a.inner:7443", true),
            member("2", "b:7443", false),
            member("3", "c:7443", false),
            member("4", "no node", false),
        ];
        told.take(&node("a:7443"), Ok(of_a.clone()));
        told.take(&node("a:7443"), Ok(of_a));
        let refused = |reason: &str, code: &'static str| {
            Error::new(Kind::Refused, code, reason, "etcd is away", "wait")
        };
        told.take(&node("d:7443"), Err(refused("FLEET_UNCONFIGURED", "FAILED_PRECONDITION")));
        told.take(&node("d:7443"), Err(refused("", "UNIMPLEMENTED")));
        assert_eq!(told.trouble, None);
        told.take(&node("d:7443"), Err(refused("FLEET_UNREACHABLE", "FAILED_PRECONDITION")));
        assert_eq!(told.trouble.as_deref(), Some("d:7443: etcd is away"));
        // The first is a:7443 itself, the second is named already.
        let (others, odd) = told.others(&[node("a:7443"), node("b:7443")]);
        assert_eq!(others, [node("c:7443")]);
        assert_eq!(odd, ["host-4 (\"no node\")"]);
    }
}
