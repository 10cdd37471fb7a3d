//! One invocation's nodes, and calls to all of them at once.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::StreamExt;
use genesis_client::{
    Client, DEFAULT_CONNECT_TIMEOUT, DEFAULT_TIMEOUT, Error, Kind, Node, Options,
};
use prost::Message;
use serde_json::Value;

use crate::cli::{Format, Global};
use crate::console::Console;
use crate::exit::{Exit, Halt, Stop};
use crate::progress::Bar;
use crate::render::{self, Answer, Row};

/// How many nodes are called at the same time.
const MAX_PARALLEL: usize = 64;

/// The most nodes that one invocation takes.
const MAX_NODES: usize = 4096;

/// What a command works with.
pub(crate) struct Session<'a> {
    pub(crate) global: &'a Global,
    nodes: Vec<Node>,
    /// The local sockets that were considered, where no node was named.
    considered: Vec<Node>,
    console: RefCell<&'a mut Console>,
}

impl<'a> Session<'a> {
    /// Finds the nodes; connects to none yet.
    pub(crate) fn open(global: &'a Global, console: &'a mut Console) -> Result<Self, Halt> {
        let env = |name: &str| console.env.get(name).cloned();
        let usage = |error: genesis_client::NodeError| Halt::Usage(error.to_string());
        let named = !global.nodes.is_empty()
            || env("GENESISCTL_NODES").is_some_and(|list| !list.trim().is_empty());
        let (found, considered) = if !global.nodes.is_empty() {
            (global.nodes.clone(), Vec::new())
        } else if named {
            (genesis_client::discover(env).map_err(usage)?, Vec::new())
        } else {
            let considered = genesis_client::local_sockets(env).map_err(usage)?;
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
        Ok(Self { global, nodes, considered, console: RefCell::new(console) })
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

    /// Calls every node, all at once, and prints what they answer.
    pub(crate) async fn each<F, S>(&self, call: F) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        self.each_beside(Vec::new(), call).await
    }

    /// [`Self::each`], with rows that need no node printed before.
    pub(crate) async fn each_beside<F, S>(&self, rows: Vec<Row>, call: F) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        let (before, many) = (rows.len(), self.many() || !rows.is_empty());
        if self.format() == Format::Jsonl {
            for row in &rows {
                self.console(|console| render::json_line(console, row))?;
            }
        }
        let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
        rows.resize_with(before + self.nodes.len(), || None);
        let call = &call;
        let calls = self.nodes.iter().enumerate().map(|(index, node)| async move {
            let result = match Client::connect(node, self.options()).await {
                Ok(client) => call(client).await,
                Err(error) => Err(error.into()),
            };
            (index, node, result)
        });
        let mut calls = futures_util::stream::iter(calls).buffer_unordered(MAX_PARALLEL);
        let mut codes = Vec::with_capacity(self.nodes.len());
        while let Some((index, node, result)) = calls.next().await {
            let result = match result {
                Ok(answer) => Ok(answer),
                Err(Stop::Node(error)) => Err(self.advised(error)),
                Err(Stop::Halt(halt)) => return Err(halt),
            };
            let row = Row { node: node.to_string(), result };
            codes.push(row.exit());
            self.arrived(node, &row)?;
            rows[before + index] = Some(row);
        }
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        self.console(|console| match self.format() {
            Format::Table => render::table(console, &rows, many),
            Format::Json => render::json_array(console, &rows),
            Format::Jsonl => Ok(()),
        })?;
        Ok(Exit::of_nodes(&codes))
    }

    /// What is printed when one node has answered.
    fn arrived(&self, node: &Node, row: &Row) -> Result<(), Halt> {
        let printed = row.result.as_ref().is_ok_and(|answer| answer.printed);
        if self.format() == Format::Jsonl && !printed {
            self.console(|console| render::json_line(console, row))?;
        }
        if let Some(error) = row.error() {
            let named = self.many().then_some(node);
            let verbose = self.global.verbose;
            self.console(|console| render::failure(console, named, error, verbose));
        }
        if let Ok(answer) = &row.result {
            let view = &answer.view;
            if self.for_people() && view.rows.is_empty() && !view.empty.is_empty() {
                match self.many() {
                    true => self.note(&format!("{node}: {}", view.empty)),
                    false => self.note(view.empty),
                }
            }
        }
        Ok(())
    }

    /// A state in between, as a line of JSON of its own.
    pub(crate) fn event(&self, node: &Node, json: Value) -> Result<(), Halt> {
        let result = Ok(Answer::new(json, render::View::default()));
        let row = Row { node: node.to_string(), result };
        self.console(|console| render::json_line(console, &row))
    }

    /// Applies `--timeout`, if given, to something that takes more than one call.
    pub(crate) async fn limited<T>(
        &self,
        node: &Node,
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        let Some(limit) = self.global.timeout else { return work.await };
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let limit = crate::format::duration(limit);
                let message = format!("{node}: not finished within {limit}");
                let next = "what was started goes on (`genesisctl run list`); give more --timeout";
                let code = "DEADLINE_EXCEEDED";
                Err(Error::new(Kind::Incomplete, code, "NOT_FINISHED", message, next).into())
            }
        }
    }

    fn options(&self) -> Options {
        let timeout = self.global.timeout.unwrap_or(DEFAULT_TIMEOUT);
        Options {
            timeout,
            connect_timeout: timeout.clamp(Duration::from_millis(1), DEFAULT_CONNECT_TIMEOUT),
            reason: self.global.reason.clone(),
            tls: None,
            request_id: self.global.request_id.map(|id| id.to_string()),
        }
    }

    /// The library's advice in the words of this program.
    fn advised(&self, error: Error) -> Error {
        if error.reason != "AGENT_UNREACHABLE" {
            return error;
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
