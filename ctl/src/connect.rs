//! One invocation's nodes, console and limits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use genesis_client::{
    Context, DEFAULT_CONNECT_TIMEOUT, DEFAULT_TIMEOUT, Error, Kind, Node, Options, Tls,
};
use prost::Message;
use serde_json::Value;

use crate::cli::{Format, Global};
use crate::commands::context;
use crate::console::Console;
use crate::exit::{Halt, Stop};
use crate::membership::OfFleet;
use crate::progress::Bar;
use crate::render;

/// The most nodes that one invocation takes.
pub(crate) const MAX_NODES: usize = 4096;

/// What a command works with.
pub(crate) struct Session<'a> {
    pub(crate) global: &'a Global,
    pub(crate) nodes: Vec<Node>,
    /// The local sockets that were considered, where no node was named.
    considered: Vec<Node>,
    /// What secures the connections over TCP.
    tls: Option<Tls>,
    console: RefCell<&'a mut Console>,
    /// When the time of each node that is called is over.
    pub(crate) deadlines: RefCell<HashMap<Node, tokio::time::Instant>>,
    /// Whether the command changes something: then a reader that leaves does not end it.
    pub(crate) changing: Cell<bool>,
    /// Whether it changes something that can wait until nodes are seen to be well.
    pub(crate) gated: Cell<bool>,
    /// Whether whoever read standard output has left.
    pub(crate) unheard: Cell<bool>,
    /// Whether members of the fleet may be missing among the nodes.
    pub(crate) members_unknown: Cell<bool>,
    /// The hosts of the nodes that nobody named: members of the fleet.
    pub(crate) of_fleet: BTreeMap<Node, OfFleet>,
    /// No context says which nodes are all: the fleet has to.
    pub(crate) only_by_fleet: bool,
    /// The command that shows how far it is with what goes on when nobody waits any more.
    pub(crate) shows: RefCell<String>,
    /// The trace that all calls of this command belong to, on whichever node.
    trace_id: String,
}

impl<'a> Session<'a> {
    /// Finds the nodes; connects to none yet. `members`: those of the fleet will be called as well.
    pub(crate) fn open(
        global: &'a Global,
        members: bool,
        console: &'a mut Console,
    ) -> Result<Self, Halt> {
        let env = |name: &str| console.env.get(name).cloned();
        let usage = |error: genesis_client::NodeError| Halt::Usage(error.to_string());
        let listed = env("GENESISCTL_NODES").is_some_and(|list| !list.trim().is_empty());
        let named = if !global.nodes.is_empty() {
            global.nodes.clone()
        } else if listed && !global.all {
            genesis_client::discover(env).map_err(usage)?
        } else {
            Vec::new()
        };
        let context = context::chosen(global, &named, members, env)?;
        let of_context = context.as_ref().map(Context::nodes).unwrap_or_default();
        // What the command line says goes before what the environment says.
        let by_context =
            global.context.is_some() && global.nodes.is_empty() && !of_context.is_empty();
        let only_by_fleet = global.all && of_context.is_empty();
        let (found, considered) = if !named.is_empty() && !by_context {
            (named, Vec::new())
        } else if !of_context.is_empty() {
            (of_context.to_owned(), Vec::new())
        } else {
            let considered = genesis_client::local_sockets(env).map_err(usage)?;
            let exists = |node: &Node| matches!(node, Node::Unix(path) if path.exists());
            if only_by_fleet && !listed && !considered.iter().any(exists) {
                return Err(Halt::Usage(context::NONE_CHOSEN.to_owned()));
            }
            (genesis_client::discover(env).map_err(usage)?, considered)
        };
        let mut nodes: Vec<Node> = Vec::with_capacity(found.len().min(MAX_NODES));
        for node in found {
            // Named twice, it is still one node.
            if !nodes.contains(&node) {
                nodes.push(node);
            }
            if nodes.len() > MAX_NODES {
                return Err(Halt::Usage(format!("more than {MAX_NODES} nodes: split the call")));
            }
        }
        // Members of the fleet may be reached by TCP, also where the context has sockets only.
        let secured = members || nodes.iter().any(|node| matches!(node, Node::Tcp { .. }));
        let tls = match &context {
            Some(context) if secured => context.tls()?,
            _ => None,
        };
        let session = Self {
            global,
            nodes,
            considered,
            tls,
            console: RefCell::new(console),
            deadlines: RefCell::default(),
            changing: Cell::new(false),
            gated: Cell::new(false),
            unheard: Cell::new(false),
            members_unknown: Cell::new(false),
            of_fleet: BTreeMap::new(),
            only_by_fleet,
            shows: RefCell::new("genesisctl run list".to_owned()),
            trace_id: genesis_client::new_trace(),
        };
        session.check_plan_hash()?;
        Ok(session)
    }

