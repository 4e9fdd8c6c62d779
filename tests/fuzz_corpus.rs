//! The corpora of the fuzz targets as ordinary tests, together with random inputs.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod fuzz;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Runs a target on its corpus, and on some random inputs.
fn run(target: &str, body: fn(&[u8])) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(()); // a body counts the descriptors of the process
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty());
    for path in inputs {
        println!("{}", path.display()); // the last one has failed
        body(&fs::read(path).unwrap());
    }
    let mut random = 1_u64;
    for round in 0..100 {
        let next = |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        };
        let input: Vec<u8> = (0..10 * round).map(next).collect();
        println!("random input {round}");
        body(&input);
    }
}

#[test]
fn parsers_accept_what_they_print_and_explain_every_error() {
    run("parsers", fuzz::parsers::run);
}

#[test]
fn readers_return_what_a_search_in_all_bytes_finds() {
    run("readers", fuzz::readers::run);
}

#[test]
fn reactor_survives_any_commands_in_any_order() {
    run("reactor", fuzz::reactor::run);
}

#[test]
fn servers_and_clients_survive_any_commands_in_any_order() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if limit.is_some_and(|limit| limit < 1000) {
        return println!("skipped: it needs 1000 descriptors");
    }
    run("servers", fuzz::servers::run);
}

#[test]
fn mailboxes_pipes_and_remote_calls_survive_any_commands_in_any_order() {
    run("sources", fuzz::sources::run);
}
