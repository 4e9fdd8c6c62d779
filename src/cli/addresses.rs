//! Parses the addresses that a person types.
//!
//! Invariant: parsing finds every mistake in the text. A mistake in the text is a usage error. A
//! name that does not resolve is a network error.
//!
//! Read next: `host_port.rs`, which splits `HOST:PORT`; `resolve.rs`, which turns names into
//! addresses.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::ffi::OsStrExt;

use super::host_port::{
    begins_unix_address, host_name, is_ipv6, is_number, literal, port, split, without_brackets,
};
use crate::Address;

/// The port of both programs if none is given.
pub(super) const DEFAULT_PORT: u16 = 7777;

/// An address from the command line: `HOST:PORT`, `[IPV6]:PORT`, `:PORT`, `HOST`, `unix:PATH` or
/// `unix:@NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressArgument {
    pub(super) place: Place,
    pub(super) family: Family,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A host name or an IP address, and a port.
    Host(String, u16),
    /// Only a port: the server listens on every interface, and the client connects to loopback.
    Port(u16),
    Unix(Address),
}

/// The address family that a name resolves to: `-4`, `-6` and `--source` restrict it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Only the family of this address, which `--source` names. A socket can connect only to
    /// addresses of its own family.
    Source(IpAddr),
}

impl Family {
    /// Returns whether `address` belongs to this family.
    #[must_use]
    pub fn includes(self, address: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
            Family::Source(source) => address.is_ipv4() == source.is_ipv4(),
        }
    }

    /// Returns what an address of this family is, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Family::Any => "IP address",
            Family::V4 => "IPv4 address",
            Family::V6 => "IPv6 address",
            Family::Source(IpAddr::V4(_)) => "IPv4 address, as --source is",
            Family::Source(IpAddr::V6(_)) => "IPv6 address, as --source is",
        }
    }
}

impl AddressArgument {
    /// Returns the address that both programs use if none is given: the loopback address, port
    /// 7777.
    #[must_use]
    pub fn default_for(family: Family) -> Self {
        let host = if family.includes(Ipv4Addr::LOCALHOST.into()) { "127.0.0.1" } else { "::1" };
        AddressArgument { place: Place::Host(host.into(), DEFAULT_PORT), family }
    }

    /// Parses one argument.
    ///
    /// # Errors
    /// The error says what is wrong with the argument.
    pub fn parse(text: &OsStr, family: Family) -> Result<Self, String> {
        if let Some((scheme, name)) = text.as_bytes().split_at_checked(5)
            && scheme.eq_ignore_ascii_case(b"unix:")
        {
            return Ok(AddressArgument { place: Place::Unix(Address::unix(name)?), family });
        }
        let text = text.to_str().ok_or("it is not UTF-8")?;
        if let Some((_, rest)) = text.split_once("://") {
            let server = rest.split('/').next().unwrap_or(rest);
            return Err(format!("it is a URL; expected only HOST:PORT, such as '{server}'"));
        }
        if text.starts_with('@') || text.split(':').next().is_some_and(|host| host.contains('/')) {
            return Err(format!("for a Unix socket, the address is unix:{text}"));
        }
        if let Some((kind, path)) = text.split_once(':')
            && begins_unix_address(kind)
        {
            let path = path.split(',').next().unwrap_or(path); // socat's options follow
            return Err(format!("for a Unix socket, the address is unix:{path}"));
        }
        // Nobody can connect to port 0.
        let or_port = |text: Option<&str>| {
            text.filter(|text| port(text).is_ok_and(|port| port > 0)).unwrap_or("PORT").to_owned()
        };
        let place = match split(text)? {
            ("*", port) => return Err(format!("for every interface, type :{}", or_port(port))),
            ("", Some(text)) => Place::Port(port(text)?),
            (host, Some(text)) => Place::Host(host_name(host)?, port(text)?),
            (host, None) if is_number(host) => {
                return Err(format!("it is only a port; expected HOST:PORT or :{}", or_port(Some(host))));
            }
            (host, None) => Place::Host(host_name(host)?, DEFAULT_PORT),
        };
        Self { place, family }.checked()
    }

