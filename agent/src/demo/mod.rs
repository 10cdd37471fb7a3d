//! A self-contained tour on a temporary folder: a fast writer, this agent, and the real genesisctl, with
//! every command shown as a person would type it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use crate::error::{Error, Result};
use crate::outside::{Clock, SystemClock};

mod certificates;
mod desk;
mod latencies;
mod locks;
mod orders;
mod prices;
mod trades;
mod writer;

use writer::Writer;

/// The log type of the tour.
const LOG_TYPE: &str = "trading";

/// Runs the tour. With `keep` its folder stays; `genesisctl` is the client to drive, by default the one
/// beside this program.
pub fn run(keep: bool, genesisctl: Option<PathBuf>) -> ExitCode {
    match Tour::begin(genesisctl).and_then(|mut tour| {
        let outcome = tour.walk();
        tour.end(keep);
        outcome
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ =
                writeln!(io::stderr(), "genesis-agent demo: {} ({})", error.chain(), error.code);
            ExitCode::FAILURE
        }
    }
}

struct Tour {
    folder: Option<tempfile::TempDir>,
    root: PathBuf,
    genesisctl: PathBuf,
    agent: Option<Child>,
    desk: Option<Child>,
    writer: Option<Writer>,
}

fn failed(what: impl Into<String>) -> Error {
    Error::internal("DEMO_FAILED", what)
}

fn io_failed(what: &str) -> impl Fn(io::Error) -> Error + '_ {
    move |error| failed(what.to_owned()).caused_by(error)
}

