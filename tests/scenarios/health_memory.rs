//! A service that leaks, in a control group of its own: told to clear its cache, by whatever means, it is well again;
//! not told, it is not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::health::{Check, config, word};

/// What the group may take.
const LIMIT: u64 = 96 << 20;

/// A service whose cache grows by 4 MiB for each line that it is sent, and is emptied by SIGUSR1.
const SERVICE: &str = "
import os, signal, sys
cache = []
def clear(*_):
    cache.clear()
signal.signal(signal.SIGUSR1, clear)
print('ready', flush=True)
for line in sys.stdin:
    cache.append(b'x' * (4 << 20))
    print(len(cache), flush=True)
";

/// A control group with a limit, gone when it is dropped.
struct Group(PathBuf);

impl Group {
    /// Of whichever version this host has.
    fn new() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let (root, limit) = match root.join("cgroup.controllers").exists() {
            true => {
                // It may be on already.
                let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
                (root.to_owned(), "memory.max")
            }
            false => (root.join("memory"), "memory.limit_in_bytes"),
        };
        let group = Self(root.join(format!("genesis-test-{}", std::process::id())));
        std::fs::create_dir(&group.0).expect("this test makes a control group, which takes root");
        std::fs::write(group.0.join(limit), LIMIT.to_string()).unwrap();
        group
    }

    fn used(&self) -> u64 {
        let names = ["memory.current", "memory.usage_in_bytes"];
        let text = names.iter().find_map(|name| std::fs::read_to_string(self.0.join(name)).ok());
        text.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it has ended, and the kernel may not have noticed.
        while std::fs::remove_dir(&self.0).is_err_and(|error| error.raw_os_error() == Some(16)) {
            std::thread::yield_now();
        }
    }
}

/// The service, in its group.
struct Service {
    child: Child,
    input: ChildStdin,
    said: BufReader<std::process::ChildStdout>,
    group: Group,
}

impl Service {
    fn start(folder: &Path) -> Self {
        let group = Group::new();
        // Into the group first, so that all of its memory counts there.
        let enter = "echo $$ > \"$0/cgroup.procs\" && echo $$ > \"$1\" && exec python3 -c \"$2\"";
        let mut child = Command::new("sh")
            .args(["-c", enter])
            .arg(&group.0)
            .arg(folder.join("service.pid"))
            .arg(SERVICE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut service = Self { child, input, said: BufReader::new(said), group };
        service.answer();
        service
    }

    fn answer(&mut self) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the service has ended");
    }

    /// Leaks until the group is nearly full.
    fn leak(&mut self) {
        while self.group.used() < LIMIT / 100 * 88 {
            writeln!(self.input, "more").unwrap();
            self.answer();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a service leak, and looks at what becomes of it with this action.
fn a_service_leaks(action: impl FnOnce(&Path) -> String) -> (TestAgent, Service) {
    let mut agent = TestAgent::new(|_| String::new());
    let mut service = Service::start(agent.folder());
    let check = Check::new("pricing", "memory-cgroup").text("target", service.group.0.display());
    let check = check.text("crit", "85").text("clear", "75").set("action", action(agent.folder()));
    agent.configure(&config("", [&check]));
    agent.start();
    wait_until("a first look", || word(&agent.seen("pricing"), "condition") == "OK");
    service.leak();
    (agent, service)
}

#[track_caller]
fn assert_mended((agent, service): (TestAgent, Service), words: &str) {
    agent.wait_state("pricing", "RESOLVED");
    agent.wait_outcomes("pricing", &["SUCCEEDED"]);
    assert_eq!(word(&agent.issue("pricing"), "resolution"), "by its action");
    let attempt = &agent.attempts("pricing")[0];
    assert_eq!(word(attempt, "action"), "clear-memory");
    assert!(word(attempt, "detail").contains(words), "{attempt}");
    // As measured by the agent, and by this test.
    assert!(agent.seen("pricing")["value"].as_f64().unwrap() < 75.0, "{}", agent.seen("pricing"));
    assert!(service.group.used() < LIMIT / 100 * 75, "{} bytes", service.group.used());
}

fn signal(folder: &Path) -> String {
    format!("{{ signal = \"USR1\", pidfile = {:?} }}", folder.join("service.pid"))
}

#[test]
fn a_signal_has_it_clear_its_cache() {
    let found = a_service_leaks(signal);
    assert_mended(found, "Usr1 was sent to the process of ");
}

#[test]
fn a_command_has_it_clear_its_cache() {
    let script = "[ \"$GENESIS_ACTION\" = clear-memory ] && kill -USR1 $(cat \"$0\") && echo \"cleared $GENESIS_TARGET\"";
    let found = a_service_leaks(|folder| {
        format!("{{ command = [\"sh\", \"-c\", {script:?}, {:?}] }}", folder.join("service.pid"))
    });
    assert_mended(found, "cleared /sys/fs/cgroup/");
}

#[test]
fn a_request_has_it_clear_its_cache() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    let found = a_service_leaks(|folder| {
        let pidfile = folder.join("service.pid");
        // Ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                kept.lock().unwrap().push(clear(stream.unwrap(), &pidfile));
            }
        });
        format!("{{ http = \"http://{address}/gc?full=1\" }}")
    });
    assert_mended(found, "the service answered 204");
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 1, "{requests:?}");
    for part in ["POST /gc?full=1 HTTP/1.1", "\"check\":\"pricing\"", "\"action\":\"clear-memory\""]
    {
        assert!(requests[0].contains(part), "{requests:?}");
    }
}

/// Answers one request, having cleared the cache of the service; what was asked.
fn clear(mut stream: TcpStream, pidfile: &Path) -> String {
    let (mut asked, mut buffer) = (String::new(), [0; 4_096]);
    while !asked.contains("\r\n\r\n{") || !asked.ends_with('}') {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "cut off: {asked}");
        asked.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    let pid = std::fs::read_to_string(pidfile).unwrap();
    genesis_tests::binaries::tool("kill", &["-USR1", pid.trim()]);
    stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    asked
}

#[test]
fn without_an_action_it_stays_as_full_as_it_is() {
    let (agent, service) = a_service_leaks(|_| "\"\"".to_owned());
    agent.wait_denial("pricing", "NO_ACTION");
    let used = service.group.used();
    agent.wait_for_looks("pricing", 8);
    assert_eq!(agent.issue_state("pricing"), "FAILING");
    assert!(service.group.used() >= used / 100 * 99 && agent.attempts("pricing").is_empty());
    drop((agent, service));
}
