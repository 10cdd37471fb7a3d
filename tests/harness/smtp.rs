//! A mail server that speaks as much of SMTP as a sender needs, goes wrong by a script, and keeps every mail.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::{LIMIT, wait_until};
use crate::http_script::reset;

/// Where in the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The first word of the server.
    Greeting,
    /// EHLO.
    Hello,
    /// MAIL FROM.
    From,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The end of the mail itself.
    Mail,
}

/// What goes wrong there.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It says this code instead, such as 421, 450 or 550.
    Says(u16),
    /// It says nothing more.
    Hangs,
    /// It resets the connection; at [`Step::Mail`] it has the mail then, and the sender can't know.
    Resets,
}

/// A mail that was handed in as a whole.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Who sends it, as MAIL FROM says.
    pub from: String,
    /// Who gets it, as RCPT TO says.
    pub to: Vec<String>,
    /// Headers, an empty line, and the text.
    pub text: String,
    /// Whether the sender was told that it was taken.
    pub accepted: bool,
}

impl Mail {
    /// A header; empty when it has none.
    pub fn header(&self, name: &str) -> &str {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        let wanted = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        let line = head.lines().find(wanted).and_then(|line| line.split_once(':'));
        line.map_or("", |(_, value)| value.trim())
    }
}

struct Shared {
    /// One for each connection; `None`: all goes well.
    script: VecDeque<Option<(Step, Fault)>>,
    default: Option<(Step, Fault)>,
    connections: usize,
    mails: Vec<Mail>,
    said: Vec<String>,
    held: Vec<TcpStream>,
}

/// The server, until it is dropped.
pub struct Smtp {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
}

impl Smtp {
    /// One on a port of its own that goes wrong by `script`, one fault for each connection, and with `default` when it
    /// is used up.
    ///
    /// # Panics
    /// When it can't listen.
    pub fn start(
        script: impl IntoIterator<Item = Option<(Step, Fault)>>,
        default: Option<(Step, Fault)>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Mutex::new(Shared {
            script: script.into_iter().collect(),
            default,
            connections: 0,
            mails: Vec::new(),
            said: Vec::new(),
            held: Vec::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let server = Self { address, shared: Arc::clone(&shared), stop: Arc::clone(&stop) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    drop(Dialogue::new(&stream, &shared).and_then(Dialogue::run))
                });
            }
        });
        server
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        lock(&self.shared).connections
    }

    /// The mails so far.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.shared).mails.clone()
    }

    /// Each command so far.
    pub fn said(&self) -> Vec<String> {
        lock(&self.shared).said.clone()
    }

    /// Waits for so many mails.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub fn wait_mails(&self, count: usize) -> Vec<Mail> {
        wait_until(&format!("{count} mails"), || self.mails().len() >= count);
        self.mails()
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("never poisoned")
}

/// One connection.
struct Dialogue<'a> {
    stream: &'a TcpStream,
    reader: BufReader<&'a TcpStream>,
    shared: &'a Mutex<Shared>,
    fault: Option<(Step, Fault)>,
}

impl<'a> Dialogue<'a> {
    fn new(stream: &'a TcpStream, shared: &'a Mutex<Shared>) -> io::Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        let mut now = lock(shared);
        now.connections += 1;
        let next = now.script.pop_front().unwrap_or(now.default);
        drop(now);
        Ok(Self { stream, reader: BufReader::new(stream), shared, fault: next })
    }

    /// Says what is usual at a step, or goes wrong there; whether the step was taken.
    fn answer(&mut self, step: Step, usual: &str) -> io::Result<bool> {
        match self.fault.filter(|(at, _)| *at == step).map(|(_, fault)| fault) {
            None => self.say(usual).map(|()| true),
            Some(Fault::Says(code)) => self.say(&format!("{code} by the script")).map(|()| false),
            Some(Fault::Hangs) => {
                let held = self.stream.try_clone()?;
                lock(self.shared).held.push(held);
                Err(io::ErrorKind::TimedOut.into())
            }
            Some(Fault::Resets) => {
                reset(self.stream);
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn run(mut self) -> io::Result<()> {
        if !self.answer(Step::Greeting, "220 sink.test ESMTP")? {
            return Ok(());
        }
        let (mut from, mut to) = (String::new(), Vec::new());
        loop {
            let line = self.line()?;
            lock(self.shared).said.push(line.clone());
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let address = || {
                let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                inner.map_or(String::new(), |(address, _)| address.to_owned())
            };
            match verb.as_str() {
                "EHLO" | "HELO" => drop(self.answer(Step::Hello, "250 sink.test")?),
                "MAIL" if self.answer(Step::From, "250 ok")? => from = address(),
                "RCPT" if self.answer(Step::Recipient, "250 ok")? => to.push(address()),
                "MAIL" | "RCPT" => {}
                "DATA" if self.answer(Step::Data, "354 go on")? => {
                    let text = self.text()?;
                    let went_well = self.fault.is_none_or(|(step, _)| step != Step::Mail);
                    let kept = !matches!(self.fault, Some((Step::Mail, Fault::Says(_))));
                    if kept {
                        let (from, to) = (from.clone(), std::mem::take(&mut to));
                        let mail = Mail { from, to, text, accepted: went_well };
                        lock(self.shared).mails.push(mail);
                    }
                    self.answer(Step::Mail, "250 kept")?;
                }
                "DATA" => {}
                "RSET" | "NOOP" => self.say("250 ok")?,
                "QUIT" => return self.say("221 bye"),
                _ => self.say("502 not known here")?,
            }
        }
    }

    /// The mail up to the dot, without the dots that were doubled on the way.
    fn text(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line()?;
            if line == "." {
                return Ok(text);
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push_str("\r\n");
        }
    }
}
