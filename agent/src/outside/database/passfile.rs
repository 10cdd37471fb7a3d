//! Password files as libpq reads them: `hostname:port:database:username:password`, `*` for any, `\` before `:` and `\`.

use std::path::Path;

use crate::outside::secret;

/// A password file is no longer.
const LIMIT: u64 = 1 << 20;

/// Whose password is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The host's name or address; for a socket "localhost" is meant as well.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// The database.
    pub database: &'a str,
    /// The user.
    pub user: &'a str,
}

/// The first password in the file that fits; `None` where none does.
///
/// # Errors
/// When it can't be read, or others may read it: then libpq ignores it, and so does nobody notice.
pub fn read(path: &Path, wanted: &Wanted<'_>) -> Result<Option<String>, String> {
    Ok(find(&secret::text(path, LIMIT)?, wanted))
}

fn find(text: &str, wanted: &Wanted<'_>) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = split(line);
        let [host, port, database, user, password] = fields.as_slice() else { return None };
        let is = |field: &str, value: &str| field == "*" || field == value;
        let host = is(host, wanted.host) || (wanted.host.starts_with('/') && host == "localhost");
        let rest = is(port, &wanted.port.to_string())
            && is(database, wanted.database)
            && is(user, wanted.user);
        (host && rest).then(|| password.clone())
    })
}

/// The five fields; what comes after the fourth colon is the password, colons included only when escaped.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => fields.last_mut().into_iter().for_each(|field| field.extend(characters.next())),
            ':' if fields.len() < 5 => fields.push(String::new()),
            ':' => break,
            other => fields.last_mut().into_iter().for_each(|field| field.push(other)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const WANTED: Wanted<'_> =
        Wanted { host: "db.example", port: 5432, database: "trades", user: "genesis" };

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        for (text, found) in [
            ("db.example:5432:trades:genesis:one", Some("one")),
            ("# db.example:5432:trades:genesis:no\n*:*:*:*:two", Some("two")),
            ("db.example:5433:*:*:no\ndb.example:*:*:genesis:a\\:b\\\\c", Some("a:b\\c")),
            ("other:5432:trades:genesis:no", None),
            ("db.example:5432:trades:genesis", None),
            ("db.example:5432:trades:other:no", None),
            ("localhost:5432:trades:genesis:no", None),
            ("", None),
        ] {
            assert_eq!(find(text, &WANTED).as_deref(), found, "{text}");
        }
        let socket = Wanted { host: "/run/postgresql", ..WANTED };
        let found = find("localhost:*:*:*:local", &socket);
        assert_eq!(found.as_deref(), Some("local"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path, &WANTED).unwrap_err().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path, &WANTED).unwrap().as_deref(), Some("secret"));
        assert!(read(&folder.path().join("none"), &WANTED).unwrap_err().contains("can't read"));
    }
}
