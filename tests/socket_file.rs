//! The file of a Unix socket: when the server creates, replaces and removes it.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;

use common::{
    A_WHILE, Lines, Process, Scratch, Server, assert_one_line, connect_unix, eventually, outcome, ping,
    server_command,
};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::process::Signal;

fn command(path: &std::path::Path) -> Command {
    let mut command = server_command();
    command.arg(format!("unix:{}", path.display())).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn file_is_removed_even_if_its_mode_owner_or_times_changed() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut server = Server::run(&mut command(&path), 1);
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let _ = chown(&path, Some(1), Some(1)); // only root can
    rustix::fs::utimensat(rustix::fs::CWD, &path, &zero_times(), rustix::fs::AtFlags::empty()).unwrap();
    fs::hard_link(&path, scratch.path("link")).unwrap();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(!path.exists());
}

#[test]
fn file_that_somebody_has_removed_causes_no_warning() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut server = Server::run(&mut command(&path), 1);
    fs::remove_file(&path).unwrap();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(server.err.rest().is_empty());
}

fn zero_times() -> rustix::fs::Timestamps {
    let zero = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::fs::Timestamps { last_access: zero, last_modification: zero }
}

#[test]
fn one_of_several_servers_started_at_once_gets_the_path() {
    let scratch = Scratch::new();
    for round in 0..20 {
        let path = scratch.path(&round.to_string());
        if round % 2 == 0 {
            drop(UnixListener::bind(&path).unwrap()); // a stale file
        }
        let mut servers: Vec<Process> = (0..4).map(|_| Process::spawn(&mut command(&path))).collect();
        let mut listening = Vec::new();
        for mut server in servers.drain(..) {
            let out = Lines::of(server.child.stdout.take().unwrap());
            if out.next_or_end().is_some() {
                listening.push(server);
                continue;
            }
            let err = Lines::of(server.child.stderr.take().unwrap());
            assert_one_line(&err.rest().join("\n"), &["cannot listen on unix:", "Address already in use"]);
            assert_eq!(server.wait_code(), 1);
        }
        assert_eq!(listening.len(), 1);
        ping(&mut connect_unix(&path), b"x");
        listening[0].signal(Signal::TERM);
        assert_eq!(listening[0].wait_code(), 0);
        assert!(!path.exists());
    }
}

/// While a server holds this lock, it is about to start on this path.
fn lock(scratch: &Scratch) -> File {
    let directory = File::open(scratch.path("")).unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    directory
}

#[test]
fn bound_file_is_not_replaced_before_its_server_listens() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let lock = lock(&scratch);
    let other = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&other, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    let late = Process::spawn(&mut command(&path));
    thread::sleep(A_WHILE); // enough time to replace the file
    listen(&other, 1).unwrap();
    drop(lock);
    let outcome = outcome(late);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["Address already in use"]);
    connect_unix(&path);
}

#[test]
fn lock_that_is_never_released_only_delays_a_server() {
    let scratch = Scratch::new();
    let _lock = lock(&scratch);
    Server::run(&mut command(&scratch.path("socket")), 1);
}

#[test]
fn stale_file_just_replaced_by_another_server_is_kept() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    drop(UnixListener::bind(&path).unwrap());
    let lock = lock(&scratch);
    let late = Process::spawn(&mut command(&path));
    thread::sleep(A_WHILE); // enough time to replace the file
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(lock);
    assert_eq!(outcome(late).code, 1);
    connect_unix(&path);
}

#[test]
fn signal_during_startup_leaves_no_file() {
    let (first, second) = (Scratch::new(), Scratch::new());
    let (path, late_path) = (first.path("socket"), second.path("socket"));
    let lock = lock(&second);
    let mut process = Process::spawn(command(&path).arg(format!("unix:{}", late_path.display())));
    eventually("the first address is bound", || path.exists());
    process.signal(Signal::TERM); // the server waits for the lock of the second path
    drop(lock);
    assert_eq!(process.wait_code(), 0);
    assert!(!path.exists() && !late_path.exists());
}

#[test]
fn file_of_a_killed_server_is_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    for _ in 0..3 {
        let mut server = Server::run(&mut command(&path), 1);
        ping(&mut connect_unix(&path), b"x");
        server.process.signal(Signal::KILL);
        server.process.wait();
        assert!(path.exists());
    }
}

#[test]
fn relative_path_is_listened_on_and_removed() {
    let scratch = Scratch::new();
    let mut command = server_command();
    let mut server = Server::run(command.arg("unix:socket").current_dir(scratch.path("")), 1);
    assert_eq!(server.addresses, ["unix:socket"]);
    ping(&mut connect_unix(&scratch.path("socket")), b"x");
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait_code(), 0);
    assert!(!scratch.path("socket").exists());
}

#[test]
fn path_that_is_not_a_stale_socket_is_an_error_and_is_kept() {
    let scratch = Scratch::new();
    let datagram = scratch.path("datagram");
    let _live = std::os::unix::net::UnixDatagram::bind(&datagram).unwrap();
    let link = scratch.path("link");
    symlink(scratch.path("nothing"), &link).unwrap();
    for (path, reason) in [
        (link.clone(), "the file exists and is not a socket"),
        (datagram.clone(), "Address already in use"),
        (scratch.path("missing/socket"), "No such file or directory"),
    ] {
        let outcome = outcome(Process::spawn(&mut command(&path)));
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &["echo-server: cannot listen on unix:", reason]);
    }
    assert!(fs::symlink_metadata(link).is_ok() && datagram.exists());
}
