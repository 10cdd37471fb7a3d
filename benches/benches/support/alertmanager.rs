//! Prometheus' Alertmanager, the peer of alerts. Needs `apt-get install prometheus-alertmanager`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Outcome;

/// An Alertmanager that ends with this, however the benchmark ends.
pub(crate) struct Alertmanager {
    child: Child,
    address: SocketAddr,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Alertmanager {
    /// Starts one on `folder` that gives each alert to a webhook at once.
    pub(crate) fn start(folder: &Path, webhook: &str) -> Outcome<Self> {
        let config = folder.join("alertmanager.yml");
        fs::write(
            &config,
            format!(
                "route:\n  receiver: hook\n  group_by: ['...']\n  group_wait: 0s\n\
                 receivers:\n- name: hook\n  webhook_configs:\n  - url: {webhook:?}\n"
            ),
        )?;
        // Free a moment ago; it takes no port of its own choice.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|_| "no Alertmanager here: apt-get install prometheus-alertmanager")?;
        let peer = Self { child, address };
        let ready = || peer.ask("GET", "/-/ready", "").is_ok_and(|answer| answer.contains(" 200 "));
        for _ in 0..600 {
            if ready() {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("Alertmanager does not become ready".into())
    }

    /// Tells it of alerts, in JSON.
    pub(crate) fn tell(&self, alerts: &str) -> Outcome<()> {
        let answer = self.ask("POST", "/api/v2/alerts", alerts)?;
        if answer.contains(" 200 ") { Ok(()) } else { Err(answer.into()) }
    }

    /// The first line of its answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> Outcome<String> {
        let mut stream = TcpStream::connect(self.address)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }
}
