//! Whether two means lead to one trading system, as far as this host can see it.

use std::net::SocketAddr;

use super::Means;

/// Where a target is: the socket behind a path, whatever links lead there, or the addresses behind a name.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Socket(std::path::PathBuf),
    Addresses(Vec<SocketAddr>),
    Text(String),
}

/// Whether both lead to the same place. Looks at the file system and asks the DNS, so it may wait.
pub async fn same_place(one: &Means, other: &Means) -> bool {
    match (one, other) {
        (Means::Grpc { target: one, .. }, Means::Grpc { target: other, .. }) => {
            let (one, other) = (place(one).await, place(other).await);
            match (&one, &other) {
                // One address in common is enough.
                (Place::Addresses(one), Place::Addresses(other)) => {
                    one.iter().any(|address| other.contains(address))
                }
                _ => one == other,
            }
        }
        (Means::Command(one), Means::Command(other)) => one.command == other.command,
        _ => false,
    }
}

async fn place(target: &str) -> Place {
    let text = || Place::Text(target.to_owned());
    if let Some(path) = target.strip_prefix("unix:") {
        let path = path.to_owned();
        let real = tokio::task::spawn_blocking(move || std::fs::canonicalize(path)).await;
        return real.ok().and_then(Result::ok).map_or_else(text, Place::Socket);
    }
    let Ok(url) = url::Url::parse(target) else { return text() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return text();
    };
    match tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await {
        Ok(found) => Place::Addresses(found.collect()),
        Err(_) => text(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_socket_is_one_place_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("unix:{}", folder.path().join(name).display());
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        let grpc =
            |target: String| Means::Grpc { target, ca: None, timeout: Duration::from_secs(1) };
        for (one, other, same) in [
            (at("a"), at("a"), true),
            (at("a"), at("./a"), true),
            (at("a"), at("link"), true),
            (at("a"), at("b"), false),
            (at("gone"), at("gone"), true),
            ("http://127.0.0.1:9000".to_owned(), "http://127.0.0.1:9000/".to_owned(), true),
            ("http://localhost:9000".to_owned(), "http://127.0.0.1:9000".to_owned(), true),
            ("http://127.0.0.1:9000".to_owned(), "http://127.0.0.1:9001".to_owned(), false),
            (at("a"), "http://127.0.0.1:9000".to_owned(), false),
        ] {
            let found = same_place(&grpc(one.clone()), &grpc(other.clone())).await;
            assert_eq!(found, same, "{one} {other}");
        }
    }
}
