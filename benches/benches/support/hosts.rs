//! A fleet on this machine: a CA, agents over mTLS, and a home with a context.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use genesis_agent::agent::{Agent, Setup};
use genesis_agent::config::{Config, Places};
use genesis_agent::outside::Outside;
use genesis_agent::pki::{InitRequest, IssueRequest, Issued, Pki, Role, Validity};
use genesis_client::{Context, Contexts, Node, Pem, TlsMaterial};
use tempfile::TempDir;

use super::Outcome;

/// A CA with one server certificate, which all agents share, and one of an admin.
pub(crate) struct Hosts {
    folder: TempDir,
    pki: Pki,
    pub(crate) server: Issued,
    pub(crate) admin: Issued,
}

/// An agent as a process of its own; it ends however the measurement does.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) state: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hosts {
    pub(crate) fn new() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let now = Outside::real().clock.now();
        let init = InitRequest { fleet: "bench".into(), validity: Validity::Days(3_650) };
        let pki = Pki::init(&folder.path().join("pki"), &init, now)?;
        let issue = |role, hosts: &[&str]| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let name = format!("{role}-1");
            pki.issue(&IssueRequest { name, role, hosts, validity: Validity::Days(365) }, now)
        };
        let server = issue(Role::Agent, &["127.0.0.1", "localhost"])?;
        let admin = issue(Role::Admin, &[])?;
        let hosts = Self { folder, pki, server, admin };
        private(&hosts.path("server.pem"), &hosts.server.certificate_pem)?;
        private(&hosts.path("server.key"), &hosts.server.key_pem)?;
        Ok(hosts)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn ca(&self) -> Outcome<String> {
        Ok(std::fs::read_to_string(self.pki.dir().join("ca.pem"))?)
    }

    fn config(&self) -> String {
        self.config_of("")
    }

    /// `more` is what `[fleet]` and what comes after it say besides.
    fn config_of(&self, more: &str) -> String {
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\nmax_connections = \"4096\"\n[tls]\n\
             certificate = {}\nkey = {}\nclient_ca = {}\nrevocation_list = {}\n[fleet]\nname = \"bench\"\n{more}",
            quoted(self.path("server.pem")),
            quoted(self.path("server.key")),
            quoted(self.pki.dir().join("ca.pem")),
            quoted(self.pki.dir().join("crl.pem")),
        )
    }

    /// An agent in this process.
    pub(crate) async fn agent(&self, name: &str) -> Outcome<Agent> {
        self.agent_of(name, "").await
    }

    /// An agent in this process, of a fleet: `more` is what `[fleet]` says besides its name.
    pub(crate) async fn agent_of(&self, name: &str, more: &str) -> Outcome<Agent> {
        let places = Places::find(Some(&self.path(name)))?;
        let config = Config::parse(&self.config_of(more), "bench", &places);
        let config = config.config.ok_or("configuration")?;
        let outside = Outside::real();
        Ok(Agent::start(Setup { places, config, config_path: None, outside }).await?)
    }

    /// An agent as a process of its own, once it is ready.
    pub(crate) fn process(&self, name: &str) -> Outcome<Running> {
        let (config, state) = (self.path(&format!("{name}.toml")), self.path(name));
        std::fs::write(&config, self.config())?;
        let mut command = Command::new(super::program("genesis-agent")?);
        command.arg("--config").arg(&config).arg("--state-dir").arg(&state);
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no stderr")?;
        let mut running = Running { child, grpc: SocketAddr::from(([0, 0, 0, 0], 0)), state };
        let mut lines = BufReader::new(stderr).lines();
        loop {
            let line = lines.next().ok_or("the agent did not start")??;
            if let Some((_, address)) = line.split_once(", grpc ") {
                running.grpc = address.trim().parse()?;
                // Whatever else it says must not stop it.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(running);
            }
        }
    }

    /// The context of an admin of these nodes.
    pub(crate) fn context(&self, nodes: Vec<Node>) -> Outcome<Context> {
        let text = |text: &str| Pem::Text(text.to_owned());
        let identity = Some((text(&self.admin.certificate_pem), text(&self.admin.key_pem)));
        let ca = text(&self.ca()?);
        let material = TlsMaterial { ca, identity, server_name: None };
        Ok(Context::new("bench", nodes, Some(material))?)
    }

    /// A home folder in which that context is in use.
    pub(crate) fn home(&self, name: &str, nodes: &[SocketAddr]) -> Outcome<PathBuf> {
        let home = self.path(name);
        let folder = home.join(".config/genesis");
        std::fs::create_dir_all(&folder)?;
        let nodes: Result<Vec<Node>, _> =
            nodes.iter().map(|node| node.to_string().parse()).collect();
        let context = self.context(nodes?)?;
        Contexts::edit(&folder.join("genesisctl.toml"), |contexts| {
            contexts.insert(context);
            contexts.set_current(Some("bench"))
        })?;
        Ok(home)
    }
}

fn private(path: &Path, text: &str) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt;

    std::fs::write(path, text)?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?)
}
