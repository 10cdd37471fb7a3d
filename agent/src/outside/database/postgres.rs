//! Connections to PostgreSQL. Each says who it is, waits for locks only so long, and ends its statements by itself when
//! the agent is gone.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Connection, Row};

use super::passfile::{self, Wanted};
use super::{Failure, Postgres, fence};

/// How long a connection may take to stand.
const CONNECT: Duration = Duration::from_secs(5);
/// What a look may take.
pub const LOOK: Duration = Duration::from_secs(10);
/// An answer of JSON is no longer, in bytes.
const ANSWER_LIMIT: usize = 16 << 20;
/// Beyond a statement's own limit, so long until a server that says nothing counts as gone.
const SILENCE: Duration = Duration::from_secs(2);

/// Servers end what idles, or lasts, in their own way, and would end a care in its middle: its limits are its own.
const PATIENT: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
                       WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0'";

/// How long a session's statements may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Waiting for one lock.
    pub lock: Duration,
    /// One statement in all.
    pub statement: Duration,
}

impl Limits {
    /// For looking, which should wait for nobody.
    pub const LOOK: Self = Self { lock: Duration::from_secs(1), statement: LOOK };
}

/// One connection, for one purpose.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    statement: Duration,
    /// It reaches the server itself. Through a pool nothing is set: that would stay with whoever comes next.
    direct: bool,
}

/// Checks an address as the configuration has it.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("must begin with postgres:// or sqlite:".to_owned());
    }
    if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") {
        return Err("must hold no password: put it into password_file".to_owned());
    }
    const KNOWN: [&str; 9] = [
        "host",
        "hostaddr",
        "port",
        "user",
        "dbname",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
    ];
    if let Some((key, _)) = url.query_pairs().find(|(key, _)| !KNOWN.contains(&key.as_ref())) {
        return Err(format!("has {key:?}, which is none of {}", KNOWN.join(", ")));
    }
    PgConnectOptions::from_str(text).map_err(|error| error.to_string())?;
    Ok(())
}

impl Session {
    /// Opens one, as "genesis-agent/`purpose`". Where the target has a fence it is one that may work under it.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] with the reason, and those of [`fence::check`].
    pub async fn open(target: &Postgres, purpose: &str, limits: Limits) -> Result<Self, Failure> {
        let options = options(target, purpose).map_err(Failure::Unreachable)?;
        let mut session = Self::connect(&options).await?;
        session.direct = session.reaches_the_server().await?;
        if session.direct {
            session.run(PATIENT).await?;
        }
        if let Some(fence) = &target.fence {
            if !session.direct {
                // What a pool passes on is nobody's session: it could not be ended.
                return Err(Failure::Odd("a pool is there instead of the server".to_owned()));
            }
            session.limit(Limits::LOOK).await?;
            fence::check(&mut session, fence).await?;
        }
        session.limit(limits).await?;
        Ok(session)
    }

    /// Opens one to the console of a PgBouncer, which knows none of a server's settings and one statement at a time:
    /// only [`Session::table`] is for it.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] with the reason.
    pub async fn console(target: &Postgres, purpose: &str) -> Result<Self, Failure> {
        let options = bare_options(target, purpose).map_err(Failure::Unreachable)?;
        Self::connect(&options.extra_float_digits(None)).await
    }

    async fn connect(options: &PgConnectOptions) -> Result<Self, Failure> {
        let unreachable = |why: String| Failure::Unreachable(why);
        let connecting = tokio::time::timeout(CONNECT, PgConnection::connect_with(options));
        let connection = match connecting.await {
            Ok(connected) => connected.map_err(|error| match failure(&error) {
                // That it takes no more connections is an answer, and the one that some ask for.
                full if full.no_slot_left() => full,
                // Also a server that refuses the connection is one that can't be used.
                Failure::Refused { code, message } => unreachable(format!("{message} ({code})")),
                other => other,
            })?,
            Err(_) => return Err(unreachable(format!("no connection within {CONNECT:?}"))),
        };
        Ok(Self { connection, statement: LOOK, direct: false })
    }

