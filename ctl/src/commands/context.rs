//! `context add|use|list|show|remove`, and the context that a command works in. None of it needs an agent.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use genesis_client::{Context, Contexts, Error, Kind, Node, Pem, TlsMaterial};
use serde_json::{Value, json};

use crate::Console;
use crate::cli::Global;
use crate::confirm::ask_at;
use crate::exit::{Exit, Halt};
use crate::render::{self, Answer, Cell, Printer, Row, View};

const ADD_EXAMPLES: &str = "\
Examples:
  genesisctl context add prod --from olga.toml --use
  genesisctl context add prod --node web-1:7443,web-2:7443 --ca-file ca.pem \\
      --certificate-file olga.pem --key-file olga.key
  genesisctl context add lab --node /run/genesis/agent.sock";

const USE_EXAMPLES: &str = "\
Examples:
  genesisctl context use prod
  genesisctl context use --none";

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl context list
  genesisctl context list -o json | jq '.[].response.contexts[].name'";

const SHOW_EXAMPLES: &str = "\
Examples:
  genesisctl context show
  genesisctl context show prod -o json";

const REMOVE_EXAMPLES: &str = "\
Example:
  genesisctl context remove lab";

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add a context: from a file that `genesis-agent pki issue --context` made, or from its parts. Its
    /// certificates are checked first. --yes replaces the one of that name.
    #[command(after_help = ADD_EXAMPLES)]
    Add(Box<Add>),
    /// Choose the context that is used where none is named.
    #[command(after_help = USE_EXAMPLES)]
    Use {
        /// Its name.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Use none: commands go to the local agent again.
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// List the contexts; the star marks the one in use.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show one context, by default the one in use. Keys are never shown.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its name.
        name: Option<String>,
    },
    /// Remove a context. One that holds its key asks first, or needs --yes without a terminal.
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// Its name.
        name: String,
    },
}

/// A new context.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Its name: letters, digits, `.`, `_` and `-`.
    name: String,
    /// Its agents: host:port or unix:/path/agent.sock, comma-separated or repeated; -n does the same.
    // Not `nodes`: that is the id of the global option.
    #[arg(long = "node", value_name = "NODE", value_delimiter = ',')]
    own_nodes: Vec<Node>,
    /// Take it over from this file of contexts: the one of that name, else the current, else the only one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ca_file", "certificate_file", "key_file"])]
    from: Option<PathBuf>,
    /// The CA that the agents' certificates come from (PEM).
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The client's certificate (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["ca_file", "key_file"])]
    certificate_file: Option<PathBuf>,
    /// The client's key (PEM), readable by nobody else.
    #[arg(long, value_name = "FILE", requires_all = ["ca_file", "certificate_file"])]
    key_file: Option<PathBuf>,
    /// The name that every agent's certificate must have, instead of its node's host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Use it from now on where no context is named.
    #[arg(long = "use")]
    use_it: bool,
}

/// What `--all` without a context is refused with.
pub(crate) const NONE_CHOSEN: &str = "--all calls every node of a context and of its fleet, and no context is chosen: \
                                      name one with --context, or the nodes with -n";

/// The context that a command works in; nothing is read where it could make no difference. `named`: the nodes
/// that were named. `members`: those of the fleet will be called as well.
pub(crate) fn chosen(
    global: &Global,
    named: &[Node],
    members: bool,
    env: impl Fn(&str) -> Option<String> + Copy,
) -> Result<Option<Context>, Halt> {
    let by_name = global.context.is_some();
    let over_tcp = members || named.iter().any(|node| matches!(node, Node::Tcp { .. }));
    if !by_name && !over_tcp && !named.is_empty() {
        return Ok(None);
    }
    let context = match Contexts::default_path(env) {
        Some(path) => {
            let contexts = Contexts::load_or_default(&path)?;
            contexts.resolve(global.context.as_deref(), env)?.cloned()
        }
        None if by_name => return Err(homeless().into()),
        None => None,
    };
    match &context {
        // Who names a context does not mean whatever agent runs here.
        Some(context) if by_name && context.nodes().is_empty() && named.is_empty() => {
            Err(Halt::Usage(format!(
                "context {} has no nodes: name them with -n, or add them with `genesisctl context add`",
                context.name()
            )))
        }
        _ => Ok(context),
    }
}

