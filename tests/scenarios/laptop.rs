//! From a laptop: contexts and mTLS, many nodes of which some are ill, other programs in other languages.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use genesis_agent::pki::{Role, Validity};
use genesis_tests::clock::{now, wait_until};
use genesis_tests::pki::Authority;
use genesis_tests::{Laptop, Output, Signal, TestAgent, binaries, older};
use serde_json::Value;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// An address where nobody listens.
fn nobody() -> String {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.local_addr().unwrap().to_string()
}

#[test]
fn a_context_file_of_the_host_is_all_that_a_laptop_needs() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let node = agent.grpc().to_string();
    let viewer = Laptop::new(&authority, Role::Viewer, std::slice::from_ref(&node));
    viewer.ctl(&["status"]).ok().says(&["OK"]);
    viewer.ctl(&["whoami"]).ok().says(&["genesis://prod/viewer/olga-viewer", "viewer"]);
    viewer.ctl(&["logs", "rotate"]).exits(6).says(&["ROLE_MISSING"]);
    let admin = Laptop::new(&authority, Role::Admin, &[node]);
    admin.ctl(&["logs", "rotate", "--reason", "from afar"]).ok();
    admin.ctl(&["oplog", "list"]).ok().says(&["genesis://prod/admin/olga-admin", "from afar"]);
    admin.ctl(&["pki", "list"]).ok().says(&["server certificate", "fleet prod"]);
    // Its connection ends with its certificate, and it is told why.
    authority.revoke("olga-viewer");
    wait_until("the revocation is in force", || viewer.ctl(&["status"]).code == 6);
    viewer.ctl(&["status"]).exits(6).says(&["CERTIFICATE_REFUSED", "revoked"]);
    admin.ctl(&["status"]).ok();
}

