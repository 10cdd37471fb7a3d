//! What goes with a certificate: the client's context file, and the agent's configuration. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

/// The client's configuration with one context.
#[derive(Serialize)]
struct ContextFile<'a> {
    current: &'a str,
    context: BTreeMap<&'a str, Context<'a>>,
}

#[derive(Serialize)]
struct Context<'a> {
    nodes: &'a [String],
    ca: &'a str,
    certificate: &'a str,
    key: &'a str,
}

/// The text of a context file that holds everything a client needs.
///
/// # Errors
/// `PKI_SIGN_FAILED` when it can't be written as TOML.
pub(super) fn file(
    name: &str,
    nodes: &[String],
    ca: &str,
    certificate: &str,
    key: &str,
) -> Result<String> {
    let context = Context { nodes, ca, certificate, key };
    let file = ContextFile { current: name, context: [(name, context)].into() };
    toml::to_string(&file).map_err(|error| {
        Error::internal("PKI_SIGN_FAILED", "can't write the context as TOML").caused_by(error)
    })
}

/// The lines for the agent's configuration that put a server certificate into force.
pub(super) fn agent_lines(fleet: &str, certificate: &Path, key: &Path, pki: &Path) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    format!(
        "[listen]\ngrpc = \"0.0.0.0:7443\"\n\n\
         [tls]\ncertificate = {}\nkey = {}\nclient_ca = {}\nrevocation_list = {}\n\n\
         [fleet]\nname = {}\n",
        path(certificate),
        path(key),
        path(&pki.join(super::CA)),
        path(&pki.join(super::CRL)),
        quoted(fleet)
    )
}
