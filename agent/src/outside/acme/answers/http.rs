//! http-01 (RFC 8555, section 8.3): at a listener of our own, or in a folder that a web server serves.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::listeners::Entries;

/// Where CAs look.
const PLACE: &str = "/.well-known/acme-challenge/";

/// Serves the tokens that are to be seen, and nothing else.
pub(super) fn serve(stream: TcpStream, entries: Arc<Entries<Bytes>>) -> BoxFuture<'static, ()> {
    async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&request, &entries);
            async move { Ok::<_, Infallible>(answer) }
        });
        // Who hangs up has seen what they wanted.
        let _ = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
    .boxed()
}

fn answer<B>(request: &Request<B>, entries: &Entries<Bytes>) -> Response<Full<Bytes>> {
    let asked = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
    let token = request.uri().path().strip_prefix(PLACE).filter(|_| asked);
    let (status, body) = match token.and_then(|token| entries.get(token)) {
        Some(body) => (StatusCode::OK, body),
        None => (StatusCode::NOT_FOUND, Bytes::new()),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Where a token is in a web server's folder.
pub(super) fn file_of(root: &Path, token: &str) -> PathBuf {
    root.join(&PLACE[1..]).join(token)
}

/// Puts a file there, whole at once, that a web server of another user can read.
///
/// # Errors
/// What is in the way.
pub(super) fn put(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    let folder = path.parent().unwrap_or(Path::new("/"));
    for each in [folder.parent().unwrap_or(folder), folder] {
        match std::fs::DirBuilder::new().mode(0o755).create(each) {
            // Ours alone, whatever the umask of the agent takes away.
            Ok(()) => std::fs::set_permissions(each, PermissionsExt::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::listeners::Listeners;
    use super::*;

    #[test]
    fn a_file_is_put_where_a_web_server_of_another_user_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let path = file_of(root.path(), "token");
        assert!(path.ends_with(".well-known/acme-challenge/token"), "{path:?}");
        for text in ["token.one", "token.two"] {
            put(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o644);
        assert_eq!(mode(path.parent().unwrap()), 0o755);
        let gone = file_of(&root.path().join("gone"), "token");
        assert!(put(&gone, "x").is_err(), "a root that is not there is a mistake of somebody");
    }

    #[tokio::test]
    async fn only_known_tokens_are_served() {
        let listeners = Listeners::new(serve);
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], crate::outside::ports::free_port()));
        let seen = listeners.show(free, "token".into(), Bytes::from_static(b"token.x")).await;
        let web = crate::outside::web::Web::default();
        for (path, status, body) in [
            ("/.well-known/acme-challenge/token", 200, "token.x"),
            ("/.well-known/acme-challenge/token?x=y", 200, "token.x"),
            ("/.well-known/acme-challenge/", 404, ""),
            ("/.well-known/acme-challenge/other", 404, ""),
            ("/.well-known/acme-challenge/../../etc/passwd", 404, ""),
            ("/token", 404, ""),
            ("/", 404, ""),
        ] {
            let answer = web.get(&format!("http://{free}{path}"), &[], 100).await.unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (status, body.as_bytes()),
                "{path}"
            );
        }
        let url = format!("http://{free}/.well-known/acme-challenge/token");
        assert_eq!(web.post(&url, &[], "x", 100).await.unwrap().status, 404);
        drop(seen);
    }
}