/// Carries out what needs no agent.
pub(crate) fn dispatch(verb: &Verb, global: &Global, console: &mut Console) -> Result<Exit, Halt> {
    let env = |name: &str| console.env.get(name).cloned();
    let path = Contexts::default_path(env).ok_or_else(homeless)?;
    let load = || Contexts::load_or_default(&path);
    let (json, view) = match verb {
        Verb::Add(add) => {
            let context = new_context(add, global)?;
            let (json, current) = Contexts::edit(&path, |contexts| {
                if contexts.get(context.name()).is_ok() && !global.yes {
                    return Err(Halt::Usage(format!(
                        "there is a context {} already: choose another name, or add --yes to replace it",
                        context.name()
                    )));
                }
                contexts.insert(context.clone());
                if add.use_it {
                    contexts.set_current(Some(context.name()))?;
                }
                let current = contexts.current() == Some(context.name());
                Ok((json!({ "context": object(&context, current) }), current))
            })?;
            let line = format!("added context {}: {}", context.name(), summary(&context));
            if !current && !global.quiet {
                let name = context.name();
                render::stderr_line(
                    console,
                    &format!(
                        "use it with --context {name}, or always: genesisctl context use {name}"
                    ),
                );
            }
            (json, View::line(line))
        }
        Verb::Use { name, none: _ } => {
            let context = Contexts::edit(&path, |contexts| {
                contexts.set_current(name.as_deref())?;
                name.as_deref().map(|name| contexts.get(name).cloned()).transpose()
            })?;
            match context {
                Some(context) => (
                    json!({ "context": object(&context, true) }),
                    View::line(format!("using context {}: {}", context.name(), summary(&context))),
                ),
                None => (json!({ "context": null }), View::line("using no context")),
            }
        }
        Verb::List => {
            let contexts = load()?;
            // A name that leads nowhere is no reason not to list the others.
            let used = contexts.resolve(global.context.as_deref(), env).ok().flatten();
            list(&contexts, used)
        }
        Verb::Show { name } => {
            let contexts = load()?;
            let name = name.as_deref().or(global.context.as_deref());
            show(&contexts, contexts.resolve(name, env)?)
        }
        Verb::Remove { name } => {
            let contexts = load()?;
            may_remove(contexts.get(name)?, global, console)?;
            Contexts::edit(&path, |contexts| contexts.remove(name).map(drop))?;
            (json!({ "removed": name }), View::line(format!("removed context {name}")))
        }
    };
    print(console, global, json, view)
}

/// One answer that comes from no node, in every format.
fn print(console: &mut Console, global: &Global, json: Value, view: View) -> Result<Exit, Halt> {
    if !global.quiet && view.rows.is_empty() && !view.empty.is_empty() {
        render::stderr_line(console, view.empty);
    }
    let row = Row { node: "genesisctl".to_owned(), result: Ok(Answer::new(json, view)) };
    let mut printer = Printer::new(global.output, false, &[], 0);
    printer.row(console, row)?;
    printer.end(console)?;
    Ok(Exit::Ok)
}

fn homeless() -> Error {
    Error::new(
        Kind::Invalid,
        "INVALID_ARGUMENT",
        "CONTEXT_FILE_UNKNOWN",
        "there is no HOME to have contexts in",
        "set HOME or XDG_CONFIG_HOME, or name the nodes with -n",
    )
}

/// The context that the arguments describe, with its certificates checked.
fn new_context(add: &Add, global: &Global) -> Result<Context, Halt> {
    let mut nodes = add.own_nodes.clone();
    nodes.extend(global.nodes.iter().cloned());
    let mut material = match (&add.from, &add.ca_file) {
        (Some(file), _) => {
            let contexts = Contexts::load(file)?;
            let source = source(&contexts, &add.name)?;
            if nodes.is_empty() {
                nodes = source.nodes().to_owned();
            }
            source.material().cloned()
        }
        (None, Some(ca)) => {
            let identity = match (&add.certificate_file, &add.key_file) {
                (Some(certificate), Some(key)) => Some((file(certificate)?, file(key)?)),
                _ => None,
            };
            Some(TlsMaterial { ca: file(ca)?, identity, server_name: None })
        }
        (None, None) => None,
    };
    if let Some(name) = &add.server_name {
        let Some(material) = &mut material else {
            return Err(Halt::Usage(
                "--server-name needs a CA to verify it with: add --ca-file".to_owned(),
            ));
        };
        material.server_name = Some(name.clone());
    }
    if nodes.is_empty() && material.is_none() {
        return Err(Halt::Usage(
            "a context has nodes, certificates or both: add --node, --ca-file or --from".to_owned(),
        ));
    }
    let mut once: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        if !once.contains(&node) {
            once.push(node);
        }
    }
    let context = Context::new(&add.name, once, material)?;
    context.tls()?;
    Ok(context)
}

