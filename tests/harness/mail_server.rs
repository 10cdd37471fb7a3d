//! A real mail server (aiosmtpd) that wants TLS and a login.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::binaries;
use crate::clock::wait_until;
use crate::pki::Authority;

/// The server, until it is dropped.
pub struct MailServer {
    child: Child,
    port: u16,
    mails: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    /// One that is spoken to by "starttls" or "tls", whose certificate `authority` issues.
    ///
    /// # Panics
    /// When it does not start; `tests/run --prepare` installs it.
    pub fn start(way: &str, authority: &Authority, (user, password): (&str, &str)) -> Self {
        authority.put_server();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/mail_server.py");
        let mut child = Command::new(binaries::foreign("python/bin/python"))
            .arg(script)
            .arg(way)
            .args([authority.path("server.pem"), authority.path("server.key")])
            .args([user, password])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/run --prepare installs Python's packages");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("the mail server starts").expect("text");
        let port = first.parse().expect("a port");
        let mails = Arc::<Mutex<Vec<Value>>>::default();
        let into = Arc::clone(&mails);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mail = serde_json::from_str(&line).expect("a mail in JSON");
                into.lock().expect("never poisoned").push(mail);
            }
        });
        Self { child, port, mails }
    }

    /// `host:port`, by the name in its certificate.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The mails so far: `from`, `to`, `text`, and whether they came by `tls` and with a `login`.
    ///
    /// # Panics
    /// Never.
    pub fn mails(&self) -> Vec<Value> {
        self.mails.lock().expect("never poisoned").clone()
    }

    /// Waits for so many mails.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub fn wait_mails(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("{count} mails"), || self.mails().len() >= count);
        self.mails()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
