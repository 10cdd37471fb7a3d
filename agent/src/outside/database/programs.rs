//! PostgreSQL's own programs: where they are, and how they are called.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::Postgres;

/// Where Debian and Red Hat put the programs of a major version.
const PLACES: [&str; 2] = ["/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin"];

/// A program of this major version: in `folder` if that is given, else where distributions put it, else by its name
/// alone, for `PATH`.
pub fn program(folder: Option<&Path>, major: u32, name: &str) -> String {
    let usual = PLACES.iter().map(|place| PathBuf::from(place.replace("{}", &major.to_string())));
    let folders = folder.map(Path::to_owned).into_iter().chain(usual);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

/// The arguments of pg_basebackup for a plain copy that carries its own checksums and the WAL that it needs. No
/// password is among them: it is in a file, which the environment names.
pub fn base_backup(target: &Postgres, into: &Path, label: &str) -> Vec<String> {
    let into = into.display().to_string();
    let mut arguments: Vec<String> =
        ["-d", &target.url, "-D", &into, "-l", label].map(Into::into).into();
    arguments.extend(
        ["-Fp", "-X", "stream", "-c", "fast", "--manifest-checksums=SHA256", "-w"].map(Into::into),
    );
    arguments
}

/// What libpq's programs find in their environment.
pub fn environment(target: &Postgres) -> Vec<String> {
    let mut variables = vec![
        "LC_ALL=C".to_owned(),
        "PGAPPNAME=genesis-agent/backup".to_owned(),
        "PGCONNECT_TIMEOUT=10".to_owned(),
    ];
    let file = target.password_file.as_ref();
    variables.extend(file.map(|file| format!("PGPASSFILE={}", file.display())));
    variables
}

/// The same user and database on another server, which listens on a socket in `folder` and asks for no password.
///
/// # Errors
/// When the address can't be read.
pub fn at_socket(target: &Postgres, folder: &Path) -> Result<Postgres, String> {
    let options = PgConnectOptions::from_str(&target.url).map_err(|error| error.to_string())?;
    let user = options.get_username().to_owned();
    let database = options.get_database().unwrap_or(&user).to_owned();
    let mut url = url::Url::parse("postgres:///").map_err(|error| error.to_string())?;
    url.set_path(&database);
    let folder = folder.display().to_string();
    url.query_pairs_mut()
        .append_pair("host", &folder)
        .append_pair("port", "5432")
        .append_pair("user", &user);
    Ok(Postgres { url: url.to_string(), password_file: None, fence: None })
}

/// A value of what pg_controldata prints.
pub fn control<'a>(printed: &'a str, key: &str) -> Option<&'a str> {
    let found = printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    found.map(str::trim).filter(|value| !value.is_empty())
}

/// The major version in the text of a file PG_VERSION.
pub fn major(text: &str) -> Option<u32> {
    text.trim().split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Postgres {
        Postgres {
            url: url.to_owned(),
            password_file: Some("/etc/genesis/pgpass".into()),
            fence: None,
        }
    }

    #[test]
    fn nothing_secret_is_among_the_arguments() {
        let target = target("postgres://genesis@db.example:5432/trades?sslmode=verify-full");
        let arguments = base_backup(&target, Path::new("/b/x.partial/data"), "genesis x");
        let at = |flag: &str| {
            let at = arguments.iter().position(|argument| argument == flag).unwrap();
            arguments[at + 1].as_str()
        };
        assert_eq!((at("-d"), at("-D")), (target.url.as_str(), "/b/x.partial/data"));
        assert!(arguments.contains(&"--manifest-checksums=SHA256".to_owned()));
        assert!(environment(&target).contains(&"PGPASSFILE=/etc/genesis/pgpass".to_owned()));
    }

    #[test]
    fn a_scratch_server_is_reached_by_its_socket_alone() {
        let scratch = at_socket(
            &target("postgres://gen@db:6000/trades?sslmode=require"),
            Path::new("/s c/1"),
        );
        let scratch = scratch.unwrap();
        assert_eq!(scratch.url, "postgres:///trades?host=%2Fs+c%2F1&port=5432&user=gen");
        assert_eq!(scratch.password_file, None);
        super::super::postgres::check_url(&scratch.url).unwrap();
    }

    #[test]
    fn what_programs_print_is_read() {
        let printed = "pg_control version number:            1300\n\
                       Database system identifier:           7441234567890123456\n\
                       max_prepared_xacts setting:           0\n";
        assert_eq!(control(printed, "Database system identifier"), Some("7441234567890123456"));
        assert_eq!(control(printed, "max_prepared_xacts setting"), Some("0"));
        assert_eq!(control(printed, "Database"), None);
        assert_eq!((major("15\n"), major("9.6\n"), major("x")), (Some(15), Some(9), None));
    }

    #[test]
    fn programs_are_looked_for_where_they_are_said_to_be_first() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(program(Some(folder.path()), 1, "postgres"), "postgres");
        std::fs::write(folder.path().join("postgres"), "").unwrap();
        let found = program(Some(folder.path()), 1, "postgres");
        assert_eq!(found, folder.path().join("postgres").display().to_string());
    }
}
