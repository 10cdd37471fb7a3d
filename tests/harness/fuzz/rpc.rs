//! What callers send: requests of every rpc, and queries of the pages of JSON.

use genesis_agent::error::Kind;
use genesis_agent::server::conversions::query;
use genesis_agent::server::routes::ROUTES;

use super::{REQUESTS, chosen, first_line, text};

/// The name of a request in the first line, then what may be one.
pub fn rpc_requests(data: &[u8]) {
    let (name, bytes) = first_line(data);
    let (name, look) = chosen(REQUESTS, name);
    look(name, bytes);
}

/// The path of a page in the first line, then a query: what is wrong with one is the caller's.
pub fn http_queries(data: &[u8]) {
    let (path, wanted) = first_line(data);
    let named = ROUTES.iter().find(|route| route.path.as_bytes() == path);
    let sum: usize = path.iter().map(|byte| usize::from(*byte)).sum();
    let route = named.unwrap_or_else(|| &ROUTES[sum % ROUTES.len()]);
    let request = query(route.path, &text(wanted)).expect("it is the path of a page");
    if let Err(error) = request {
        assert_eq!(error.kind, Kind::Invalid, "{}", error.chain());
    }
}
