//! Just enough HTTP.

use std::io::{BufReader, Read, Write};
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

/// As [`get`], where nobody may answer.
///
/// # Errors
/// When nobody does, or the connection ends before the answer does.
///
/// # Panics
/// When it is not HTTP.
pub fn try_get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    try_send(address, "GET", path, "\r\n")
}

/// GETs `path` with more lines in the head, each with its end of line; returns the answer's head and body.
///
/// # Panics
/// As [`get`].
pub fn get_with(address: SocketAddr, path: &str, more: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nconnection: close\r\n{more}\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// GETs a stream that does not end: what comes of it, line by line, its head and its chunks included.
///
/// # Panics
/// When nobody answers.
pub fn follow(address: SocketAddr, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").expect("a request");
    BufReader::new(stream)
}

fn send(address: SocketAddr, method: &str, path: &str, rest: &str) -> (u16, String) {
    let rest = if rest.is_empty() { "\r\n" } else { rest };
    try_send(address, method, path, rest).expect("somebody answers by HTTP")
}

fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    rest: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{rest}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding: chunked"),
        "these small pages come in one piece"
    );
    Ok((status, body.to_owned()))
}