    /// A plan is that of one node.
    pub(crate) fn check_plan_hash(&self) -> Result<(), Halt> {
        if self.global.plan_hash.is_some() && self.many() {
            return Err(Halt::Usage(format!(
                "--plan-hash names the plan of one node, and {} are named: name one with -n",
                self.nodes.len()
            )));
        }
        Ok(())
    }

    /// Whether several nodes are called.
    pub(crate) fn many(&self) -> bool {
        self.nodes.len() > 1
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn format(&self) -> Format {
        self.global.output
    }

    /// Whether people read the answer.
    pub(crate) fn for_people(&self) -> bool {
        self.format() == Format::Table
    }

    pub(crate) fn interactive(&self) -> bool {
        self.console.borrow().interactive()
    }

    /// The plan that alone may be carried out; empty: whichever it is.
    pub(crate) fn plan_hash(&self) -> String {
        self.global.plan_hash.clone().unwrap_or_default()
    }

    /// The console, for as long as `f` runs.
    pub(crate) fn console<T>(&self, f: impl FnOnce(&mut Console) -> T) -> T {
        f(&mut self.console.borrow_mut())
    }

    /// Says something on standard error, unless `--quiet`.
    pub(crate) fn note(&self, line: &str) {
        if !self.global.quiet {
            self.warn(line);
        }
    }

    /// Says something on standard error.
    pub(crate) fn warn(&self, line: &str) {
        self.console(|console| render::stderr_line(console, line));
    }

    /// A progress bar, where one may be drawn.
    pub(crate) fn bar(&self, what: &str) -> Bar {
        let visible = self.console.borrow().progress && !self.global.quiet && !self.many();
        Bar::new(visible, what)
    }

    /// A node to which all that is sent goes in plain text over TCP, if there is one.
    pub(crate) fn in_plain_text(&self) -> Option<&Node> {
        let tcp = |node: &&Node| matches!(node, Node::Tcp { .. });
        if self.tls.is_some() { None } else { self.nodes.iter().find(tcp) }
    }

    /// The command needs exactly one node.
    pub(crate) fn one_node(&self, command: &str) -> Result<(), Halt> {
        match self.nodes.len() {
            1 => Ok(()),
            count => Err(Halt::Usage(format!(
                "`{command}` takes one node at a time, {count} are named: name one with -n"
            ))),
        }
    }

    /// The JSON of a message of the contract; nothing where nobody asked for JSON.
    pub(crate) fn json<M: Message>(&self, name: &str, message: &M) -> Result<Value, Error> {
        if self.for_people() {
            return Ok(Value::Null);
        }
        genesis_proto::to_json(&format!("genesis.v1.{name}"), message).map_err(|error| {
            let message = format!("can't show the answer as JSON: {error}");
            let next = "compare the versions with `genesisctl version`; use -o table meanwhile";
            Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", message, next)
        })
    }

    /// Applies `--timeout`, if given, to something that takes more than one call.
    pub(crate) async fn limited<T>(
        &self,
        node: &Node,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let Some(limit) = self.global.timeout else { return work.await };
        let deadline = self.deadlines.borrow().get(node).copied();
        let ended = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, work).await,
            None => tokio::time::timeout(limit, work).await,
        };
        match ended {
            Ok(result) => result,
            Err(_) => {
                let limit = crate::format::duration(limit);
                let message = format!("{node}: not finished within {limit}");
                let shows = self.shows.borrow();
                let next = format!("what was started goes on (`{shows}`); give more --timeout");
                let code = "DEADLINE_EXCEEDED";
                Err(Error::new(Kind::Incomplete, code, "NOT_FINISHED", message, next).into())
            }
        }
    }

    pub(crate) fn options(&self) -> Options {
        let timeout = self.global.timeout.unwrap_or(DEFAULT_TIMEOUT);
        Options {
            timeout,
            connect_timeout: timeout.clamp(Duration::from_millis(1), DEFAULT_CONNECT_TIMEOUT),
            reason: self.global.reason.clone(),
            request_id: self.global.request_id.clone(),
            trace_id: Some(self.trace_id.clone()),
            tls: self.tls.clone(),
        }
    }

    /// The library's advice in the words of this program.
    pub(crate) fn advised(&self, node: &Node, error: Error) -> Error {
        if error.reason != "AGENT_UNREACHABLE" {
            return error;
        }
        if let Some(host) = self.of_fleet.get(node) {
            return error.with_next(host.advice());
        }
        let mut next = "start it with `genesis-agent`, or name another with -n".to_owned();
        let others: Vec<_> = self
            .considered
            .iter()
            .filter(|node| !self.nodes.contains(node))
            .map(ToString::to_string)
            .collect();
        if !others.is_empty() {
            next = format!("{next}; there is none at {} either", others.join(", "));
        }
        error.with_next(next)
    }
}