    /// Sets how long its statements may take from now on.
    ///
    /// # Errors
    /// What the server says.
    pub async fn limit(&mut self, limits: Limits) -> Result<(), Failure> {
        if !self.direct {
            self.statement = limits.statement.min(LOOK);
            return Ok(());
        }
        self.statement = LOOK;
        // In the statement log it is to be seen. The last one ends what runs when the agent is killed.
        let sql = format!(
            "SET lock_timeout = {}; SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SET client_connection_check_interval = '1s'",
            limits.lock.as_millis().max(1),
            limits.statement.as_millis().max(1),
            LOOK.as_millis(),
        );
        self.run(&sql).await?;
        self.statement = limits.statement;
        Ok(())
    }

    /// Runs SQL that answers nothing of interest.
    ///
    /// # Errors
    /// What the server says.
    pub async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        let sent = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.connection);
        match tokio::time::timeout(self.statement + SILENCE, sent).await {
            Ok(done) => done.map(|_| ()).map_err(|error| failure(&error)),
            Err(_) => Err(Failure::Unreachable("the server stopped answering".to_owned())),
        }
    }

    /// The one JSON value that a query answers, in the one column of its one row.
    ///
    /// # Errors
    /// What the server says, or [`Failure::Odd`].
    pub async fn ask<T: DeserializeOwned>(&mut self, sql: &str) -> Result<T, Failure> {
        let text = self.text(sql).await?;
        serde_json::from_str(&text).map_err(|error| Failure::Odd(error.to_string()))
    }

    /// The one text that a query answers.
    ///
    /// # Errors
    /// What the server says, or [`Failure::Odd`].
    pub async fn text(&mut self, sql: &str) -> Result<String, Failure> {
        let rows = self.rows(sql).await?;
        let [row] = rows.as_slice() else {
            return Err(Failure::Odd(format!("{} rows instead of one", rows.len())));
        };
        let text: &str =
            row.try_get_raw(0).ok().and_then(|value| value.as_str().ok()).unwrap_or("");
        if text.len() > ANSWER_LIMIT {
            return Err(Failure::Odd("the answer is too long".to_owned()));
        }
        Ok(text.to_owned())
    }

    /// The rows that a query answers, for those who read them by column.
    ///
    /// # Errors
    /// What the server says.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<sqlx::postgres::PgRow>, Failure> {
        let sent = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.connection);
        match tokio::time::timeout(self.statement + SILENCE, sent).await {
            Ok(rows) => rows.map_err(|error| failure(&error)),
            Err(_) => Err(Failure::Unreachable("the server stopped answering".to_owned())),
        }
    }

    /// The rows that a query answers, each as texts by the names of its columns.
    ///
    /// # Errors
    /// What the server says.
    pub async fn table(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, Failure> {
        let rows = self.rows(sql).await?;
        let texts = rows.iter().map(|row| {
            let columns = row.columns().iter().map(|column| {
                let value = row.try_get_raw(column.ordinal()).ok();
                let text = value.as_ref().and_then(|value| value.as_str().ok()).unwrap_or("");
                (column.name().to_owned(), text.to_owned())
            });
            columns.collect()
        });
        Ok(texts.collect())
    }

    /// Whether it reaches the server itself, and not a pool, which would hand its locks to others.
    pub fn direct(&self) -> bool {
        self.direct
    }

    async fn reaches_the_server(&mut self) -> Result<bool, Failure> {
        let said =
            self.text("SELECT coalesce(current_setting('genesis.direct', true), '')").await?;
        Ok(said == "on")
    }

    /// Says goodbye. One that is only dropped is closed as well, once the server notices.
    pub async fn close(self) {
        let _ = tokio::time::timeout(SILENCE, self.connection.close()).await;
    }
}

/// How a target is connected to.
fn options(target: &Postgres, purpose: &str) -> Result<PgConnectOptions, String> {
    // Whoever only passes connections on drops this, or refuses it.
    Ok(bare_options(target, purpose)?.options([("genesis.direct", "on")]))
}

fn bare_options(target: &Postgres, purpose: &str) -> Result<PgConnectOptions, String> {
    let options = PgConnectOptions::from_str(&target.url).map_err(|error| error.to_string())?;
    let application = fence::application(purpose, target.fence.as_ref());
    let options = options.application_name(&application).disable_statement_logging();
    let Some(path) = &target.password_file else { return Ok(options) };
    let host = options
        .get_socket()
        .map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
    let wanted = Wanted {
        host: &host,
        port: options.get_port(),
        database: options.get_database().unwrap_or_else(|| options.get_username()),
        user: options.get_username(),
    };
    let password = passfile::read(path, &wanted)?;
    let password = password.ok_or_else(|| {
        format!("{} has no line for {}@{host}", path.display(), options.get_username())
    })?;
    Ok(options.password(&password))
}