/// One healthy node, one of an older version, one dead, one frozen, one with a certificate of another CA.
struct Five {
    laptop: Laptop,
    healthy: String,
    older: String,
    ill: [(String, &'static str); 3],
    frozen: TestAgent,
    _agents: [TestAgent; 2],
    _authorities: [Authority; 2],
    _runtime: tokio::runtime::Runtime,
}

impl Five {
    fn new() -> Self {
        let (authority, other) = (Authority::new("prod"), Authority::new("prod"));
        let healthy = TestAgent::started(|_| authority.config("prod"));
        let frozen = TestAgent::started(|_| authority.config("prod"));
        let impostor = TestAgent::started(|_| other.config("prod"));
        frozen.signal(Signal::STOP);
        let runtime = runtime();
        let older = runtime.block_on(older::serve(&authority)).to_string();
        let ill = [
            (nobody(), "AGENT_UNREACHABLE"),
            (frozen.grpc().to_string(), "AGENT_UNREACHABLE"),
            (impostor.grpc().to_string(), "SERVER_NOT_TRUSTED"),
        ];
        let mut nodes: Vec<String> = ill.iter().map(|(node, _)| node.clone()).collect();
        nodes.extend([healthy.grpc().to_string(), older.clone()]);
        let laptop = Laptop::new(&authority, Role::Operator, &nodes);
        Self {
            laptop,
            healthy: healthy.grpc().to_string(),
            older,
            ill,
            frozen,
            _agents: [healthy, impostor],
            _authorities: [authority, other],
            _runtime: runtime,
        }
    }

    fn status(&self, format: &str) -> Output {
        let began = now();
        let output = self.laptop.ctl(&["status", "--all", "--timeout", "2s", "-o", format]);
        // The frozen one holds the others up for its two seconds, and not for its whole connect and call.
        let took = now().duration_since(began);
        assert!(took < jiff::SignedDuration::from_secs(5), "{took}");
        output.exits(8)
    }

    fn check(&self, rows: &[Value]) {
        let of = |node: &str| rows.iter().position(|row| row["node"] == node).unwrap();
        assert_eq!(rows.len(), 5);
        assert!(of(&self.healthy) < 2 && of(&self.older) < 2, "{rows:#?}");
        assert_eq!(rows[of(&self.healthy)]["response"]["condition"], "CONDITION_OK");
        assert_eq!(rows[of(&self.older)]["response"]["version"], older::VERSION);
        for (node, reason) in &self.ill {
            let row = &rows[of(node)];
            assert_eq!((row["ok"].as_bool(), &row["response"]), (Some(false), &Value::Null));
            assert_eq!(row["error"]["reason"], *reason, "{node}");
            assert!(!row["error"]["next"].as_str().unwrap().is_empty(), "{node}");
        }
    }
}

#[test]
fn five_nodes_of_which_three_are_ill_have_five_rows_the_healthy_ones_first() {
    let five = Five::new();
    let json = five.status("json").json();
    five.check(json.as_array().unwrap());
    let jsonl = five.status("jsonl").text();
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    five.check(&rows);
    let yaml = five.status("yaml").text();
    let nodes: Vec<_> = yaml.lines().filter_map(|line| line.strip_prefix("- node: ")).collect();
    assert_eq!(nodes.len(), 5, "{yaml}");
    assert!(
        nodes[..2].iter().all(|node| [&five.healthy, &five.older].contains(&&node.to_string()))
    );
    let table = five.status("table").text();
    let rows: Vec<_> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), 5, "{table}");
    assert!(rows[..2].iter().all(|row| !row.contains("(un") && row.contains(" OK ")), "{table}");
    assert!(rows[2..].iter().any(|row| row.contains("(unreachable)")), "{table}");
    assert!(rows[2..].iter().any(|row| row.contains("(not allowed)")), "{table}");
    // What the older one does not know is its own failure, which says what to do.
    let pki = five.laptop.ctl(&["pki", "list", "-n", &five.older]).exits(1);
    pki.says(&["UNIMPLEMENTED", "genesisctl version"]);
    let version = five.laptop.ctl(&["version", "-n", &five.older]).ok();
    version.says(&[older::VERSION, "older"]);
    five.frozen.signal(Signal::CONT);
}

#[test]
fn a_change_on_two_nodes_without_yes_sends_nothing() {
    let authority = Authority::new("prod");
    let agents = [(); 2].map(|()| TestAgent::started(|_| authority.config("prod")));
    let nodes: Vec<String> = agents.iter().map(|agent| agent.grpc().to_string()).collect();
    let laptop = Laptop::new(&authority, Role::Admin, &nodes);
    let entries = |agent: &TestAgent| agent.ctl(&["oplog", "list", "-o", "json"]).ok().response();
    let calls = |agent: &TestAgent| {
        entries(agent)["entries"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["action"].as_str().unwrap().starts_with("call "))
    };
    let refused = laptop.ctl(&["emergency", "activate"]).exits(2);
    refused.says(&["--yes", &nodes[0], &nodes[1]]);
    assert!(!agents.iter().any(calls), "nothing was sent");
    laptop.ctl(&["emergency", "activate", "--yes"]).ok();
    assert!(agents.iter().all(calls));
    for agent in &agents {
        agent.ctl(&["emergency", "status"]).exits(3);
    }
}

#[test]
fn a_reader_that_leaves_after_one_line_is_no_error() {
    let agent = TestAgent::started(|_| String::new());
    for index in 0..200 {
        agent.ctl(&["oplog", "note", &format!("a line to leave behind, number {index}")]).ok();
    }
    for command in
        ["oplog list --limit 1000", "oplog list -o json", "oplog tail -o jsonl", "status"]
    {
        let script = format!(
            "set -o pipefail; {:?} -n {} {command} | head -n 1",
            binaries::client(),
            agent.node()
        );
        let output =
            Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{command}");
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1, "{command}");
    }
}

