//! `health dashboard` on a whole terminal: the program itself, in a pseudo-terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use genesis_client::v1::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::fake::{Fake, Health, Script};
use crate::health::{fine, troubled};
use crate::{folder, well};

/// A program with a terminal of its own, and what is seen there.
struct Terminal {
    /// The side of whoever sits before it; `None` once that one has left.
    keys: Option<File>,
    /// The program's side, which is kept to look at its modes.
    line: Option<File>,
    seen: Arc<Mutex<vt100::Parser>>,
    program: Child,
    left: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

fn sides(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

impl Terminal {
    fn open(arguments: &[&str], (columns, lines): (u16, u16)) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        let keys = File::from(keys);
        let seen = vt100::Parser::new(sides(lines), sides(columns), 0);
        let seen = Arc::new(Mutex::new(seen));
        let (mut shown, screen) = (keys.try_clone().unwrap(), seen.clone());
        // It makes the terminal the program's own, so that signals come by it.
        let mut program = Command::new("setsid");
        program
            .arg("--ctty")
            .arg(env!("CARGO_BIN_EXE_genesisctl"))
            .args(arguments)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| name == "PATH"))
            .envs([("TERM", "xterm-256color"), ("LANG", "C.UTF-8")])
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap());
        resize(&keys, (columns, lines));
        let program = program.spawn().unwrap();
        let left = Arc::new(AtomicBool::new(false));
        let leaves = left.clone();
        let reader = std::thread::spawn(move || {
            let mut data = [0; 4096];
            let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            while !leaves.load(Ordering::SeqCst) {
                let mut ready = [PollFd::new(&shown, PollFlags::IN)];
                if poll(&mut ready, Some(&pause)).unwrap() > 0 {
                    let Ok(length @ 1..) = shown.read(&mut data) else { return };
                    screen.lock().unwrap().process(&data[..length]);
                }
            }
        });
        Self { keys: Some(keys), line: Some(line), seen, program, left, reader: Some(reader) }
    }

    fn press(&mut self, keys: &str) {
        self.keys.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, (columns, lines): (u16, u16)) {
        self.seen.lock().unwrap().screen_mut().set_size(sides(lines), sides(columns));
        resize(self.keys.as_ref().unwrap(), (columns, lines));
    }

    fn screen<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.seen.lock().unwrap().screen())
    }

    fn text(&self) -> String {
        self.screen(vt100::Screen::contents)
    }

    /// Until the screen says all of it.
    fn shows(&mut self, wanted: &[&str]) {
        let shown = || wanted.iter().all(|wanted| self.text().contains(wanted));
        let seen = (0..400).any(|_| {
            let seen = shown();
            if !seen {
                std::thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        assert!(seen, "{wanted:?} is not shown:\n{}", self.text());
    }

    fn ends(&mut self) -> ExitStatus {
        for _ in 0..400 {
            if self.program.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // What it wrote last is still to be read.
        std::thread::sleep(Duration::from_millis(200));
        let ended = self.program.try_wait().unwrap();
        assert!(ended.is_some(), "it does not end:\n{}", self.text());
        ended.unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.program.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Nobody sits before it any more, and the line is dead.
    fn hang_up(&mut self) {
        self.left.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        (self.keys, self.line) = (None, None);
    }

    fn modes(&self) -> LocalModes {
        tcgetattr(self.line.as_ref().unwrap()).unwrap().local_modes
    }

    /// It is as it was before the program came.
    fn is_restored(&self) {
        let modes = self.modes();
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        self.screen(|screen| {
            assert!(!screen.alternate_screen(), "the other screen was left");
            assert!(!screen.hide_cursor(), "the cursor is shown");
        });
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn resize(terminal: &File, (columns, lines): (u16, u16)) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

type Later = Arc<Mutex<Option<GetHealthStatusResponse>>>;

fn agent(status: GetHealthStatusResponse) -> (tempfile::TempDir, Fake, Later) {
    let (folder, later) = (folder(), Later::default());
    let health = Health { status, later: later.clone(), ..Default::default() };
    let entry = OplogEntry {
        sequence: 4711,
        actor: "olga".into(),
        action: "note".into(),
        outcome: "ok".into(),
        ..Default::default()
    };
    let script = Script { health, status: well(), entries: vec![entry], ..Default::default() };
    let fake = Fake::start(folder.path(), script);
    (folder, fake, later)
}

const QUICK: [&str; 4] = ["health", "dashboard", "--interval", "500ms"];

#[test]
fn it_opens_follows_keys_sizes_and_changes_and_leaves_all_as_it_was() {
    let (_folder, fake, later) = agent(fine());
    let node = fake.node();
    let mut terminal = Terminal::open(&[&QUICK[..], &["-n", &node]].concat(), (80, 24));
    terminal.shows(&["1Overview", "0Oplog", " OK ", "2 checks: 2 OK", "? help"]);
    terminal.screen(|screen| assert!(screen.alternate_screen() && screen.hide_cursor()));
    let modes = terminal.modes();
    assert!(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO));
    terminal.press("0");
    terminal.shows(&["Operation log", "4711", "olga"]);
    terminal.resize((120, 40));
    terminal.shows(&[" 1 Overview  2 Health ", "4711"]);
    terminal.resize((15, 4));
    terminal.shows(&["too small"]);
    terminal.resize((80, 24));
    terminal.press("2");
    terminal.shows(&["Open issues", "none"]);
    *later.lock().unwrap() = Some(troubled());
    terminal.shows(&["CRITICAL", "disk:/#3", "COOLDOWN", "STORM since"]);
    terminal.press("?");
    terminal.shows(&["Nothing here changes anything."]);
    terminal.press("\u{1b}");
    terminal.shows(&["Open issues"]);
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(3));
    terminal.is_restored();
    assert!(!terminal.text().contains("Overview"), "{}", terminal.text());
    let reads = ["Get", "List", "Explain"];
    let calls = fake.calls();
    assert!(calls.iter().all(|call| reads.iter().any(|read| call.starts_with(read))), "{calls:?}");
}

#[test]
fn a_node_that_does_not_answer_holds_nothing_up() {
    let (_folder, fake, _) = agent(fine());
    let (hung, absent) = (folder(), folder());
    let delay = Duration::from_secs(600);
    let slow = Fake::start(hung.path(), Script { delay, ..Default::default() });
    let absent = format!("unix:{}", absent.path().join("no.sock").display());
    let nodes = format!("{},{},{absent}", fake.node(), slow.node());
    let mut terminal = Terminal::open(&[&QUICK[..], &["-n", &nodes]].concat(), (120, 40));
    terminal.shows(&["1 OK", "1 UNREACHABLE", "1 ASKED", "for "]);
    terminal.press("jj");
    terminal.shows(&["since", "no agent answers at"]);
    terminal.press("kk\r");
    terminal.shows(&["Overview", "2 checks: 2 OK"]);
    terminal.press("\u{1b}");
    terminal.shows(&[" Nodes "]);
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(8));
    terminal.is_restored();
}

#[test]
fn signals_give_the_terminal_back() {
    let (_folder, fake, _) = agent(troubled());
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut terminal = Terminal::open(&[&QUICK[..], &["-n", &fake.node()]].concat(), (80, 24));
        terminal.shows(&["CRITICAL"]);
        terminal.signal(signal);
        let status = terminal.ends();
        assert_eq!((status.code(), status.signal()), (Some(3), None), "{signal:?}");
        terminal.is_restored();
    }
}

#[test]
fn it_draws_anew_after_it_was_stopped() {
    let (_folder, fake, _) = agent(fine());
    let mut terminal = Terminal::open(&[&QUICK[..], &["-n", &fake.node()]].concat(), (80, 24));
    terminal.shows(&["1Overview"]);
    // Nobody could wake it here, so the system lets it go on at once.
    terminal.press("\u{1a}");
    terminal.press("2");
    terminal.shows(&["Open issues"]);
    terminal.signal(Signal::STOP);
    let line = terminal.line.as_ref().unwrap();
    let mut modes = tcgetattr(line).unwrap();
    modes.local_modes.insert(LocalModes::ICANON | LocalModes::ECHO);
    tcsetattr(line, OptionalActions::Now, &modes).unwrap();
    terminal.line.as_mut().unwrap().write_all(b"\x1b[?1049l\x1b[2Jthe shell").unwrap();
    terminal.shows(&["the shell"]);
    terminal.signal(Signal::CONT);
    terminal.shows(&["Open issues"]);
    terminal.screen(|screen| assert!(screen.alternate_screen()));
    assert!(!terminal.modes().intersects(LocalModes::ICANON | LocalModes::ECHO));
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_restored();
}

#[test]
fn it_ends_with_its_terminal() {
    let (_folder, fake, _) = agent(fine());
    let mut terminal = Terminal::open(&[&QUICK[..], &["-n", &fake.node()]].concat(), (80, 24));
    terminal.shows(&["2 checks: 2 OK"]);
    terminal.hang_up();
    assert_eq!(terminal.ends().code(), Some(0));
}

#[test]
fn once_is_a_plain_page_also_on_a_terminal() {
    let (_folder, fake, _) = agent(fine());
    for more in [["--once", "-v"], ["-o", "jsonl"]] {
        let node = fake.node();
        let arguments = [&QUICK[..], &more[..], &["-n", &node][..]].concat();
        let mut terminal = Terminal::open(&arguments, (100, 40));
        assert_eq!(terminal.ends().code(), Some(0));
        let text = terminal.text();
        assert!(text.contains("2 checks: 2 OK") || text.contains("\"checks\""), "{text}");
        assert!(!text.contains("Overview"), "{text}");
        terminal.is_restored();
    }
    for interval in ["499ms", "61s", "soon"] {
        let outcome = crate::ctl(&["health", "dashboard", "--interval", interval]);
        assert_eq!(outcome.exit, genesisctl::Exit::Usage, "{interval}");
        assert!(outcome.stderr.contains("from 500ms to 60s"), "{}", outcome.stderr);
    }
}
