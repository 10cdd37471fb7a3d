//! A real S3 server (s3s-fs) on a folder, and the ways in which one goes wrong.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;

/// The bucket that there is.
pub const BUCKET: &str = "logs";
const KEY: (&str, &str) = ("test-key", "test-secret-never-to-be-seen");

/// How the server goes wrong with what is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// It says that it has stored an object, with the right ETag, and has half of it.
    Truncates,
    /// The same, with one byte of it changed.
    Garbles,
    /// It answers 500 and stores nothing.
    Errs,
    /// It stores, and answers 500.
    ErrsAfterwards,
    /// Each part but the first of an upload fails, and so does each attempt to abort it.
    LosesParts,
    /// It never answers.
    Hangs,
}

/// What a request that makes an object asked of the encryption of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The object's path.
    pub path: String,
    /// It begins an upload in parts.
    pub in_parts: bool,
    /// The way.
    pub way: Option<String>,
    /// The key.
    pub key: Option<String>,
}

/// A server with one bucket.
pub struct S3 {
    folder: TempDir,
    address: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    requests: Arc<AtomicU64>,
    bytes_read: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: tokio::runtime::Runtime,
}

impl S3 {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    /// When it can't.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-s3-").tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(BUCKET)).expect("a bucket");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut builder =
            S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).expect("a file system"));
        builder.set_auth(SimpleAuth::from_single(KEY.0, KEY.1));
        let (service, fault) = (builder.build(), Arc::new(Mutex::new(Fault::None)));
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port on loopback");
        let address = listener.local_addr().expect("a bound port");
        let (requests, bytes_read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let server = Server {
            service,
            asked: Arc::clone(&asked),
            fault: Arc::clone(&fault),
            requests: Arc::clone(&requests),
            bytes_read: Arc::clone(&bytes_read),
            root: folder.path().to_owned(),
        };
        runtime.spawn(server.serve(listener));
        Self { folder, address, fault, requests, bytes_read, asked, _runtime: runtime }
    }

    /// The `[logs.archive]` for it, with a timeout; writes the credentials beside the bucket.
    ///
    /// # Panics
    /// When they can't be written.
    pub fn config(&self, prefix: &str, timeout: &str) -> String {
        use std::os::unix::fs::PermissionsExt;

        let file = self.credentials();
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            KEY.0, KEY.1
        );
        std::fs::write(&file, text).expect("credentials can be written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
        format!(
            "[logs.archive]\nurl = \"s3://{BUCKET}/{prefix}\"\nendpoint = \"http://{}\"\n\
             credentials_file = {file:?}\ntimeout = {timeout:?}\n",
            self.address
        )
    }

    /// The file with its credentials.
    pub fn credentials(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    /// The secret of its credentials.
    pub fn secret(&self) -> &'static str {
        KEY.1
    }

    /// From now on it goes wrong like this.
    ///
    /// # Panics
    /// When the server did.
    pub fn fail(&self, fault: Fault) {
        *self.fault.lock().expect("never poisoned") = fault;
    }

    /// How many requests it has had.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// How many bytes of objects it was asked for by GET.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::SeqCst)
    }

    /// What was asked of the encryption of each object that was to be made, in order.
    ///
    /// # Panics
    /// When the server did.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("never poisoned").clone()
    }

    /// The folder with the objects of the bucket.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join(BUCKET)
    }

    /// What uploads in parts have left.
    ///
    /// # Panics
    /// When it can't be looked into.
    pub fn orphans(&self) -> Vec<String> {
        std::fs::read_dir(self.folder.path())
            .expect("our folder")
            .map(|entry| entry.expect("our folder").file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(".upload"))
            .collect()
    }
}

#[derive(Clone)]
struct Server {
    service: S3Service,
    fault: Arc<Mutex<Fault>>,
    requests: Arc<AtomicU64>,
    bytes_read: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<Asked>>>,
    root: PathBuf,
}

impl Server {
    async fn serve(self, listener: tokio::net::TcpListener) {
        while let Ok((socket, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                // Whoever leaves in the middle is no concern of the server.
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<s3s::Body> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock().expect("never poisoned");
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let query = uri.query().unwrap_or_default().to_owned();
        let writes = method == Method::PUT || method == Method::POST || method == Method::DELETE;
        let part = query.split('&').find_map(|pair| pair.strip_prefix("partNumber="));
        let aborts = method == Method::DELETE && query.contains("uploadId=");
        // A whole object, or the end of one in parts.
        let stores = method == Method::PUT && part.is_none()
            || method == Method::POST && query.contains("uploadId=");
        let begins =
            method == Method::POST && query.split('&').any(|pair| pair.starts_with("uploads"));
        if begins || method == Method::PUT && part.is_none() {
            let header = |name: &str| {
                let value = request.headers().get(format!("x-amz-server-side-encryption{name}"));
                value.and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            let path = uri.path().to_owned();
            let (way, key) = (header(""), header("-aws-kms-key-id"));
            let asked = Asked { path, in_parts: begins, way, key };
            self.asked.lock().expect("never poisoned").push(asked);
        }
        match fault {
            Fault::Hangs => std::future::pending::<()>().await,
            Fault::Errs if writes => return failed(),
            Fault::LosesParts if aborts || part.is_some_and(|part| part != "1") => {
                return failed();
            }
            _ => {}
        }
        let Ok(response) = self.service.call(request.map(s3s::Body::from)).await else {
            return failed();
        };
        if method == Method::GET {
            let length = response.headers().get(http::header::CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            self.bytes_read.fetch_add(length.unwrap_or(0), Ordering::SeqCst);
        }
        if stores && response.status().is_success() {
            let path = self.root.join(uri.path().trim_start_matches('/'));
            match fault {
                Fault::Truncates => spoil(&path, |bytes| bytes.truncate(bytes.len() / 2)),
                Fault::Garbles => spoil(&path, |bytes| {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                }),
                Fault::ErrsAfterwards => return failed(),
                _ => {}
            }
        }
        response
    }
}

fn spoil(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("an object that was just stored");
    how(&mut bytes);
    std::fs::write(path, bytes).expect("our folder");
}

fn failed() -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