/// By what the server at the end of a way proves that it is the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It is on this host: a socket, or loopback.
    Here,
    /// Its certificate, in this `sslmode`.
    Certificate(&'static str),
    /// Nothing: whoever answers at this host, in this `sslmode`, is taken for it.
    Nothing {
        /// The host as it is configured.
        host: String,
        /// The mode.
        mode: &'static str,
    },
}

/// By what a target's server proves itself, as its URL and the environment say.
///
/// # Errors
/// What is wrong with the URL.
pub fn proof(target: &Postgres) -> Result<Proof, String> {
    let options = PgConnectOptions::from_str(&target.url).map_err(|error| error.to_string())?;
    let host = options.get_host();
    if options.get_socket().is_some() || is_here(host) {
        return Ok(Proof::Here);
    }
    let nothing = |mode| Proof::Nothing { host: host.to_owned(), mode };
    Ok(match options.get_ssl_mode() {
        PgSslMode::VerifyFull => Proof::Certificate("verify-full"),
        PgSslMode::VerifyCa => Proof::Certificate("verify-ca"),
        // The driver looks at no certificate here, whatever sslrootcert says.
        PgSslMode::Require => nothing("require"),
        PgSslMode::Prefer => nothing("prefer"),
        PgSslMode::Allow => nothing("allow"),
        PgSslMode::Disable => nothing("disable"),
    })
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host.starts_with('/') || host == "localhost" || address.is_ok_and(|it| it.is_loopback())
}

/// In our words what the driver says. Its texts hold no password.
pub(super) fn failure(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(refused) => Failure::Refused {
            code: refused.code().unwrap_or_default().into_owned(),
            message: refused.message().to_owned(),
        },
        sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound
        | sqlx::Error::TypeNotFound { .. } => Failure::Odd(error.to_string()),
        other => Failure::Unreachable(other.to_string()),
    }
}

/// A name as it stands in SQL.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as it stands in SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_hold_no_password() {
        for good in [
            "postgres://genesis@db.example:5432/trades?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            "postgresql:///trades?host=/run/postgresql",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("mysql://x/y", "must begin"),
            ("postgres://a:b@host/x", "no password"),
            ("postgres://host/x?password=b", "no password"),
            ("postgres://host/x?options=-c", "none of"),
            ("trades", "no URL"),
            ("postgres://host/x?sslmode=maybe", "maybe"),
        ] {
            let said = check_url(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn a_server_elsewhere_is_proven_by_its_certificate_alone() {
        let of = |url: &str| {
            proof(&Postgres { url: url.to_owned(), password_file: None, fence: None }).unwrap()
        };
        for here in [
            "postgres:///trades?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/trades?sslmode=disable",
            "postgres://localhost/trades",
            "postgres://127.0.0.1:6432/trades?sslmode=prefer",
            "postgres://[::1]/trades",
        ] {
            assert_eq!(of(here), Proof::Here, "{here}");
        }
        for host in ["db.example", "10.0.0.7", "[2001:db8::7]", "localhost.example"] {
            let url = |mode: &str| format!("postgres://genesis@{host}/trades?sslmode={mode}");
            for mode in ["verify-ca", "verify-full"] {
                assert_eq!(of(&url(mode)), Proof::Certificate(mode));
            }
            for mode in ["disable", "allow", "prefer", "require"] {
                assert_eq!(of(&url(mode)), Proof::Nothing { host: host.to_owned(), mode });
                let with_roots = url(mode) + "&sslrootcert=/etc/ca.pem";
                assert_eq!(of(&with_roots), Proof::Nothing { host: host.to_owned(), mode });
            }
        }
        // hostaddr is where the connection goes.
        let elsewhere = of("postgres://localhost/trades?hostaddr=10.0.0.7&sslmode=require");
        assert_eq!(elsewhere, Proof::Nothing { host: "10.0.0.7".into(), mode: "require" });
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's \\ here"), "E'it''s \\\\ here'");
    }
}
