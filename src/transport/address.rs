//! Where one listens, and what one connects to.
//!
//! Read next: `listener.rs`, `connector.rs`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The address of one end: TCP, or a Unix socket's path. It is shown as a user would type it.
///
/// ```
/// use echo_reactor::Address;
/// let tcp: std::net::SocketAddr = "[::1]:7777".parse().unwrap();
/// assert_eq!(Address::from(tcp).to_string(), "[::1]:7777");
/// assert_eq!(Address::Unix("/run/echo".into()).to_string(), "unix:/run/echo");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket; empty for an end that has no name.
    Unix(PathBuf),
}

impl Address {
    /// The address of a Unix socket as the kernel tells it.
    pub(super) fn of_unix(address: &std::os::unix::net::SocketAddr) -> Self {
        Address::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default())
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) if path.as_os_str().is_empty() => f.write_str("unix:"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
