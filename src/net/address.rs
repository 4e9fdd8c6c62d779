//! Addresses to listen on and to connect to.
//!
//! Read next: `socket.rs`.

use std::error::Error;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, io, mem};

use super::Escaped;
use crate::sys;

/// The longest path that fits into a `sockaddr_un` with a zero byte after it, and the longest
/// abstract name with a zero byte before it, see `unix(7)`. It is 107 bytes on Linux, 103 on macOS
/// and the BSDs.
const MAX_UNIX_NAME: usize =
    mem::size_of::<libc::sockaddr_un>() - mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

/// The address of one end: a TCP address, or that of a Unix socket. It is displayed in the form
/// that a user types, and parsed from that form.
///
/// ```
/// use echo_reactor::Address;
/// # fn main() -> Result<(), echo_reactor::ParseAddressError> {
/// let tcp: Address = "[::1]:7777".parse()?;
/// assert_eq!(tcp.to_string(), "[::1]:7777");
/// assert_eq!("unix:/run/echo".parse::<Address>()?, Address::Unix("/run/echo".into()));
/// assert_eq!(Address::Abstract(b"echo".to_vec()).to_string(), "unix:@echo");
/// let error = "localhost".parse::<Address>().unwrap_err();
/// assert_eq!(error.to_string(), "'localhost' is not an address: expected IP:PORT or unix:PATH");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket. The path is empty if that end has no name.
    Unix(PathBuf),
    /// A Unix socket without a file: a name in the abstract namespace of Linux, `unix(7)`. On other
    /// systems, such an address cannot be parsed, and using it fails.
    Abstract(Vec<u8>),
}

impl Address {
    /// Parses the text after `unix:`: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The error says what is wrong with the text.
    pub(crate) fn unix(text: &[u8]) -> Result<Self, String> {
        let (what, name) = match text {
            [b'@', name @ ..] => ("name", name),
            path => ("path", path),
        };
        match name.len() {
            0 => Err(format!("the {what} is empty")),
            _ if what == "name" && !sys::HAS_ABSTRACT_NAMES => {
                Err("only Linux has abstract Unix sockets; use unix:PATH".into())
            }
            1..=MAX_UNIX_NAME if name.contains(&0) => Err(format!("the {what} contains a zero byte")),
            1..=MAX_UNIX_NAME if what == "name" => Ok(Address::Abstract(name.into())),
            1..=MAX_UNIX_NAME => Ok(Address::Unix(OsStr::from_bytes(name).into())),
            _ => Err(format!("the {what} is longer than {MAX_UNIX_NAME} bytes")),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    /// Parses `IP:PORT`, `[IPV6]:PORT`, `unix:PATH` or `unix:@NAME`. Host names are not looked up,
    /// because a lookup blocks.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let parsed = match text.strip_prefix("unix:") {
            Some(name) => Address::unix(name.as_bytes()).ok(),
            None => text.parse().map(Address::Tcp).ok(),
        };
        parsed.ok_or_else(|| ParseAddressError(text.into()))
    }
}

/// The error of parsing an [`Address`]. It shows the text that could not be parsed.
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
    /// Turns an IPv4 address that a dual-stack socket reports as IPv6 back into IPv4.
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(v4) => Address::Tcp(SocketAddr::new(v4.into(), address.port())),
            IpAddr::V6(_) => Address::Tcp(address),
        }
    }
}

impl From<net::SocketAddr> for Address {
    fn from(address: net::SocketAddr) -> Self {
        match sys::abstract_name(&address) {
            Some(name) => Address::Abstract(name.into()),
            None => Address::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", Escaped(path.as_os_str().as_bytes())),
            Address::Abstract(name) => write!(f, "unix:@{}", Escaped(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_address_is_parsed_up_to_its_longest_name() {
        let parse = |text: &str| Address::unix(text.as_bytes());
        let longest = "x".repeat(if cfg!(target_os = "linux") { 107 } else { 103 });
        assert_eq!(parse(&longest), Ok(Address::Unix(PathBuf::from(&longest))));
        assert_eq!(
            parse(&(longest.clone() + "x")),
            Err(format!("the path is longer than {} bytes", longest.len()))
        );
        assert_eq!(parse(""), Err("the path is empty".into()));
        assert_eq!(parse("a\0b"), Err("the path contains a zero byte".into()));
        if sys::HAS_ABSTRACT_NAMES {
            assert_eq!(parse(&format!("@{longest}")), Ok(Address::Abstract(longest.into())));
            assert_eq!(parse("@"), Err("the name is empty".into()));
            assert_eq!(parse("@a\0b"), Err("the name contains a zero byte".into()));
        } else {
            assert!(parse("@name").unwrap_err().contains("only Linux"));
        }
    }

    #[test]
    fn unix_addresses_are_shown_on_one_line() {
        let path = Address::Unix("/run/a\nb\u{1b}[2J\u{9b}é".into());
        assert_eq!(path.to_string(), "unix:/run/a\\nb\\u{1b}[2J\\u{9b}é");
        assert_eq!(Address::Abstract(b"\xff\0x".to_vec()).to_string(), "unix:@\\xff\\0x");
    }
}
