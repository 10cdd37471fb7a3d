//! BIND, a real name server, that takes updates as RFC 2136 has them, signed by a key (RFC 8945).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::challtestsrv::fqdn;
use crate::daemon::Daemon;
use crate::ports::free_port;
use crate::random::Random;

/// The key of whoever answers challenges: it may change TXT records, and nothing else.
const KEY: &str = "acme-key";
/// The test's own key, which may change everything.
const OWNER: &str = "owner-key";

/// The name server, until it is dropped. It knows its zones and asks nobody else.
///
/// Each zone has `* IN A 127.0.0.1`. By the rules of DNS (RFC 4592) that is no longer the answer for a name once there
/// is anything below it, such as `_acme-challenge`: [`Bind9::add_a`] gives it an address of its own.
pub struct Bind9 {
    daemon: Option<Daemon>,
    folder: TempDir,
    zones: Vec<String>,
    port: u16,
    owner: String,
    key_file: PathBuf,
}

impl Bind9 {
    /// One with a zone, such as `example.test`.
    ///
    /// # Panics
    /// When it is missing (`tests/run` installs it), or does not start.
    pub fn start(zone: &str) -> Self {
        Self::start_with(&[zone])
    }

    /// One with several zones.
    ///
    /// # Panics
    /// As [`Bind9::start`].
    pub fn start_with(zones: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-named-").tempdir().expect("a folder");
        let port = free_port();
        let mut random = Random::new(u64::from(port));
        let mut secret = || STANDARD.encode([(); 4].map(|()| random.next().to_be_bytes()).concat());
        let (key, owner) = (secret(), secret());
        let key_file = folder.path().join("acme-key.secret");
        std::fs::write(&key_file, format!("{key}\n")).expect("a file");
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).expect("ours");
        let at = folder.path().display();
        let mut config = format!(
            "options {{\n directory \"{at}\";\n listen-on port {port} {{ 127.0.0.1; }};\n \
             listen-on-v6 {{ none; }};\n recursion no;\n allow-query {{ any; }};\n notify no;\n \
             pid-file none;\n session-keyfile none;\n lock-file none;\n dnssec-validation no;\n \
             empty-zones-enable no;\n}};\ncontrols {{ }};\n"
        );
        for (name, secret) in [(KEY, &key), (OWNER, &owner)] {
            config +=
                &format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n");
        }
        for zone in zones {
            config += &format!(
                "zone \"{zone}\" {{\n type primary;\n file \"{zone}.db\";\n update-policy {{\n  \
                 grant {KEY} subdomain {zone}. TXT;\n  grant {OWNER} zonesub ANY;\n }};\n}};\n"
            );
            let records = format!(
                "$TTL 0\n@ IN SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 0\n@ IN NS ns.{zone}.\n\
                 @ IN A 127.0.0.1\n* IN A 127.0.0.1\n"
            );
            std::fs::write(folder.path().join(format!("{zone}.db")), records).expect("a file");
        }
        std::fs::write(folder.path().join("named.conf"), config).expect("a file");
        let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        let mut server = Self { daemon: None, folder, zones, port, owner, key_file };
        server.start_again();
        server
    }

    /// Where it answers, by UDP and TCP.
    pub fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its (first) zone, without a dot at the end.
    pub fn zone(&self) -> &str {
        &self.zones[0]
    }

    /// The name of the key (hmac-sha256) that may change TXT records.
    pub fn key_name(&self) -> &str {
        KEY
    }

    /// The file (0600) with the secret of that key, in base64 and nothing else.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Ends it; it does not answer any more.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// Starts it again at the same port, with the records that it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.stop();
        let mut command = Command::new("/usr/sbin/named");
        command.args(["-g", "-n", "1", "-c"]).arg(self.folder.path().join("named.conf"));
        let mut daemon = Daemon::spawn(&mut command, &self.folder.path().join("log"));
        let ready = daemon.wait_ready("named", || {
            let output = self.dig(&["SOA", &fqdn(self.zone()), "+short", "+tries=1", "+time=1"]);
            output.status.success() && !output.stdout.is_empty()
        });
        assert!(ready, "{}", daemon.log());
        self.daemon = Some(daemon);
    }

    /// Stops it where it is: it does not answer.
    ///
    /// # Panics
    /// When it is down.
    pub fn pause(&self) {
        self.daemon.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is down.
    pub fn resume(&self) {
        self.daemon.as_ref().expect("it runs").resume();
    }

    /// What it has logged: every update, and who was refused one.
    ///
    /// # Panics
    /// When that can't be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("its log")
    }

    /// The TXT records of a name, each without its quotes, in alphabetical order.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn query_txt(&self, name: &str) -> Vec<String> {
        // A record of several strings is their sum.
        let texts = self.query("TXT", name).into_iter();
        let mut texts: Vec<_> =
            texts.map(|text| text.trim_matches('"').replace("\" \"", "")).collect();
        texts.sort();
        texts
    }

    /// The records of one type that a name has, as `dig +short` prints them.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn query(&self, kind: &str, name: &str) -> Vec<String> {
        let output = self.dig(&[kind, &fqdn(name), "+short"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{kind} {name}: {text}");
        text.lines().map(str::to_owned).collect()
    }

    /// One more address (A, or AAAA) of a name.
    pub fn add_a(&self, name: &str, ip: std::net::IpAddr) {
        let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
        self.update(&format!("update add {} 0 {kind} {ip}", fqdn(name)));
    }

    /// One more CAA record of a name, such as `("issue", "letsencrypt.org")`.
    pub fn add_caa(&self, name: &str, tag: &str, value: &str) {
        self.update(&format!("update add {} 0 CAA 0 {tag} \"{value}\"", fqdn(name)));
    }

    /// A name that is another one.
    pub fn add_cname(&self, name: &str, target: &str) {
        self.update(&format!("update add {} 0 CNAME {}", fqdn(name), fqdn(target)));
    }

    /// One more TXT record of a name.
    pub fn add_txt(&self, name: &str, value: &str) {
        self.update(&format!("update add {} 0 TXT \"{value}\"", fqdn(name)));
    }

    /// A name has no records any more.
    pub fn remove(&self, name: &str) {
        self.update(&format!("update delete {}", fqdn(name)));
    }

    /// An update by the zone's owner, in lines as `nsupdate` takes them.
    #[track_caller]
    fn update(&self, lines: &str) {
        self.update_by(OWNER, &self.owner, lines).expect("the owner may change all");
    }

    /// An update by whoever has the key of [`Bind9::key_file`], in lines as `nsupdate` takes them.
    ///
    /// # Errors
    /// With why it was refused.
    ///
    /// # Panics
    /// When the key can't be read.
    pub fn update_by_key(&self, lines: &str) -> Result<(), String> {
        let secret = std::fs::read_to_string(&self.key_file).expect("our own file");
        self.update_by(KEY, secret.trim(), lines)
    }

    /// An update by somebody, in lines as `nsupdate` takes them.
    ///
    /// # Errors
    /// With why it was refused.
    ///
    /// # Panics
    /// When there is no `nsupdate`.
    pub fn update_by(&self, key: &str, secret: &str, lines: &str) -> Result<(), String> {
        let script = format!(
            "server 127.0.0.1 {}\nkey hmac-sha256:{key} {secret}\n{lines}\nsend\n",
            self.port
        );
        let file = tempfile::Builder::new().tempfile_in(&self.folder).expect("a file of ours");
        std::fs::write(file.path(), script).expect("a file");
        let output = Command::new("nsupdate").arg(file.path()).stdin(Stdio::null()).output();
        let output = output.expect("nsupdate is installed");
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    fn dig(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("dig");
        command.arg("-r").arg("@127.0.0.1").args(["-p", &self.port.to_string()]).args(arguments);
        command.stdin(Stdio::null()).output().expect("dig is installed")
    }
}
