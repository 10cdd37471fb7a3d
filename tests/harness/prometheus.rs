//! A real Prometheus that scrapes an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::clock::{LIMIT, wait_for};
use crate::http;
use crate::ports::free_port;

/// A server, which ends with this.
pub struct Prometheus {
    folder: TempDir,
    child: Child,
    address: SocketAddr,
}

/// One of the series that an expression has.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, the name among them.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Prometheus {
    /// Starts one that scrapes `target` five times a second, native histograms included, and waits until it answers.
    ///
    /// # Panics
    /// When it does not, with what it says.
    pub fn scraping(target: SocketAddr) -> Self {
        Self::start(target, "genesis", "200ms", "")
    }

    /// As [`Prometheus::scraping`], twice a second, by the job that our rules are for, with the rules of these files.
    ///
    /// # Panics
    /// As [`Prometheus::scraping`].
    pub fn with_rules(target: SocketAddr, files: &[PathBuf]) -> Self {
        let names: Vec<String> =
            files.iter().map(|it| format!("{:?}", it.display().to_string())).collect();
        Self::start(
            target,
            "genesis-agent",
            "500ms",
            &format!("rule_files: [{}]\n", names.join(", ")),
        )
    }

    fn start(target: SocketAddr, job: &str, interval: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\n  evaluation_interval: 500ms\n{more}\
             scrape_configs:\n  - job_name: {job}\n    static_configs:\n      - targets: [\"{target}\"]\n"
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
        let found = self.query_all(expression).unwrap_or_else(|error| panic!("{error}"));
        Some(found.first()?.value)
    }

    /// All series that an expression has now.
    ///
    /// # Errors
    /// When it is no expression, what Prometheus says of it.
    ///
    /// # Panics
    /// When Prometheus does not answer.
    pub fn query_all(&self, expression: &str) -> Result<Vec<Series>, String> {
        self.query_at(expression, None)
    }

    /// As [`Prometheus::query_all`], at a time in seconds since 1970.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn query_at(&self, expression: &str, at: Option<f64>) -> Result<Vec<Series>, String> {
        let at = at.map(|at| format!("&time={at:.3}")).unwrap_or_default();
        let answer = self.get(&format!("/api/v1/query?query={}{at}", encoded(expression)));
        if answer["status"] != "success" {
            return Err(format!("{expression}: {}", answer["error"]));
        }
        let data = &answer["data"];
        if data["resultType"] == "scalar" {
            let value = number(&data["result"][1]);
            return Ok(vec![Series { labels: BTreeMap::new(), value }]);
        }
        let result = data["result"].as_array().expect("series");
        let series = |it: &Value| Series {
            labels: serde_json::from_value(it["metric"].clone()).expect("labels"),
            value: number(&it["value"][1]),
        };
        Ok(result.iter().map(series).collect())
    }

    /// The names of all metrics that it knows.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn metric_names(&self) -> BTreeSet<String> {
        let answer = self.get("/api/v1/label/__name__/values");
        serde_json::from_value(answer["data"].clone()).expect("names")
    }

    /// Its rules, each as Prometheus tells it: name, query, health, and of alerts labels and annotations.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        groups.iter().flat_map(|it| it["rules"].as_array().expect("rules").clone()).collect()
    }

    /// In HTTP 1.0, so that long answers come in one piece, too.
    fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).expect("Prometheus listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).expect("JSON")
    }
}

fn number(value: &Value) -> f64 {
    value.as_str().expect("a value").parse().expect("a number")
}

fn encoded(expression: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    expression.bytes().map(encode).collect()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