    /// Parses a host and a port that are two arguments, as for `nc`.
    ///
    /// # Errors
    /// The error says what is wrong with the arguments.
    pub fn parse_pair(host: &OsStr, text: &OsStr, family: Family) -> Result<Self, String> {
        let (host, text) = (host.to_str().unwrap_or_default(), text.to_str().ok_or("it is not UTF-8")?);
        let host = host_name(without_brackets(host).unwrap_or(host))?;
        if text.is_empty() {
            return Err("the port is empty".into());
        }
        let whole = if is_ipv6(&host) { format!("[{host}]:{text}") } else { format!("{host}:{text}") };
        Self::parse(OsStr::new(&whole), family)
    }

    /// Returns whether `text` is a host without a port, so that the next argument may be the port.
    #[must_use]
    pub fn is_host_only(text: &OsStr) -> bool {
        let text = text.to_str().unwrap_or(":");
        !text.contains(':') || is_ipv6(without_brackets(text).unwrap_or(text))
    }

    /// Rejects an IP address that is not of the chosen family, or that cannot be used.
    fn checked(self) -> Result<Self, String> {
        let Place::Host(host, _) = &self.place else { return Ok(self) };
        match literal(host) {
            Some(ip) if !self.family.includes(ip) => Err(format!("it is not an {}", self.family.name())),
            Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() && !host.contains('%') => {
                Err(format!("a link-local address needs an interface, such as {host}%eth0"))
            }
            _ => Ok(self),
        }
    }

    /// Returns whether the port is 0, to which nobody can connect.
    #[must_use]
    pub fn has_port_zero(&self) -> bool {
        matches!(self.place, Place::Host(_, 0) | Place::Port(0))
    }

    /// Returns whether this is the address of a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.place, Place::Unix(_))
    }
}

