//! Addresses: where one listens, and what one connects to.
//!
//! Read next: `socket.rs`.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, io};

use super::Escaped;

/// The address of one end: a TCP address, or the path of a Unix socket. It is shown as a user would
/// type it, and parsed from the same text.
///
/// ```
/// use echo_reactor::Address;
/// # fn main() -> Result<(), echo_reactor::ParseAddressError> {
/// let tcp: Address = "[::1]:7777".parse()?;
/// assert_eq!(tcp.to_string(), "[::1]:7777");
/// assert_eq!("unix:/run/echo".parse::<Address>()?, Address::Unix("/run/echo".into()));
/// let error = "localhost".parse::<Address>().unwrap_err();
/// assert_eq!(error.to_string(), "'localhost' is not an address: expected IP:PORT or unix:PATH");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket; empty for an end without a name.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    /// Parses `IP:PORT`, `[IPV6]:PORT` or `unix:PATH`. Host names are not looked up, because a lookup
    /// blocks.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Address::Unix(path.into())),
            Some(_) => Err(ParseAddressError(text.into())),
            None => text.parse().map(Address::Tcp).map_err(|_| ParseAddressError(text.into())),
        }
    }
}

/// The error of parsing an [`Address`]. It shows the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAddressError(String);

impl fmt::Display for ParseAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not an address: expected IP:PORT or unix:PATH", self.0.escape_debug())
    }
}

impl Error for ParseAddressError {}

impl From<ParseAddressError> for io::Error {
    fn from(error: ParseAddressError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

impl From<SocketAddr> for Address {
    /// An IPv4 address that a dual-stack socket reports as IPv6 becomes IPv4 again.
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(v4) => Address::Tcp(SocketAddr::new(v4.into(), address.port())),
            IpAddr::V6(_) => Address::Tcp(address),
        }
    }
}

impl From<std::os::unix::net::SocketAddr> for Address {
    fn from(address: std::os::unix::net::SocketAddr) -> Self {
        Address::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", Escaped(path.as_os_str().as_bytes())),
        }
    }
}