/// The context of a file that is meant by `name`.
fn source<'a>(contexts: &'a Contexts, name: &str) -> Result<&'a Context, Halt> {
    if let Ok(context) = contexts.get(name) {
        return Ok(context);
    }
    if let Some(current) = contexts.current() {
        return Ok(contexts.get(current)?);
    }
    let mut all = contexts.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(contexts
            .get(name)
            .err()
            .map_or_else(|| Halt::Failed("a context is there and is not".to_owned()), Halt::Error)),
    }
}

fn file(path: &std::path::Path) -> Result<Pem, Halt> {
    std::path::absolute(path)
        .map(Pem::File)
        .map_err(|error| Halt::Failed(format!("can't find {}: {error}", path.display())))
}

/// A key that only this file has is gone with it.
fn may_remove(context: &Context, global: &Global, console: &mut Console) -> Result<(), Halt> {
    let identity = context.material().and_then(|material| material.identity.as_ref());
    let holds_key = matches!(identity, Some((_, Pem::Text(_))));
    if !holds_key || global.yes {
        return Ok(());
    }
    let name = context.name();
    if !console.interactive() {
        return Err(Halt::Usage(format!(
            "context {name} holds its key, which would be gone, and there is no terminal to ask at: add \
             --yes"
        )));
    }
    if ask_at(console, &format!("Remove context {name} together with its key?")) {
        return Ok(());
    }
    Err(Halt::Failed("not removed".to_owned()))
}

fn list(contexts: &Contexts, used: Option<&Context>) -> (Value, View) {
    let is_used = |context: &Context| used.is_some_and(|used| used.name() == context.name());
    let all: Vec<_> = contexts.iter().map(|one| object(one, is_used(one))).collect();
    let row = |context: &Context| {
        let nodes: Vec<_> = context.nodes().iter().map(ToString::to_string).collect();
        let shown = match nodes.as_slice() {
            [first, second, third, _, ..] => {
                format!("{first}, {second}, {third} and {} more", nodes.len() - 3)
            }
            nodes => nodes.join(", "),
        };
        vec![
            Cell::from(if is_used(context) { "*" } else { "" }),
            Cell::from(context.name()),
            Cell::from(security(context)),
            Cell::from(shown),
        ]
    };
    let view = View {
        columns: &["", "CONTEXT", "SECURED BY", "NODES"],
        rows: contexts.iter().map(row).collect(),
        empty: "there are no contexts: add one with `genesisctl context add`",
        ..View::default()
    };
    (json!({ "file": contexts.path(), "contexts": all }), view)
}

fn show(contexts: &Contexts, context: Option<&Context>) -> (Value, View) {
    let Some(context) = context else {
        let line = "no context is in use: commands go to the local agent";
        return (json!({ "file": contexts.path(), "context": null }), View::line(line));
    };
    let mut lead = vec![
        format!("context {}: {}", context.name(), summary(context)),
        format!("file {}", contexts.path().display()),
    ];
    if let Some(TlsMaterial { ca, identity, server_name }) = context.material() {
        lead.push(format!("ca {}", place(ca)));
        if let Some((certificate, key)) = identity {
            lead.push(format!("certificate {}", place(certificate)));
            lead.push(format!("key {}", place(key)));
        }
        if let Some(name) = server_name {
            lead.push(format!("servers must be {name}"));
        }
    }
    let rows = context.nodes().iter().map(|node| vec![Cell::from(node.to_string())]).collect();
    let current = contexts.current() == Some(context.name());
    let json = json!({ "file": contexts.path(), "context": object(context, current) });
    (json, View { lead, columns: &["NODE"], rows, ..View::default() })
}

fn object(context: &Context, current: bool) -> Value {
    let nodes: Vec<_> = context.nodes().iter().map(ToString::to_string).collect();
    let tls = context.material().map(|TlsMaterial { ca, identity, server_name }| {
        json!({
            "ca": place(ca),
            "certificate": identity.as_ref().map(|(certificate, _)| place(certificate)),
            "key": identity.as_ref().map(|(_, key)| place(key)),
            "serverName": server_name,
        })
    });
    json!({ "name": context.name(), "current": current, "nodes": nodes, "tls": tls })
}

/// Where a certificate or key is; never what it is.
fn place(pem: &Pem) -> String {
    match pem {
        Pem::Text(_) => "in the file of the contexts".to_owned(),
        Pem::File(path) => path.display().to_string(),
    }
}

fn summary(context: &Context) -> String {
    let nodes = crate::format::plural(context.nodes().len() as u64, "node");
    format!("{nodes}, {}", security(context))
}

fn security(context: &Context) -> &'static str {
    match context.material() {
        Some(TlsMaterial { identity: Some(_), .. }) => "mTLS",
        Some(_) => "TLS without a certificate of one's own",
        None => "nothing",
    }
}
