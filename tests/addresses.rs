//! Addresses as people type them: every form, names with several addresses, families, and the
//! source address.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::process::Stdio;

use common::{
    Network, Outcome, Process, Scratch, Server, assert_echoed, assert_one_line, client_command, has_ipv6,
    run, server_command,
};

/// A name with addresses of both families, and the usual `localhost`.
const HOSTS: &str = "127.0.0.1 localhost both\n::1 localhost both\n";

fn client(arguments: &[&str]) -> Outcome {
    run(client_command().args(arguments), b"found")
}

/// Runs a client in a test network.
fn client_in(network: &Network, arguments: &[&str]) -> Outcome {
    run(&mut network.command(client_command().args(arguments)), b"found")
}

/// Starts a server in a test network, and waits until it listens on this many addresses.
fn server_in(network: &Network, arguments: &[&str], addresses: usize) -> Server {
    Server::run(&mut network.command(server_command().args(arguments)), addresses)
}

#[test]
fn client_accepts_every_form_of_an_address() {
    let server = Server::start(&[]);
    let port = server.port().to_string();
    for arguments in [
        &[&*format!("127.0.0.1:{port}")][..],
        &["127.0.0.1", &port],
        &["localhost", &port],
        &[&format!("localhost:{port}")],
        &[&format!(":{port}")],
        &["-4", &format!(":{port}")],
    ] {
        println!("{arguments:?}");
        assert_echoed(&client(arguments), b"found");
    }
    if has_ipv6() {
        let server = Server::on(&["[::1]:0"], &[]);
        let port = server.port().to_string();
        for arguments in [
            &[&*format!("[::1]:{port}")][..],
            &["::1", &port],
            &["[::1]", &port],
            &["-6", &format!(":{port}")],
        ] {
            println!("{arguments:?}");
            assert_echoed(&client(arguments), b"found");
        }
        // The IPv4 loopback address is tried first and refused.
        assert_echoed(&client(&[&format!(":{port}")]), b"found");
    }
}

#[test]
fn default_port_is_7777_and_service_names_are_ports() {
    let Some(network) = Network::new(HOSTS) else { return };
    let server = server_in(&network, &[], 1);
    assert_eq!(server.address(), "127.0.0.1:7777");
    assert_echoed(&client_in(&network, &[]), b"found");
    assert_echoed(&client_in(&network, &["localhost"]), b"found");
    assert_echoed(&client_in(&network, &["-4", "both"]), b"found");
    if std::fs::read_to_string("/etc/services").is_ok_and(|services| services.contains("\necho")) {
        let server = server_in(&network, &["127.0.0.1:echo"], 1);
        assert_eq!(server.address(), "127.0.0.1:7");
        assert_echoed(&client_in(&network, &["localhost", "echo"]), b"found");
    } else {
        println!("skipped: /etc/services has no echo");
    }
}

#[test]
fn server_listens_on_all_addresses_of_a_name_and_client_tries_each() {
    let Some(network) = Network::new(HOSTS) else { return };
    if !has_ipv6() {
        return;
    }
    let server = server_in(&network, &["both:7000"], 2);
    let mut addresses = server.addresses.clone();
    addresses.sort();
    assert_eq!(addresses, ["127.0.0.1:7000", "[::1]:7000"]);
    drop(server);
    for only in ["127.0.0.1:7000", "[::1]:7000"] {
        let _server = server_in(&network, &[only], 1);
        assert_echoed(&client_in(&network, &["both:7000"]), b"found");
    }
    let outcome = client_in(&network, &["both:7000"]);
    assert_eq!(outcome.code, 1);
    let refused = ["127.0.0.1:7000: Connection refused", "[::1]:7000: Connection refused"];
    assert_one_line(&outcome.stderr, &["cannot connect to ", refused[0], refused[1]]);
}

