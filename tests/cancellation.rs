//! A task that is cancelled leaves nothing behind. The test has a process of its own, because it
//! counts descriptors and memory.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;
#[allow(dead_code, unreachable_pub)] // its `main`
#[path = "../examples/proxy.rs"]
mod example;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use common::{noise, reset_on_close, turn_until};
use echo_reactor::{Handle, ListenOptions, Listener, Reactor, Reader, Task, create_server, start_server};

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn proxy_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    const ROUNDS: u32 = 3000;
    let mut reactor = Reactor::new().unwrap();
    let any = ["127.0.0.1:0".parse().unwrap()];
    let backend = echo(&mut reactor);
    let backend = backend.addresses(&reactor).unwrap();
    let tasks: Rc<RefCell<Vec<Task<()>>>> = Rc::default();
    let noted = tasks.clone();
    let handler = move |reader: Reader, writer| {
        let (handle, backend) = (reader.handle(), backend.clone());
        noted.borrow_mut().push(handle.spawn(async { _ = example::proxy(reader, writer, backend).await }));
        async { Ok(()) }
    };
    let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let idle = |reactor: &Reactor| (reactor.source_count(), reactor.timer_count()) == (2, 0);
    turn_until(&mut reactor, "it listens", |reactor| idle(reactor));
    let descriptors = open_descriptors();
    let mut resident = 0;
    for round in 0..ROUNDS {
        let mut client = TcpStream::connect(&address).unwrap();
        client.set_nonblocking(true).unwrap();
        let message = noise(1 + (round as usize * 7919) % 100_000, u64::from(round));
        for turn in 0..round % 23 {
            if turn % 3 == 0 {
                let _ = client.write(&message); // WouldBlock is fine
            }
            let _ = client.read(&mut [0; 4096]);
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        for task in tasks.borrow_mut().drain(..) {
            task.cancel();
        }
        if round % 2 == 0 {
            reset_on_close(&client);
        }
        drop(client);
        turn_until(&mut reactor, "nothing is left of the proxy", |reactor| {
            tasks.borrow_mut().drain(..).for_each(|task| task.cancel());
            idle(reactor)
        });
        if round == ROUNDS / 3 {
            resident = resident_bytes();
        }
    }
    assert_eq!(open_descriptors(), descriptors);
    let grown = resident_bytes().saturating_sub(resident);
    assert!(grown < 1 << 20, "{grown} bytes more in {} rounds", ROUNDS - ROUNDS / 3);
}

fn echo(reactor: &mut Reactor) -> Handle<Listener> {
    let any = ["127.0.0.1:0".parse().unwrap()];
    create_server(reactor, &any, &ListenOptions::default(), || common::Echo).unwrap()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}