/// Shows the address in the form that can be typed, with its port.
impl fmt::Display for AddressArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Host(host, port) => write!(f, "{host}:{port}"),
            Place::Port(port) => write!(f, ":{port}"),
            Place::Unix(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    fn parse(text: &str) -> Result<AddressArgument, String> {
        AddressArgument::parse(OsStr::new(text), Family::Any)
    }

    #[test]
    fn every_form_is_shown_with_its_port() {
        for text in ["127.0.0.1:7777", "localhost:0", "[::1]:65535", "[fe80::1%lo]:1", ":7", "unix:/x:1"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("localhost").unwrap().to_string(), "localhost:7777");
        assert_eq!(parse("UNIX:/x").unwrap().to_string(), "unix:/x");
        match parse("unix:@x") {
            Ok(address) => assert!(sys::HAS_ABSTRACT_NAMES && address.to_string() == "unix:@x"),
            Err(error) => assert!(!sys::HAS_ABSTRACT_NAMES && error.contains("only Linux"), "{error}"),
        }
        if sys::service_port(c"http").is_some() {
            assert_eq!(parse("localhost:http").unwrap().to_string(), "localhost:80");
        } else {
            println!("skipped: this machine has no list of services, see services(5)");
        }
    }

    #[test]
    fn host_and_port_may_be_two_arguments() {
        for (host, expected) in [("::1", "[::1]:80"), ("[::1]", "[::1]:80"), ("localhost", "localhost:80")] {
            assert!(AddressArgument::is_host_only(OsStr::new(host)), "{host}");
            let parsed = AddressArgument::parse_pair(OsStr::new(host), OsStr::new("80"), Family::Any);
            assert_eq!(parsed.unwrap().to_string(), expected);
        }
        for text in ["localhost:1", "[::1]:1", "unix:/x", ":1"] {
            assert!(!AddressArgument::is_host_only(OsStr::new(text)), "{text}");
        }
    }

    #[test]
    fn error_says_what_is_wrong_with_the_address() {
        let long = format!("unix:{}", "x".repeat(108));
        for (text, reason) in [
            ("", "the host is empty"),
            ("7777", "expected HOST:PORT or :7777"),
            ("0", "expected HOST:PORT or :PORT"),
            ("70000", "expected HOST:PORT or :PORT"),
            ("host:", "the port after the colon is missing"),
            ("host:nosuch", "'nosuch' is neither a port number (0 to 65535) nor a known service"),
            ("host:65536", "from 0 to 65535"),
            ("host:-1", "neither"),
            ("host:+1", "neither"),
            ("two\nlines", "control characters"),
            ("two words:1", "cannot contain spaces"),
            ("[::1]", "the port is missing; type [::1]:7777"),
            ("*:7", "for every interface, type :7"),
            ("*:0", "for every interface, type :PORT"),
            ("*", "for every interface, type :PORT"),
            ("[fe80::1]:7", "a link-local address needs an interface, such as fe80::1%eth0"),
            ("fe80::1", "needs brackets: [fe80::1]:7777"),
            ("fe80::1%lo", "needs brackets: [fe80::1%lo]:7777"),
            ("fe80::1%lo:7", "needs brackets: [fe80::1%lo]:7"),
            ("[fe80::1%lo:7]:7", "only an IPv6 address"),
            ("UNIX-CONNECT:/x", "the address is unix:/x"),
            ("unix-listen:x,fork", "the address is unix:x"),
            ("[::1", "expected [IPV6]:PORT"),
            ("[::1]1", "expected [IPV6]:PORT"),
            ("::1", "needs brackets: [::1]:7777"),
            ("tcp:127.0.0.1:7", "too many colons"),
            ("/tmp/x.sock", "unix:/tmp/x.sock"),
            ("./x.sock", "unix:./x.sock"),
            ("run/x.sock", "unix:run/x.sock"),
            ("localhost/7777", "unix:localhost/7777"),
            ("-", "'-' is not a host"),
            ("Unix", "'Unix' is not a host; for a Unix socket, the address is unix:PATH"),
            ("unix-listen", "'unix-listen' is not a host; for a Unix socket, the address is unix:PATH"),
            ("@name", "unix:@name"),
            ("::1:7", "needs brackets: [::1]:7"),
            ("::1:24000", "needs brackets: [::1]:24000"),
            ("1:2:3:4:5:6:7:8:9", "needs brackets: [1:2:3:4:5:6:7:8]:9"),
            ("host:7777/tcp", "'7777/tcp' is neither a port number"),
            ("host:7777/", "'7777/' is neither a port number"),
            ("[::1]:7777/tcp", "'7777/tcp' is neither a port number"),
            ("::1:7777/tcp", "too many colons"),
            ("run/x:1", "unix:run/x:1"),
            ("[host]:1", "only an IPv6 address"),
            ("http://localhost:7777/x", "it is a URL; expected only HOST:PORT, such as 'localhost:7777'"),
            ("unix:", "the path is empty"),
            ("unix:@", "the name is empty"),
            (&long, if sys::HAS_ABSTRACT_NAMES { "longer than 107 bytes" } else { "longer than 103 bytes" }),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn family_option_excludes_addresses_of_the_other_family() {
        let text = OsStr::new("127.0.0.1:1");
        assert!(AddressArgument::parse(text, Family::V4).is_ok());
        assert_eq!(AddressArgument::parse(text, Family::V6), Err("it is not an IPv6 address".into()));
        let any = AddressArgument::parse(OsStr::new(":1"), Family::V4).unwrap();
        assert_eq!(any.to_connect().unwrap(), ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(any.to_listen().unwrap(), ["0.0.0.0:1".parse().unwrap()]);
    }
}