/// Shows a line of the tour; a reader who has left is no error.
fn show(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

impl Tour {
    fn begin(genesisctl: Option<PathBuf>) -> Result<Self> {
        let own = std::env::current_exe().map_err(io_failed("can't find this program"))?;
        let genesisctl = genesisctl.unwrap_or_else(|| own.with_file_name("genesisctl"));
        if !genesisctl.is_file() {
            let message = format!(
                "there is no genesisctl at {}; build it with `cargo build --release --bin genesisctl`, \
                 or name one with --genesisctl FILE",
                genesisctl.display()
            );
            return Err(Error::not_found("GENESISCTL_MISSING", message));
        }
        let folder = tempfile::Builder::new()
            .prefix("genesis-demo-")
            .tempdir()
            .map_err(io_failed("can't make a temporary folder"))?;
        let root = folder.path().to_owned();
        fs::create_dir(root.join("app")).map_err(io_failed("can't make the writer's folder"))?;
        let config = format!(
            "[listen]\nhttp = \"127.0.0.1:0\"\n\n[[logs.source]]\ntype = \"{LOG_TYPE}\"\npaths = [\"{}/app/*.log\"]\n\
             rotate_size = \"512KiB\"\nreopen = \"by-itself\"\n\n\
             {orders}{locks}{desk}\
             # This machine's own state is not what is shown here.\n[health]\ndefaults = false\n\n\
             [[health.check]]\nid = \"queue\"\nprobe = \"queue-command\"\ncommand = [\"cat\", \"{depth}\"]\ncrit = \"100\"\n\
             interval = \"500ms\"\naction = {{ command = [\"cp\", \"{depth}.short\", \"{depth}\"] }}\n\n\
             [remediation]\nstartup_grace = \"0s\"\n\n\
             # Here a command hears of what is left to people; it might be PagerDuty, SMS, Slack, mail or a webhook.\n\
             [alerts]\ncritical = [\"note\"]\n\n[alerts.channel.note]\nkind = \"command\"\n\
             command = {{ command = [\"sh\", \"-c\", \"cat >> '{told}'; echo >> '{told}'\"] }}\n",
            root.display(),
            orders = orders::configuration(&root.join("orders.db")),
            locks = locks::configuration(&root),
            desk = desk::configuration(&root),
            depth = root.join("depth").display(),
            told = root.join("told").display(),
        );
        for (name, depth) in [("depth", "5\n"), ("depth.short", "3\n")] {
            fs::write(root.join(name), depth).map_err(io_failed("can't write a queue's depth"))?;
        }
        orders::make(&root.join("orders.db"))?;
        locks::lock(&root, "3.1.2").map_err(io_failed("can't write a lock"))?;
        locks::advise(&root, SystemClock::new().now())
            .map_err(io_failed("can't write an advisory"))?;
        fs::write(root.join("agent.toml"), config)
            .map_err(io_failed("can't write the configuration"))?;
        let desk = Some(desk::start(&root).map_err(io_failed("can't start the trading system"))?);
        Ok(Self { folder: Some(folder), root, genesisctl, agent: None, desk, writer: None })
    }

    fn walk(&mut self) -> Result<()> {
        show("# A writer of thousands of lines a second, and an agent that looks after its log.");
        show(&format!(
            "$ cat agent.toml\n{}",
            fs::read_to_string(self.root.join("agent.toml")).unwrap_or_default()
        ));
        self.writer = Some(
            Writer::start(&self.root.join("app/trading.log"))
                .map_err(io_failed("can't start the writer"))?,
        );
        self.start_agent()?;
        self.wait_for_lines(20_000)?;
        // No advisories were imported yet.
        show("# What it can't tell yet is UNKNOWN, never OK:");
        self.ctl(&["status"], &[5])?;
        self.ctl(&["whoami"], &[0])?;
        show("# The log was cut, compressed, archived and verified while it was written:");
        self.ctl(&["logs", "status"], &[0])?;
        self.ctl(&["logs", "rotate"], &[0])?;
        self.ctl(&["logs", "list", "--log-type", LOG_TYPE, "--limit", "5"], &[0])?;
        show("# Now the agent is killed in the middle of its work, and started again:");
        self.kill_agent();
        self.start_agent()?;
        self.wait_for_lines(60_000)?;
        let written = self.stop_writer()?;
        self.ctl(&["logs", "rotate", "--log-type", LOG_TYPE], &[0])?;
        self.ctl(&["logs", "verify", "--depth", "full"], &[0])?;
        self.retrieve(written)?;
        self.care_for_the_database()?;
        show(
            "# A queue gets too deep. It is seen, acted on, and the action has helped only when it stays short:",
        );
        self.ctl(&["health", "check"], &[0])?;
        fs::write(self.root.join("depth"), "500\n").map_err(io_failed("can't fill the queue"))?;
        self.wait_for(&["health", "history", "--check", "queue"], "SUCCEEDED", "no action helped")?;
        self.ctl(&["health", "history"], &[0])?;
        self.ctl(&["health", "dashboard"], &[0])?;
        self.ctl(&["health", "remediation", "status"], &[0])?;
        self.ctl(&["health", "check", "--level", "diagnostic"], &[0, 3, 5])?;
        show(
            "# What is critical reaches people at once, and once. Somebody takes care of it, and it ends:",
        );
        self.ctl(&["alerts", "test", "note"], &[0])?;
        self.ctl(&["emergency", "activate", "--reason", "prices are wrong"], &[0])?;
        self.wait_for(&["alerts", "history"], "firing", "nobody was told")?;
        self.ctl(&["alerts", "list"], &[0])?;
        self.ctl(&["alerts", "ack", "last", "--for", "1h", "--reason", "olga is on it"], &[0])?;
        show(
            "# The trading system, here one on paper, was halted. Its positions are closed, and proven to be:",
        );
        self.ctl(&["emergency", "close-positions", "--plan"], &[0])?;
        self.ctl(
            &["emergency", "close-positions", "--yes", "--reason", "the book is wrong"],
            &[0],
        )?;
        self.ctl(&["emergency", "status"], &[3])?;
        self.ctl(&["emergency", "release", "--reason", "they are right again"], &[0])?;
        self.ctl(&["alerts", "show", "last"], &[0])?;
        show(
            "# What it was is written down, and the worst day is practised without touching anything:",
        );
        self.ctl(&["incident", "note", "last", "the feed was restarted"], &[0])?;
        self.ctl(&["incident", "show", "last"], &[0])?;
        self.ctl(&["drill", "run", "emergency"], &[0])?;
        self.ctl(&["drill", "report"], &[0])?;
        self.learn_what_is_usual()?;
        self.try_thresholds()?;
        self.swap_matrices()?;
        self.find_what_is_vulnerable()?;
        self.take_a_certificate_over()?;
        show("# A circuit breaker that services follow, opened by hand and closed again:");
        self.ctl(
            &["breaker", "trip", "orders-api", "--for", "10m", "--reason", "the venue restarts"],
            &[0],
        )?;
        self.ctl(&["breaker", "list"], &[3])?;
        self.ctl(&["breaker", "reset", "orders-api", "--reason", "it is back"], &[0])?;
        show("# What happens by itself, what ran, and who did what:");
        self.ctl(&["logs", "cleanup", "--older-than", "365d", "--plan"], &[0])?;
        self.ctl(&["schedule", "list", "--next", "2"], &[0])?;
        self.ctl(&["schedule", "run", "logs.local-retention"], &[0])?;
        self.ctl(&["run", "list"], &[0])?;
        self.ctl(&["--reason", "ticket 4711", "oplog", "note", "looked at the archive"], &[0])?;
        self.ctl(&["oplog", "tail", "--last", "4"], &[0])?;
        self.ctl(&["oplog", "verify"], &[0])?;
        show("# A configuration with a slip is refused, with its line and the nearest key:");
        let slip = self.root.join("slip.toml");
        fs::write(&slip, "[logs]\nrelease_grase = \"60s\"\n")
            .map_err(io_failed("can't write a configuration"))?;
        self.ctl(&["config", "check", &slip.display().to_string()], &[3])?;
        self.ctl(&["rollback", "components"], &[0])?;
        show("# Done.");
        Ok(())
    }

    fn care_for_the_database(&self) -> Result<()> {
        show(
            "# The database of a trading system: two thirds of its orders were deleted, and one index is there twice.",
        );
        show("# Whether care may begin is measured item by item, its trades among them:");
        self.ctl(&["db", "health"], &[3])?;
        self.ctl(&["db", "preflight"], &[0])?;
        self.ctl(&["db", "indexes"], &[3])?;
        self.ctl(&["db", "optimize", "--force", "--plan"], &[0])?;
        show("# Copied and verified before anything is rewritten, and proven after:");
        self.ctl(&["db", "optimize", "--force", "--reason", "the old orders are deleted"], &[0])?;
        self.ctl(&["db", "history", "-v"], &[0])?;
        self.ctl(&["db", "health"], &[0])?;
        show("# That copy is a backup. It is restored to see that it can be:");
        self.ctl(&["backup", "verify", orders::NAME, "--level", "L2"], &[0])?;
        self.ctl(&["backup", "run", "agent"], &[0])?;
        self.ctl(&["backup", "list"], &[0])
    }

    fn learn_what_is_usual(&self) -> Result<()> {
        show(
            "# How long the orders of the last thirty hours took. What is usual comes of it, and which calls were slow:",
        );
        let file = self.root.join("latencies.csv");
        fs::write(&file, latencies::csv(SystemClock::new().now()))
            .map_err(io_failed("can't write latencies"))?;
        self.ctl(&["observe", "--file", &file.display().to_string()], &[0])?;
        self.ctl(&["baseline", "recalculate"], &[0])?;
        // No window of it could be judged yet.
        self.ctl(&["baseline", "show", latencies::OPERATION], &[5])?;
        self.ctl(&["baseline", "calls", latencies::OPERATION, "--limit", "3"], &[0])
    }

    fn try_thresholds(&self) -> Result<()> {
        let strategy = trades::STRATEGY;
        show(
            "# A strategy asks for its threshold. Half of its accounts try another one, and earn more. It is promoted by itself:",
        );
        let set = ["param", "set", "--strategy", strategy, "threshold=0.002", "--reason"];
        self.ctl(&[&set[..], &["as it is in the code"]].concat(), &[0])?;
        self.try_one("TEST_1", "threshold:0.003", "wider quotes", [2.0, 2.6])?;
        self.ctl(&["param", "list", "--strategy", strategy], &[0])?;
        show("# The next one loses, and is rolled back in the commit that shows it:");
        self.try_one("TEST_2", "threshold:0.004", "wider still", [2.6, 1.5])?;
        self.ctl(&["param", "get", "--strategy", strategy, "threshold"], &[0])?;
        self.ctl(&["experiment", "history"], &[0])
    }

    fn try_one(&self, test: &str, parameter: &str, reason: &str, means: [f64; 2]) -> Result<()> {
        let create = ["experiment", "create", "--strategy", trades::STRATEGY, "--param", parameter];
        self.ctl(&[&create[..], &["--split", "50/50", "--reason", reason]].concat(), &[0])?;
        let file = self.root.join(format!("{test}.csv"));
        let text = trades::csv(SystemClock::new().now(), test, means);
        fs::write(&file, text).map_err(io_failed("can't write trades"))?;
        // Each batch is a look, so that there is a curve of them.
        let file = file.display().to_string();
        self.ctl(&["trades", "push", "--batch-rows", "24", "--file", &file], &[0])?;
        self.ctl(&["experiment", "show", "--test-id", test], &[0])
    }

    fn swap_matrices(&self) -> Result<()> {
        show(
            "# A feed's prices become a correlation matrix, which is used at once since it is the first:",
        );
        self.push_prices(false)?;
        self.ctl(&["series", "list"], &[0])?;
        self.ctl(&["matrix", "update", "--reason", "the first"], &[0])?;
        self.ctl(&["matrix", "show"], &[0])?;
        show(
            "# The feed sends one asset upside down. What comes of it has drifted too far, and is refused:",
        );
        self.push_prices(true)?;
        self.ctl(&["matrix", "update", "--reason", "as every night"], &[4])?;
        show("# Sent again as it was, it is valid. One consumer in ten uses the new matrix first:");
        self.push_prices(false)?;
        self.ctl(&["matrix", "update", "--reason", "the feed is mended"], &[0])?;
        self.ctl(&["matrix", "rollout", "status"], &[0])?;
        show("# Nobody reports how it fares with it here, so that somebody has to go on:");
        for _ in 0..4 {
            self.ctl(&["matrix", "rollout", "advance", "--reason", "a tour"], &[0])?;
        }
        self.ctl(&["matrix", "history"], &[0])?;
        show("# And back, in one step:");
        self.ctl(&["matrix", "rollback", "--reason", "hedges are off"], &[0])?;
        self.ctl(&["matrix", "history"], &[0])
    }

    fn find_what_is_vulnerable(&self) -> Result<()> {
        show(
            "# What a project has locked is held against the advisories that lie on the host, without the network:",
        );
        self.ctl(&["schedule", "run", "dependencies.import"], &[0])?;
        self.ctl(&["deps", "scan"], &[3])?;
        show("# Somebody locks the version that mends it:");
        locks::lock(&self.root, "3.1.3").map_err(io_failed("can't write a lock"))?;
        self.ctl(&["deps", "scan"], &[0])
    }

    fn take_a_certificate_over(&self) -> Result<()> {
        show(
            "# A gateway gets a certificate of its own. Until there is one it has one that signs itself; then another's is taken over:",
        );
        let live = certificates::issue(&self.root, SystemClock::new().now())?;
        let file = self.root.join("agent.toml");
        let text = fs::read_to_string(&file).map_err(io_failed("can't read the configuration"))?;
        fs::write(&file, text + &certificates::configuration(&self.root))
            .map_err(io_failed("can't write the configuration"))?;
        self.ctl(&["config", "reload"], &[0])?;
        let live = live.display().to_string();
        self.ctl(&["cert", "import", "--domain", certificates::DOMAIN, "--from", &live], &[0])?;
        self.wait_for(&["cert", "list"], "DEPLOYED", "it is not in service")?;
        self.ctl(&["cert", "list"], &[0])?;
        self.ctl(&["cert", "verify"], &[0])
    }

    fn push_prices(&self, upside_down: bool) -> Result<()> {
        let file = self.root.join("prices.csv");
        let text = prices::csv(SystemClock::new().now(), upside_down);
        fs::write(&file, text).map_err(io_failed("can't write prices"))?;
        self.ctl(&["series", "push", "--again", "--file", &file.display().to_string()], &[0])
    }

    /// Gets every line back and holds it against what the writer wrote.
    fn retrieve(&self, written: u64) -> Result<()> {
        let out = self.root.join("lines.log");
        let shown = out.display().to_string();
        // The writer stamps its lines from this day on; see there.
        let range = format!("{}..{}", writer::FIRST_DAY, writer::LAST_DAY);
        self.ctl(
            &["logs", "retrieve", "--log-type", LOG_TYPE, "--date-range", &range, "--out", &shown],
            &[0],
        )?;
        let file = fs::File::open(&out).map_err(io_failed("can't open what was retrieved"))?;
        let mut expected = 0;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(io_failed("can't read what was retrieved"))?;
            if writer::number(&line) != Some(expected) {
                return Err(failed(format!(
                    "line {expected} of the writer is not where it belongs: {line:?}"
                )));
            }
            expected += 1;
        }
        if expected != written {
            return Err(failed(format!("the writer wrote {written} lines, {expected} came back")));
        }
        show(&format!(
            "# The writer wrote {written} lines; {expected} came back, once each, in order."
        ));
        Ok(())
    }

    fn start_agent(&mut self) -> Result<()> {
        let own = std::env::current_exe().map_err(io_failed("can't find this program"))?;
        show("$ genesis-agent --config agent.toml --state-dir state &");
        let mut agent = Command::new(own)
            .args(["--config", "agent.toml", "--state-dir", "state"])
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io_failed("can't start the agent"))?;
        let stderr = agent.stderr.take().ok_or_else(|| failed("the agent has no stderr"))?;
        self.agent = Some(agent);
        let mut lines = BufReader::new(stderr).lines().map_while(io::Result::ok);
        let mut said = Vec::new();
        loop {
            let Some(line) = lines.next() else {
                return Err(failed(format!("the agent did not start: {}", said.join("; "))));
            };
            show(&line);
            if line.starts_with("try: ") {
                break;
            }
            said.push(line);
        }
        // Kept read, so that the agent never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(())
    }

    fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            show(&format!("$ kill -9 {}", agent.id()));
            // One that is gone already is what is wanted.
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    fn wait_for_lines(&self, lines: u64) -> Result<()> {
        match &self.writer {
            Some(writer) if writer.wait_for(lines) => Ok(()),
            _ => Err(failed("the writer has stopped")),
        }
    }

    /// Waits until a command says this word.
    fn wait_for(&self, arguments: &[&str], word: &str, else_said: &str) -> Result<()> {
        let node = format!("unix:{}", self.root.join("state/agent.sock").display());
        for _ in 0..200 {
            let output = Command::new(&self.genesisctl)
                .args(arguments)
                .env("GENESISCTL_NODES", &node)
                .stdin(Stdio::null())
                .output()
                .map_err(io_failed("can't run genesisctl"))?;
            if String::from_utf8_lossy(&output.stdout).contains(word) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Err(failed(format!("{else_said} within 20 s")))
    }

    fn stop_writer(&mut self) -> Result<u64> {
        let writer = self.writer.take().ok_or_else(|| failed("there is no writer"))?;
        writer.stop().map_err(io_failed("the writer failed"))
    }

    /// Shows a command and its output; any exit code but the expected ones ends the tour.
    fn ctl(&self, arguments: &[&str], expected: &[i32]) -> Result<()> {
        let quoted =
            |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
        show(&format!(
            "\n$ genesisctl {}",
            arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
        ));
        let node = format!("unix:{}", self.root.join("state/agent.sock").display());
        let output = Command::new(&self.genesisctl)
            .args(arguments)
            .env("GENESISCTL_NODES", node)
            .stdin(Stdio::null())
            .output()
            .map_err(io_failed("can't run genesisctl"))?;
        for stream in [&output.stdout, &output.stderr] {
            let text = String::from_utf8_lossy(stream);
            if !text.is_empty() {
                show(text.trim_end());
            }
        }
        match output.status.code() {
            Some(code) if expected.contains(&code) => Ok(()),
            code => Err(failed(format!(
                "genesisctl {} ended with {code:?}, not {expected:?}",
                arguments.join(" ")
            ))),
        }
    }

    fn end(&mut self, keep: bool) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.stop();
        }
        if let Some(mut agent) = self.agent.take() {
            if let Ok(pid) = i32::try_from(agent.id())
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = agent.wait();
        }
        if let Some(mut desk) = self.desk.take() {
            // One that is gone already is what is wanted.
            let _ = desk.kill();
            let _ = desk.wait();
        }
        if keep && let Some(folder) = self.folder.take() {
            let kept: &Path = &folder.keep();
            show(&format!("# Kept: {}", kept.display()));
        }
    }
}
