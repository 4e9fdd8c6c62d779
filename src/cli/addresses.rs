//! Addresses as a person writes them, and what they resolve to.
//!
//! Invariant: what is wrong with the text is found before anything is looked up: the one is a usage
//! error, the other a failure of the network.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::Address;
use crate::net::ErrorText;

/// The longest path that fits into a `sockaddr_un` with the zero behind it: `unix(7)`.
const LONGEST_PATH: usize = 107;

/// `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressArgument {
    /// A host name, or an IP address, and a port.
    Host(String, u16),
    /// A port alone: every interface to listen on, loopback to connect to.
    Port(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The address that both programs use unless told otherwise: `127.0.0.1:7777`.
impl Default for AddressArgument {
    fn default() -> Self {
        AddressArgument::Host("127.0.0.1".into(), 7777)
    }
}

impl AddressArgument {
    /// Reads an address.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        if let Some(path) = text.as_bytes().strip_prefix(b"unix:") {
            return Self::unix(path);
        }
        let text = text.to_str().ok_or("it is not UTF-8")?;
        let (host, port) =
            text.rsplit_once(':').ok_or("expected HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH")?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = Some(port).filter(|_| is_number).and_then(|port| port.parse().ok());
        let port = port.ok_or("the port must be a number from 0 to 65535")?;
        if host.is_empty() {
            return Ok(AddressArgument::Port(port));
        }
        if let Some(literal) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let number = literal.split('%').next().unwrap_or(literal);
            number.parse::<Ipv6Addr>().map_err(|_| "what is in brackets must be an IPv6 address")?;
            return Ok(AddressArgument::Host(literal.into(), port));
        }
        if host.contains([':', '[', ']']) {
            return Err("an IPv6 address goes into brackets: [::1]:7777".into());
        }
        Ok(AddressArgument::Host(host.into(), port))
    }

    fn unix(path: &[u8]) -> Result<Self, String> {
        match path.len() {
            0 => Err("the path is empty".into()),
            1..=LONGEST_PATH if !path.contains(&0) => {
                Ok(AddressArgument::Unix(OsString::from_vec(path.to_vec()).into()))
            }
            1..=LONGEST_PATH => Err("the path contains a zero byte".into()),
            _ => Err(format!("the path is longer than {LONGEST_PATH} bytes")),
        }
    }

    /// The addresses to listen on.
    ///
    /// # Errors
    /// Names the host that is unknown.
    pub fn to_listen(&self) -> io::Result<Vec<Address>> {
        match self {
            AddressArgument::Port(port) => {
                // One socket for both families, where the machine has both.
                let any = if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
                    SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))
                } else {
                    SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port))
                };
                Ok(vec![Address::Tcp(any)])
            }
            other => other.resolve(),
        }
    }

    /// The addresses to connect to, in the order in which to try them.
    ///
    /// # Errors
    /// Names the host that is unknown.
    pub fn to_connect(&self) -> io::Result<Vec<Address>> {
        match self {
            AddressArgument::Port(port) => Ok(vec![
                Address::Tcp((Ipv4Addr::LOCALHOST, *port).into()),
                Address::Tcp((Ipv6Addr::LOCALHOST, *port).into()),
            ]),
            other => other.resolve(),
        }
    }

    fn resolve(&self) -> io::Result<Vec<Address>> {
        match self {
            AddressArgument::Unix(path) => Ok(vec![Address::Unix(path.clone())]),
            AddressArgument::Port(port) => Ok(vec![Address::Tcp((Ipv4Addr::LOCALHOST, *port).into())]),
            AddressArgument::Host(host, port) => {
                let found =
                    (host.as_str(), *port).to_socket_addrs().map_err(|error| unknown(host, &error))?;
                let mut addresses = Vec::new();
                for address in found.map(Address::Tcp) {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                Ok(addresses)
            }
        }
    }
}

fn unknown(host: &str, error: &io::Error) -> io::Error {
    let text = ErrorText(error).to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    io::Error::new(error.kind(), format!("cannot resolve {host}: {reason}"))
}

/// As it was typed.
impl fmt::Display for AddressArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressArgument::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            AddressArgument::Host(host, port) => write!(f, "{host}:{port}"),
            AddressArgument::Port(port) => write!(f, ":{port}"),
            AddressArgument::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AddressArgument, String> {
        AddressArgument::parse(OsStr::new(text))
    }

    #[test]
    fn every_form_is_shown_as_it_was_typed() {
        for text in ["127.0.0.1:7777", "localhost:0", "[::1]:65535", "[fe80::1%lo]:1", ":7", "unix:/run/x:1"]
        {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("unix:{}", "x".repeat(108));
        for text in [
            "",
            "host",
            "host:",
            "host:x",
            "host:65536",
            "host:-1",
            "host:+1",
            "::1:7",
            "[host]:1",
            "unix:",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
