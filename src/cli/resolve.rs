//! Resolves what a person has typed to addresses.
//!
//! Invariant: an address of a family that the user has excluded is never used. An address of a
//! family that the machine lacks is used only if there is no other address. Looking up a name
//! blocks.
//!
//! Read next: `lookup.rs`, which looks names up while the loop runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use super::AddressArgument;
use super::addresses::Place;
use crate::Address;
use crate::net::ErrorText;

impl AddressArgument {
    /// Returns the addresses to listen on. If only a port was given, this is one address, which
    /// serves both families if the machine has both.
    ///
    /// # Errors
    /// The error names the host that does not resolve.
    pub fn to_listen(&self) -> io::Result<Vec<Address>> {
        let mut addresses = self.resolve([Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()])?;
        if let Place::Port(_) = self.place {
            addresses.truncate(1);
        }
        Ok(addresses)
    }

    /// Returns the addresses to connect to, in the order to try them.
    ///
    /// # Errors
    /// The error names the host that does not resolve.
    pub fn to_connect(&self) -> io::Result<Vec<Address>> {
        self.resolve([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    /// Resolves the address. If only a port was given, its hosts are those of `this_machine`.
    fn resolve(&self, this_machine: [IpAddr; 2]) -> io::Result<Vec<Address>> {
        let (name, found) = match &self.place {
            Place::Unix(address) => return Ok(vec![address.clone()]),
            Place::Port(port) => (":", this_machine.map(|ip| SocketAddr::new(ip, *port)).to_vec()),
            Place::Host(host, port) => {
                let found =
                    (host.as_str(), *port).to_socket_addrs().map_err(|error| unknown(host, &error))?;
                (host.as_str(), found.collect())
            }
        };
        let mut addresses = Vec::new();
        for address in found {
            if self.family.includes(address.ip()) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            let text = format!("cannot resolve {name}: it has no {}", self.family.name());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        // Skip the addresses of a family that this machine lacks, unless there are no others.
        let (usable, absent): (Vec<_>, Vec<_>) = addresses.into_iter().partition(has_family);
        let addresses = if usable.is_empty() { absent } else { usable };
        Ok(addresses.into_iter().map(Address::Tcp).collect())
    }
}

/// Returns whether this machine supports the family of an address.
fn has_family(address: &SocketAddr) -> bool {
    let loopback: IpAddr =
        if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    match UdpSocket::bind((loopback, 0)) {
        Ok(_) => true,
        Err(error) => !matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)),
    }
}

fn unknown(host: &str, error: &io::Error) -> io::Error {
    let text = ErrorText(error).to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    let hint = if host.rsplit_once('.').is_some_and(|(_, end)| end == "sock") {
        format!("; a Unix socket is unix:{host}")
    } else {
        String::new()
    };
    io::Error::new(error.kind(), format!("cannot resolve {host}: {reason}{hint}"))
}
