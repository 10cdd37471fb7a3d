//! A real PgBouncer before a real PostgreSQL.

use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::clock::wait_until;
use crate::postgres::Postgres;

const PORT: u16 = 6432;

/// A running PgBouncer, on a unix socket only.
pub struct PgBouncer {
    child: Child,
    folder: TempDir,
}

impl PgBouncer {
    /// One that has `size` connections to the server's database "postgres", for the role "app".
    ///
    /// # Panics
    /// When it is missing (`tests/run` installs it), or does not start.
    pub fn start(server: &Postgres, size: u32) -> Self {
        Self::start_with(server, size, "pool_mode = session")
    }

    /// The same with these lines of its configuration.
    ///
    /// # Panics
    /// As [`PgBouncer::start`].
    pub fn start_with(server: &Postgres, size: u32, settings: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-pgb-").tempdir().expect("a folder");
        let text = format!(
            "[databases]\npostgres = host={} pool_size={size}\n\
             [pgbouncer]\nlisten_addr =\nlisten_port = {PORT}\nunix_socket_dir = {}\nauth_type = trust\n\
             auth_file = {}\nstats_users = stats\nmax_client_conn = 50\n{settings}\n",
            server.socket().display(),
            folder.path().display(),
            folder.path().join("users").display(),
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), text).expect("a file");
        std::fs::write(folder.path().join("users"), "\"app\" \"\"\n\"stats\" \"\"\n")
            .expect("a file");
        let mut command = Command::new("/usr/sbin/pgbouncer");
        // It does not serve as root, and takes another name instead.
        if rustix::process::geteuid().is_root() {
            use std::os::unix::fs::MetadataExt;

            let owner = std::fs::metadata(server.socket()).expect("the server's folder");
            chown(folder.path(), Some(owner.uid()), Some(owner.gid())).expect("root may");
            command.args(["-u", "postgres"]);
        }
        let child = command
            .arg(folder.path().join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed");
        let bouncer = Self { child, folder };
        let socket = bouncer.socket().join(format!(".s.PGSQL.{PORT}"));
        wait_until("PgBouncer", || socket.exists());
        bouncer
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Its console, as the configuration takes it.
    pub fn console(&self) -> String {
        format!("postgres://stats@localhost:{PORT}/pgbouncer?host={}", self.socket().display())
    }

    /// A psql that goes through it.
    pub fn client(&self, server: &Postgres) -> Command {
        let mut command = Command::new(server.client("psql").get_program());
        command.arg("-h").arg(self.socket()).args(["-p", &PORT.to_string(), "-U", "app"]);
        command.args(["-d", "postgres"]);
        command
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may be gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