#[test]
fn family_option_keeps_the_addresses_of_one_family() {
    let Some(network) = Network::new(HOSTS) else { return };
    let server = server_in(&network, &["-4", "both:7000"], 1);
    assert_eq!(server.address(), "127.0.0.1:7000");
    assert_echoed(&client_in(&network, &["-4", "both:7000"]), b"found");
    assert_eq!(server_in(&network, &["-4", ":7001"], 1).address(), "0.0.0.0:7001");
    network.set_hosts("127.0.0.1 localhost only4\n");
    let outcome = client_in(&network, &["-6", "only4:7000"]);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["cannot resolve only4: "]);
    if !has_ipv6() {
        return;
    }
    assert_eq!(server_in(&network, &["-6"], 1).address(), "[::1]:7777");
    let every = server_in(&network, &[":7003"], 1);
    assert_eq!(every.address(), "[::]:7003");
    for address in ["127.0.0.1:7003", "[::1]:7003"] {
        assert_echoed(&client_in(&network, &[address]), b"found");
    }
    let _v6 = server_in(&network, &["-6", ":7000"], 1); // next to the IPv4 server on this port
    let outcome = client_in(&network, &["-6", ":7000"]);
    assert_echoed(&outcome, b"found");
    drop(server);
    assert_eq!(client_in(&network, &["127.0.0.1:7000"]).code, 1, "the server accepts only IPv6");
}

#[test]
fn address_of_an_absent_family_is_skipped_if_the_name_has_another() {
    let Some(network) = Network::new(HOSTS) else { return };
    network.disable_ipv6();
    let server = server_in(&network, &["both:7000"], 1);
    assert_eq!(server.address(), "127.0.0.1:7000");
    assert_echoed(&client_in(&network, &["both:7000"]), b"found");
    let outcome = client_in(&network, &["both:7001"]);
    assert_eq!(outcome.stderr, "echo-client: cannot connect to 127.0.0.1:7001: Connection refused\n");
    let outcome = client_in(&network, &["[::1]:7000"]);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["cannot connect to [::1]:7000: "]);
    let outcome = run(&mut network.command(server_command().arg("[::1]:7001")), b"");
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["cannot listen on [::1]:7001: "]);
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_unix_socket_is_reached_and_shown_by_its_name() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = format!("echo-reactor-{}", std::process::id());
    let address = format!("unix:@{name}");
    let server = Server::on(&[&address], &[]);
    assert_eq!(server.address(), address);
    assert_echoed(&client(&[&address]), b"found");
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    common::ping(&mut stream, b"by its name");
    drop(server);
    let outcome = client(&[&address]);
    assert_eq!(outcome.stderr, format!("echo-client: cannot connect to {address}: Connection refused\n"));
}

#[test]
fn family_option_restricts_the_tcp_addresses_next_to_a_unix_socket() {
    let scratch = Scratch::new();
    let path = format!("unix:{}", scratch.path("socket").display());
    let server = Server::on(&[":0", &path], &["-4"]);
    assert!(server.address().starts_with("0.0.0.0:"), "{}", server.address());
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: 127.0.0.0/8 is local")]
fn source_option_sets_the_address_of_the_client() {
    let server = Server::start(&["-v"]);
    for source in ["127.0.0.77", "127.0.0.77:0"] {
        assert_echoed(&client(&["--source", source, server.address()]), b"found");
        server.err.next_with("from 127.0.0.77:");
    }
    // TEST-NET-1, RFC 5737: no machine has this address.
    let outcome = client(&["--source", "192.0.2.1", server.address()]);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["source address 192.0.2.1: Cannot assign requested address"]);
    // Uses the same source port again while its last connection is in TIME_WAIT.
    let mut process = Process::spawn(
        client_command().args(["--source", "127.0.0.78", server.address()]).stdin(Stdio::piped()),
    );
    let line = server.err.next_with("from 127.0.0.78:");
    let source = line.split("from ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    drop(process.child.stdin.take());
    assert_eq!(process.wait_code(), 0);
    let other = Server::start(&[]);
    assert_echoed(&client(&["--source", &source, other.address()]), b"found");
}
