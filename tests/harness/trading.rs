//! A trading system that says of its trades what a test wants: the real contract on a unix socket.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use genesis_proto::trading::trading_control_server::{TradingControl, TradingControlServer};
use genesis_proto::trading::{
    CancelAllRequest, CancelAllResponse, ClosePositionsRequest, ClosePositionsResponse,
    CriticalTradesRequest, CriticalTradesResponse, HaltRequest, HaltResponse, PositionsRequest,
    PositionsResponse, QueryOrdersRequest, QueryOrdersResponse, ResumeRequest, ResumeResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// What it says when it is asked about critical trades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// So many.
    Count(u64),
    /// None until it was asked so often, and one from then on.
    NoneUntil(u64),
    /// An error.
    Fails,
    /// Nothing, for ever.
    Nothing,
}

/// The trading system. Its thread ends with the process.
pub struct TradingSystem {
    socket: PathBuf,
    desk: Arc<Desk>,
}

struct Desk {
    says: Mutex<Says>,
    asked: AtomicU64,
}

impl TradingSystem {
    /// One whose socket is in `folder`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(folder: &Path, says: Says) -> Self {
        let socket = folder.join("trading.sock");
        let desk = Arc::new(Desk { says: Mutex::new(says), asked: AtomicU64::new(0) });
        let (served, path) = (Arc::clone(&desk), socket.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let incoming = UnixListenerStream::new(UnixListener::bind(path).expect("a socket"));
                ready.send(()).expect("somebody waits");
                let service = TradingControlServer::new(Service(served));
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.expect("it serves");
            });
        });
        is_ready.recv().expect("it is ready");
        Self { socket, desk }
    }

    /// What `trades_probe` must be to ask it.
    pub fn probe(&self, timeout: &str) -> String {
        format!("{{ grpc = \"unix:{}\", timeout = {timeout:?} }}", self.socket.display())
    }

    /// Says this from now on.
    ///
    /// # Panics
    /// When its thread did.
    pub fn says(&self, says: Says) {
        *self.desk.says.lock().expect("never poisoned") = says;
    }

    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.desk.asked.load(Ordering::SeqCst)
    }
}

struct Service(Arc<Desk>);

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no test asks for it"))
}

#[tonic::async_trait]
impl TradingControl for Service {
    async fn critical_trades(
        &self,
        _: Request<CriticalTradesRequest>,
    ) -> Result<Response<CriticalTradesResponse>, Status> {
        let asked = self.0.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let says = *self.0.says.lock().expect("never poisoned");
        let told = |count: u64| CriticalTradesResponse { count, trades: Vec::new() };
        match says {
            Says::Count(count) => Ok(Response::new(told(count))),
            Says::NoneUntil(times) => Ok(Response::new(told(u64::from(asked > times)))),
            Says::Fails => Err(Status::internal("the book is locked")),
            Says::Nothing => std::future::pending().await,
        }
    }

    async fn halt(&self, _: Request<HaltRequest>) -> Result<Response<HaltResponse>, Status> {
        not_asked()
    }

    async fn cancel_all(
        &self,
        _: Request<CancelAllRequest>,
    ) -> Result<Response<CancelAllResponse>, Status> {
        not_asked()
    }

    async fn close_positions(
        &self,
        _: Request<ClosePositionsRequest>,
    ) -> Result<Response<ClosePositionsResponse>, Status> {
        not_asked()
    }

    async fn query_orders(
        &self,
        _: Request<QueryOrdersRequest>,
    ) -> Result<Response<QueryOrdersResponse>, Status> {
        not_asked()
    }

    async fn positions(
        &self,
        _: Request<PositionsRequest>,
    ) -> Result<Response<PositionsResponse>, Status> {
        not_asked()
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        not_asked()
    }
}
