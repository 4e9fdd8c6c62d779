//! The part of HTTP/1.1 that one page needs, for a `Reader` and a `Writer`.
//!
//! Invariant: a large request is refused. If a request does not arrive in time, the connection
//! ends.
//!
//! Read next: `site.rs`, which answers.

use std::io;

use echo_reactor::{Reader, Writer};

const MOST_HEAD: usize = 8 * 1024;
const MOST_BODY: usize = 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub host: Option<String>,
    pub origin: Option<String>,
    pub keep_alive: bool,
    pub body: Vec<u8>,
}

/// The refusal of a request: the status, and a sentence for a person.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub &'static str, pub String);

fn refused<T>(status: &'static str, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(status, why.into()))
}

/// Reads a request. `pending` holds the bytes that came after the last request. Returns `None` if
/// the peer has ended its side.
pub async fn read(
    reader: &mut Reader,
    pending: &mut Vec<u8>,
) -> io::Result<Option<Result<Request, Refused>>> {
    loop {
        match parse(pending) {
            Ok(Some((request, used))) => {
                pending.drain(..used);
                return Ok(Some(Ok(request)));
            }
            Ok(None) => {}
            Err(why) => return Ok(Some(Err(why))),
        }
        let mut buffer = [0; 2048];
        match reader.read(&mut buffer).await? {
            0 => return Ok(None),
            count => pending.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Parses a request. Returns it and its length, or `None` if it is not complete.
pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MOST_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() <= MOST_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return refused("431 Request Header Fields Too Large", "The head of the request is too long.");
        }
        Err(error) => return refused("400 Bad Request", format!("The request is not HTTP/1.1: {error}.")),
    };
    let (mut host, mut origin, mut body_length) = (None, None, 0);
    let mut keep_alive = head.version == Some(1);
    for header in head.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        match header.name.to_ascii_lowercase().as_str() {
            "host" if host.is_some() => return refused("400 Bad Request", "There are two Host headers."),
            "host" => host = Some(value),
            "origin" => origin = Some(value),
            "connection" => keep_alive &= !value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => return refused("411 Length Required", "Send a Content-Length."),
            "content-length" => match value.parse::<usize>() {
                Ok(length) => body_length = length,
                Err(_) => return refused("400 Bad Request", "The Content-Length is not a number."),
            },
            _ => {}
        }
    }
    if body_length > MOST_BODY {
        return refused("413 Content Too Large", format!("A body has at most {MOST_BODY} bytes."));
    }
    let Some(body) = bytes.get(length..length + body_length) else { return Ok(None) };
    let request = Request {
        method: head.method.unwrap_or_default().into(),
        path: head.path.unwrap_or_default().into(),
        host,
        origin,
        keep_alive,
        body: body.to_vec(),
    };
    Ok(Some((request, length + body_length)))
}

/// The head of every answer. The page loads nothing from other servers, and no other page may embed
/// it.
pub fn head(status: &str, kind: &str, rest: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'self'; img-src data:; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\n{rest}\r\n"
    )
}

pub async fn answer(
    writer: &mut Writer,
    status: &str,
    kind: &str,
    body: &[u8],
    keep_alive: bool,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let rest = format!("Content-Length: {}\r\nConnection: {connection}\r\n", body.len());
    let mut bytes = head(status, kind, &rest).into_bytes();
    bytes.extend_from_slice(body);
    writer.write_all(&bytes).await
}