/// What a program prints, and how it ends.
fn run(command: &mut Command) -> (i32, Vec<String>) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or_else(|| panic!("{command:?} was killed: {said}"));
    assert!(code < 2, "{command:?}: {said}\n{text}");
    (code, text.lines().map(str::to_owned).collect())
}

fn rust_example() -> Command {
    Command::new(binaries::example("status"))
}

fn python_example() -> Command {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/python");
    let mut command = Command::new(binaries::foreign("python/bin/python"));
    command.arg(format!("{folder}/status.py")).env("PYTHONPATH", binaries::foreign("stubs"));
    command
}

#[test]
fn programs_in_rust_and_in_python_print_the_same_of_the_same_nodes() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let impostor = Authority::new("prod");
    let impostor = TestAgent::started(|_| impostor.config("prod"));
    let node = agent.grpc().to_string();
    let laptop = Laptop::new(&authority, Role::Viewer, std::slice::from_ref(&node));
    let file = laptop.contexts();
    let status = laptop.ctl(&["status", "-o", "json"]).ok().response();
    let [hostname, version] = ["hostname", "version"].map(|name| status[name].as_str().unwrap());
    let well = format!("{node} OK {hostname} {version}");
    let (dead, wrong) = (nobody(), impostor.grpc().to_string());
    for program in [rust_example, python_example] {
        let well_only = run(program().arg("--context-file").arg(&file));
        assert_eq!(well_only, (0, vec![well.clone()]));
        let (code, lines) =
            run(program().arg("--context-file").arg(&file).args([&dead, &node, &wrong]));
        assert_eq!((code, lines.len()), (1, 3), "{lines:?}");
        assert!(lines[0].starts_with(&format!("{dead} ERROR AGENT_UNREACHABLE ")), "{lines:?}");
        assert_eq!(lines[1], well);
        assert!(lines[2].starts_with(&format!("{wrong} ERROR SERVER_NOT_TRUSTED ")), "{lines:?}");
    }
    authority.revoke("olga-viewer");
    wait_until("the revocation is in force", || laptop.ctl(&["status"]).code == 6);
    for program in [rust_example, python_example] {
        let (code, lines) = run(program().arg("--context-file").arg(&file));
        assert_eq!(code, 1);
        assert!(lines[0].contains(" ERROR CERTIFICATE_REFUSED "), "{lines:?}");
    }
}

#[test]
fn a_foreign_client_finds_its_way_by_reflection() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let client = authority.issue("buf", Role::Viewer, Validity::Days(1));
    authority.put("buf.pem", &client.certificate_pem);
    authority.put("buf.key", &client.key_pem);
    let buf = |arguments: &[&str], method: &str| {
        let mut command = Command::new(binaries::foreign("node/node_modules/.bin/buf"));
        command.arg("curl").args(arguments).env("HOME", agent.folder());
        let output = command.arg(method).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{method}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = |name: &str| authority.path(name).display().to_string();
    let ca = authority.dir().join("ca.pem").display().to_string();
    let (certificate, key) = (path("buf.pem"), path("buf.key"));
    let tls = ["--protocol", "grpc", "--cacert", &ca, "--cert", &certificate, "--key", &key];
    let socket = agent.state().join("agent.sock").display().to_string();
    let unix = ["--protocol", "grpc", "--http2-prior-knowledge", "--unix-socket", &socket];
    let ways =
        [(&tls[..], format!("https://{}", agent.grpc())), (&unix[..], "http://agent".into())];
    for (arguments, address) in ways {
        let services = buf(&[arguments, &["--list-services"]].concat(), &address);
        for service in genesis_proto::pool().services() {
            if service.full_name().starts_with("genesis.") {
                assert!(services.contains(service.full_name()), "{services}");
            }
        }
        let method = format!("{address}/genesis.v1.AgentService/GetVersion");
        let version: Value = serde_json::from_str(&buf(arguments, &method)).unwrap();
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    }
}
