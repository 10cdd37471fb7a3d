//! Just enough HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::clock::LIMIT;

/// GETs `path`; returns the status and the body.
///
/// # Panics
/// When nobody answers, or not with HTTP.
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, "GET", path)
}

/// As [`get`], with another method.
///
/// # Panics
/// As [`get`].
pub fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    send(address, method, path, "")
}

/// POSTs a body to `path`; returns the status and the body of the answer.
///
/// # Panics
/// As [`get`].
pub fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    send(address, "POST", path, &format!("content-length: {}\r\n\r\n{body}", body.len()))
}

fn send(address: SocketAddr, method: &str, path: &str, rest: &str) -> (u16, String) {
    let rest = if rest.is_empty() { "\r\n" } else { rest };
    let mut stream = TcpStream::connect(address).expect("somebody listens on HTTP");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit that is not zero");
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{rest}")
        .expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding: chunked"),
        "these small pages come in one piece"
    );
    (status, body.to_owned())
}
