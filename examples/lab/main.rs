//! The laboratory: a page in the browser to slow down an event loop, step through it, and cause
//! trouble.
//!
//! Run `cargo run --example lab`, and open the address that it prints.
//!
//! Two loops run in two threads, and a `Remote` connects them. One loop is observed, and serves
//! real TCP peers (`observed.rs`). The other loop serves the page with this library, and runs the
//! peers (`site.rs`). Look at `gate.rs`: when an observer waits, the loop waits, too. That makes
//! the observer a debugger for the loop.

#![allow(clippy::pedantic)] // as in the tests

mod gate;
mod http;
mod lab;
mod log;
mod observed;
mod pages;
mod peers;
mod scenarios;
mod site;
mod watcher;

use std::io;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use echo_reactor::{Address, Reactor};
use rustix::process::{Resource, getrlimit, setrlimit};

use lab::Lab;

/// How many descriptors the process may have. The scenario “Descriptors run out” opens all of them.
const DESCRIPTORS: u64 = 1024;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7780".into());
    match argument.parse::<Address>() {
        Ok(address @ Address::Tcp(tcp)) if tcp.ip().is_loopback() && tcp.is_ipv4() => match run(&address) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("lab: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("lab: '{argument}' is not an IPv4 loopback address; usage: lab [127.0.0.1:PORT]");
            ExitCode::from(2)
        }
    }
}

fn run(address: &Address) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(limit.current.map_or(DESCRIPTORS, |current| current.min(DESCRIPTORS)));
    setrlimit(Resource::Nofile, limit)?;
    let lab = Arc::new(Lab::new());
    let (started, observed) = mpsc::channel();
    let shared = lab.clone();
    let watched = thread::Builder::new().name("observed".into()).spawn(|| observed::run(shared, started))?;
    let Ok(observed) = observed.recv() else {
        return watched.join().unwrap_or_else(|_| Err(io::Error::other("the observed loop panicked")));
    };
    let mut reactor = Reactor::new()?;
    let server = observed.address.clone();
    let address = site::serve(&mut reactor, address, lab, observed)?;
    println!("the laboratory is at http://{address}/");
    println!("the observed server is at {server}: you can connect a peer of your own");
    reactor.run()
}
