//! Splits and checks the parts of `HOST:PORT` and `[IPV6]:PORT`.
//!
//! Invariant: text with several readings is an error that shows what to type. So an IPv6 address
//! with a port needs brackets, and a port is a decimal number or a known service.
//!
//! Read next: `addresses.rs`, the whole address.

use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};

use super::addresses::DEFAULT_PORT;
use crate::sys;

/// Splits an argument into host and port, and removes brackets. Without a colon, there is no port.
pub(super) fn split(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("expected [IPV6]:PORT")?;
        if !is_ipv6(host) {
            return Err("only an IPv6 address takes brackets: [::1]:7777".into());
        }
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if port.is_empty() => Err(format!("the port is missing; type [{host}]:{DEFAULT_PORT}")),
            None => Err("expected [IPV6]:PORT".into()),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, rest)) if rest.contains(':') => {
            let hint = match ipv6_and_port(text) {
                Some((host, port)) => needs_brackets(host, port),
                None if is_ipv6(text) => needs_brackets(text, "7777"),
                None => "it has too many colons".into(),
            };
            Err(format!("expected HOST:PORT; {hint}"))
        }
        Some((host, port)) => Ok((host, Some(port))),
    }
}

/// Splits an IPv6 address without brackets from a port after it. `::1:7` is an address, too, but
/// nobody means that one.
fn ipv6_and_port(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':')
        .filter(|&(host, port)| is_number(port) && is_ipv6(host) && (host == "::1" || !is_ipv6(text)))
}

fn needs_brackets(host: &str, port: &str) -> String {
    format!("an IPv6 address needs brackets: [{host}]:{port}")
}

/// Parses a port: a number or a service name.
pub(super) fn port(text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err("the port after the colon is missing".into());
    }
    if is_number(text) {
        return text.parse().map_err(|_| "the port must be a number from 0 to 65535".into());
    }
    // `getaddrinfo` parses text without a letter as a number: "-1" would be 65535.
    let name = CString::new(text).ok().filter(|_| text.contains(|c: char| c.is_ascii_alphabetic()));
    let port = name.and_then(|name| sys::service_port(&name));
    port.ok_or_else(|| format!("'{text}' is neither a port number (0 to 65535) nor a known service"))
}

pub(super) fn host_name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("the host is empty".into()),
        "-" => Err("'-' is not a host".into()),
        // With its port, it would look like the address of a Unix socket.
        text if begins_unix_address(text) => {
            Err(format!("'{text}' is not a host; for a Unix socket, the address is unix:PATH"))
        }
        text if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("a host name cannot contain spaces or control characters".into())
        }
        text => Ok(text.into()),
    }
}

/// Returns whether the address of a Unix socket begins like this: ours, or that of `socat`.
pub(super) fn begins_unix_address(text: &str) -> bool {
    ["unix", "unix-connect", "unix-listen"].iter().any(|known| known.eq_ignore_ascii_case(text))
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the IP address of a host that is not a name. A zone (`fe80::1%eth0`) is ignored.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let (ip, zone) = host.split_once('%').unwrap_or((host, ""));
    ip.parse().ok().filter(|_| !zone.contains(':'))
}

pub(super) fn is_ipv6(host: &str) -> bool {
    literal(host).is_some_and(|ip| ip.is_ipv6())
}

pub(super) fn without_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
}

/// Parses the address of `--source`: an IP address, with or without a port.
///
/// # Errors
/// The error says what was expected.
pub fn source_address(text: &str) -> Result<SocketAddr, String> {
    if let Some((host, port)) = ipv6_and_port(text) {
        return Err(needs_brackets(host, port));
    }
    let ip = without_brackets(text).unwrap_or(text).parse().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    text.parse().or(ip).map_err(|_| "expected an IP address of this machine, or IP:PORT".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_an_ip_address_with_or_without_a_port() {
        for (text, expected) in
            [("127.0.0.2", "127.0.0.2:0"), ("127.0.0.2:80", "127.0.0.2:80"), ("::1", "[::1]:0")]
        {
            assert_eq!(source_address(text), Ok(expected.parse().unwrap()));
        }
        assert_eq!(source_address("[::1]"), source_address("::1"));
        assert!(source_address("localhost").is_err());
        for (text, hint) in [("::1:5555", "[::1]:5555"), ("1:2:3:4:5:6:7:8:9", "[1:2:3:4:5:6:7:8]:9")] {
            assert_eq!(source_address(text), Err(format!("an IPv6 address needs brackets: {hint}")));
        }
        assert_eq!(source_address("fe80::1:2"), Ok("[fe80::1:2]:0".parse().unwrap()));
    }
}
