//! A real Prometheus that scrapes an agent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::clock::wait_for;
use crate::http;
use crate::ports::free_port;

/// A server, which ends with this.
pub struct Prometheus {
    folder: TempDir,
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes `target` five times a second, native histograms included, and waits until it answers.
    ///
    /// # Panics
    /// When it does not, with what it says.
    pub fn scraping(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 200ms\n  scrape_timeout: 200ms\nscrape_configs:\n  - job_name: genesis\n    \
             static_configs:\n      - targets: [\"{target}\"]\n"
        );
        std::fs::write(&config, text).expect("its configuration");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = std::fs::File::create(folder.path().join("log")).expect("its log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=native-histograms")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus can be started");
        let prometheus = Self { folder, child, address };
        wait_for("Prometheus", || prometheus.is_ready().then_some(()));
        prometheus
    }

    fn is_ready(&self) -> bool {
        let there = std::net::TcpStream::connect(self.address).is_ok();
        there && http::get(self.address, "/-/ready").0 == 200
    }

    /// What it says.
    pub fn log(&self) -> String {
        let path: PathBuf = self.folder.path().join("log");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// The one value that an expression has now; `None`: it has none.
    ///
    /// # Panics
    /// When it is no expression.
    pub fn query(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let (status, body) = http::get(self.address, &format!("/api/v1/query?query={encoded}"));
        assert_eq!(status, 200, "{expression}: {body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
