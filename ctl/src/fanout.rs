//! Calls to every node: how many at once, when to stop, and a row for each as it arrives.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use genesis_client::{Client, Error, Kind, Node};
use serde_json::Value;

use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::render::{self, Answer, Printer, Row, View};

/// What stands in a node's place where the row is made of those of all.
const MERGED: &str = "merged";

/// How much longer than `--timeout` a node has before it is given up from outside. Within the limit the
/// calls themselves end, and know better what that means.
const GRACE: Duration = Duration::from_millis(50);

impl Session<'_> {
    /// Calls every node, and prints what they answer as it arrives.
    pub(crate) async fn each<F, S>(&self, call: F) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        self.each_in(&[], call).await
    }

    /// [`Self::each`], for answers that are rows below these columns.
    pub(crate) async fn each_in<F, S>(
        &self,
        columns: &'static [&'static str],
        call: F,
    ) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        self.each_beside(columns, Vec::new(), call).await
    }

    /// [`Self::each_in`], with rows that need no node printed before.
    pub(crate) async fn each_beside<F, S>(
        &self,
        columns: &'static [&'static str],
        rows: Vec<Row>,
        call: F,
    ) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        self.each_around(columns, rows, call, || Ok(None)).await
    }

    /// [`Self::each_in`], with an answer printed last that `merge` makes of those of the nodes.
    pub(crate) async fn each_merged<F, S>(
        &self,
        columns: &'static [&'static str],
        call: F,
        merge: impl FnOnce() -> Result<Option<Answer>, Error>,
    ) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        self.each_around(columns, Vec::new(), call, merge).await
    }

    async fn each_around<F, S>(
        &self,
        columns: &'static [&'static str],
        rows: Vec<Row>,
        call: F,
        merge: impl FnOnce() -> Result<Option<Answer>, Error>,
    ) -> Result<Exit, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        let many = self.many() || !rows.is_empty();
        let named = self.nodes.iter().map(ToString::to_string);
        let longest = named.chain(rows.iter().map(|row| row.node.clone()));
        let longest = longest.map(|name| name.chars().count()).max().unwrap_or_default();
        let mut printer = Printer::new(self.format(), many, columns, longest);
        let codes = self.all(&mut printer, rows, &call).await;
        let mut merged = if codes.is_ok() { merge() } else { Ok(None) };
        // However it ended, what was printed is made whole.
        let ended = self.printed(|console| {
            printer.failures(console)?;
            if let Some(answer) = merged.as_mut().ok().and_then(Option::take) {
                let answer = Answer { merged: true, ..answer };
                printer.row(console, Row { node: MERGED.to_owned(), result: Ok(answer) })?;
            }
            printer.end(console)?;
            render::flush(console)
        });
        let codes = codes?;
        ended?;
        merged?;
        Ok(Exit::of_nodes(&codes))
    }

    async fn all<F, S>(
        &self,
        printer: &mut Printer,
        rows: Vec<Row>,
        call: &F,
    ) -> Result<Vec<Exit>, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        for row in rows {
            self.printed(|console| printer.row(console, row))?;
        }
        let tolerated = self.global.stop_after_failures.map_or(usize::MAX, |most| most as usize);
        let nodes = self.nodes.as_slice();
        let sizes = match &self.global.batch {
            Some(batches) => batches.sizes(nodes.len()),
            None => vec![nodes.len()],
        };
        let mut codes = Vec::with_capacity(nodes.len());
        let (mut called, mut failed) = (0, 0);
        let mut why = None;
        for size in sizes {
            let batch = &nodes[called..called + size];
            // The last one has none after it that could be spared.
            let gated =
                self.gated.get() && !self.global.gate.is_zero() && called + size < nodes.len();
            let before = if gated { self.seen(batch).await } else { Vec::new() };
            called +=
                self.batch(printer, batch, (&mut codes, &mut failed, tolerated), call).await?;
            if failed >= tolerated {
                why = Some(format!("{} failed", format::plural(failed as u64, "node")));
                break;
            }
            if gated && let Err(ill) = self.gate((batch, &before), self.global.gate).await {
                why = Some(format!(
                    "not all nodes of the last batch are as well as they were ({ill})"
                ));
                break;
            }
        }
        let (Some(why), waiting @ [_, ..]) = (why, &nodes[called..]) else { return Ok(codes) };
        self.warn(&format!(
            "error[NOT_SENT]: {why}, so {} not called",
            match waiting.len() {
                1 => "1 node was".to_owned(),
                left => format!("{} nodes were", format::count(left as u64)),
            }
        ));
        for node in waiting {
            let row = Row { node: node.to_string(), result: Err(not_sent(node, &why)) };
            codes.push(row.exit());
            self.printed(|console| printer.row(console, row))?;
        }
        Ok(codes)
    }

    /// The nodes of one batch, until too many have failed; how many were called.
    async fn batch<F, S>(
        &self,
        printer: &mut Printer,
        nodes: &[Node],
        (codes, failed, tolerated): (&mut Vec<Exit>, &mut usize, usize),
        call: &F,
    ) -> Result<usize, Halt>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        let mut waiting = nodes.iter();
        let mut running = FuturesUnordered::new();
        loop {
            while *failed < tolerated && running.len() < self.global.max_parallel as usize {
                let Some(node) = waiting.next() else { break };
                running.push(async move { (node, self.one(node, call).await) });
            }
            let Some((node, result)) = running.next().await else {
                return Ok(nodes.len() - waiting.len());
            };
            let result = match result {
                Ok(answer) => Ok(answer),
                Err(Stop::Node(error)) => Err(self.advised(node, error)),
                Err(Stop::Halt(halt)) => return Err(halt),
            };
            let row = Row { node: node.to_string(), result };
            codes.push(row.exit());
            *failed += usize::from(row.error().is_some());
            self.arrived(printer, node, row)?;
        }
    }

    /// One node, within `--timeout`.
    async fn one<F, S>(&self, node: &Node, call: &F) -> Result<Answer, Stop>
    where
        F: Fn(Client) -> S,
        S: Future<Output = Result<Answer, Stop>>,
    {
        let connected = std::cell::Cell::new(false);
        let work = async {
            let client = Client::connect(node, self.options()).await?;
            connected.set(true);
            call(client).await
        };
        let Some(limit) = self.global.timeout else { return work.await };
        let deadline = tokio::time::sleep(limit).deadline();
        self.deadlines.borrow_mut().insert(node.clone(), deadline);
        match tokio::time::timeout_at(deadline + GRACE, work).await {
            Ok(result) => result,
            Err(_) => Err(self.overdue(node, limit, connected.get()).into()),
        }
    }

    /// Several calls to a node that only read, within `--timeout`, or else within what one has.
    pub(crate) async fn within<T>(
        &self,
        node: &Node,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.options().timeout;
        match tokio::time::timeout(limit + GRACE, work).await {
            Ok(result) => result,
            Err(_) => Err(self.overdue(node, limit, true)),
        }
    }

    /// The node's time is over in the middle of several calls.
    fn overdue(&self, node: &Node, limit: Duration, connected: bool) -> Error {
        let code = "DEADLINE_EXCEEDED";
        let limit = format::duration(limit);
        if !connected {
            let message = format!("no agent answers at {node} within {limit}");
            return Error::new(Kind::Unreachable, code, "AGENT_UNREACHABLE", message, "");
        }
        let message = format!("{node} was called but did not answer within {limit}");
        if self.changing.get() {
            let next = "look at the runs and the oplog before repeating it";
            return Error::new(Kind::Incomplete, code, "OUTCOME_UNKNOWN", message, next);
        }
        let next = "try again with a longer --timeout, or look at the agent's log";
        Error::new(Kind::Unreachable, code, "AGENT_TIMEOUT", message, next)
    }

    /// What is printed when one node has answered.
    fn arrived(&self, printer: &mut Printer, node: &Node, row: Row) -> Result<(), Halt> {
        let printed = row.result.as_ref().is_ok_and(|answer| answer.printed);
        let error = row.error().cloned();
        let empty = match &row.result {
            Ok(answer) if self.for_people() && answer.view.rows.is_empty() => answer.view.empty,
            _ => "",
        };
        if !printed {
            self.printed(|console| printer.row(console, row))?;
        }
        if let Some(error) = error {
            let named = self.many().then_some(node);
            let verbose = self.global.verbose;
            self.console(|console| render::failure(console, named, &error, verbose));
        }
        match (empty, self.many()) {
            ("", _) => {}
            (empty, true) => self.note(&format!("{node}: {empty}")),
            (empty, false) => self.note(empty),
        }
        Ok(())
    }

    /// A state in between, as a line of JSON of its own.
    pub(crate) fn event(&self, node: &Node, json: Value) -> Result<(), Halt> {
        let row = Row { node: node.to_string(), result: Ok(Answer::new(json, View::default())) };
        self.printed(|console| render::event(console, &row))
    }

    /// Prints. A reader that has left ends what only reads, but no change half-way through the nodes.
    fn printed(
        &self,
        print: impl FnOnce(&mut crate::Console) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        if self.unheard.get() {
            return Ok(());
        }
        match self.console(print) {
            Err(Halt::BrokenPipe) if self.changing.get() => {
                self.unheard.set(true);
                Ok(())
            }
            printed => printed,
        }
    }
}

fn not_sent(node: &Node, why: &str) -> Error {
    let message = format!("{node} was not called, because {why}");
    let next = "mend those that failed, then call the ones that are left";
    Error::new(Kind::Unavailable, "CANCELLED", "NOT_SENT", message, next)
}
