//! The six rules of the reactor, tested with plain sources.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use common::{PATIENCE, turn_until, turn_until_quiet};
use echo_reactor::{Handle, Id, Next, Reactor, Ready, Source};
use mio::Interest;
use mio::net::UnixStream;

/// A source that has one end of a socket pair, and runs a closure when it is called.
struct Scripted<F> {
    end: UnixStream,
    f: F,
}

impl<F: FnMut(&mut UnixStream, Id, Ready, &mut Reactor) -> Next + 'static> Source for Scripted<F> {
    fn ready(&mut self, id: Id, ready: Ready, reactor: &mut Reactor) -> Next {
        (self.f)(&mut self.end, id, ready, reactor)
    }
}

impl<F> AsFd for Scripted<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

/// Adds such a source, and returns the other end of the pair.
fn scripted(
    reactor: &mut Reactor,
    f: impl FnMut(&mut UnixStream, Id, Ready, &mut Reactor) -> Next + 'static,
) -> (Id, UnixStream) {
    let (end, other) = UnixStream::pair().unwrap();
    let handle = reactor.add(Scripted { end, f }, Interest::READABLE).unwrap();
    (handle.id(), other)
}

type Log<T> = Rc<RefCell<Vec<T>>>;

fn log<T>() -> (Log<T>, Log<T>) {
    let log = Rc::new(RefCell::new(Vec::new()));
    (log.clone(), log)
}

/// A source without a descriptor that records the readiness of each call.
struct Recorder(Rc<RefCell<Vec<Ready>>>);

impl Source for Recorder {
    fn ready(&mut self, _: Id, ready: Ready, _: &mut Reactor) -> Next {
        self.0.borrow_mut().push(ready);
        Next::Wait
    }
}

#[test]
fn running_source_is_out_of_its_slot() {
    let mut reactor = Reactor::new().unwrap();
    let (seen, note) = log();
    let (id, mut other) = scripted(&mut reactor, move |_, id, _, reactor| {
        // While it runs, its own handle finds nothing, so it cannot be entered twice.
        let own = Handle::<Recorder>::new(id);
        note.borrow_mut().push((reactor.contains(id), reactor.get_mut(own).is_err()));
        Next::Wait
    });
    other.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the source ran", |_| !seen.borrow().is_empty());
    assert_eq!(seen.borrow()[0], (true, true));
    assert!(reactor.contains(id));
}

#[test]
fn running_source_can_remove_itself() {
    let mut reactor = Reactor::new().unwrap();
    let (id, mut other) = scripted(&mut reactor, |_, id, _, reactor| {
        reactor.remove(id);
        Next::Wait
    });
    other.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the source is removed", |reactor| !reactor.contains(id));
    assert_eq!(reactor.source_count(), 0);
    assert_eq!(other.read(&mut [0; 8]).unwrap_or(0), 0, "its descriptor is closed");
}

#[test]
fn event_for_a_source_removed_in_the_same_batch_is_dropped() {
    let mut reactor = Reactor::new().unwrap();
    let ids = Rc::new(RefCell::new(Vec::<Id>::new()));
    let (calls, _) = log();
    let mut others = Vec::new();
    for _ in 0..2 {
        let (all, calls) = (ids.clone(), calls.clone());
        let (id, mut other) = scripted(&mut reactor, move |_, id, ready, reactor| {
            if !ready.intersects(Ready::READABLE) {
                return Next::Wait;
            }
            // The source that is called first removes the other one and reuses its slot.
            let victim = *all.borrow().iter().find(|&&other| other != id).unwrap();
            calls.borrow_mut().push("first");
            reactor.remove(victim);
            let tenant = reactor.insert(Recorder(Rc::default())).id();
            assert!(reactor.contains(tenant) && !reactor.contains(victim));
            assert_eq!(format!("{victim}").split('.').next(), format!("{tenant}").split('.').next());
            Next::Done
        });
        other.write_all(b"x").unwrap();
        ids.borrow_mut().push(id);
        others.push(other);
    }
    turn_until_quiet(&mut reactor);
    assert_eq!(*calls.borrow(), ["first"]);
    let tenants = reactor.handles::<Recorder>();
    assert_eq!(tenants.len(), 1);
    assert!(
        reactor.get_mut(tenants[0]).unwrap().0.borrow().is_empty(),
        "a stale event reached the new source"
    );
}

#[test]
fn stale_handle_is_harmless() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.insert(Recorder(Rc::default()));
    reactor.remove(handle.id());
    let next = reactor.insert(Recorder(Rc::default()));
    assert_ne!(handle, next);
    assert!(reactor.get_mut(handle).is_err());
    assert!(reactor.with(handle, |_, _| ()).is_err());
    reactor.wake(handle.id());
    reactor.remove(handle.id());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(reactor.get_mut(next).unwrap().0.borrow().is_empty());
}

#[test]
fn handle_and_id_are_compared_and_printed_by_slot_and_generation() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.insert(Recorder(Rc::default()));
    assert_eq!(handle, Handle::new(handle.id()));
    assert_eq!(format!("{} {:?} {handle:?}", handle.id(), handle.id()), "0.0 Id(0.0) Handle(0.0)");
    reactor.remove(handle.id());
    assert_eq!(reactor.insert(Recorder(Rc::default())).id().to_string(), "0.2");
}

#[test]
fn readiness_bits_form_a_set() {
    let both = Ready::READABLE | Ready::WRITABLE;
    assert_eq!(both | Ready::READABLE, both);
    assert_eq!(format!("{both:?} {:?}", Ready::NONE), "readable+writable again");
}

#[test]
fn handle_of_the_wrong_type_finds_nothing() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.insert(Recorder(Rc::default()));
    let wrong = Handle::<echo_reactor::Mailbox<u8>>::new(handle.id());
    assert!(reactor.with(wrong, |_, _| ()).is_err());
    assert!(reactor.get_mut(handle).is_ok(), "the source is still in its slot");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: epoll rejects regular files")]
fn failed_registration_frees_its_slot() {
    let mut reactor = Reactor::new().unwrap();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = reactor.watch(file, |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "epoll rejects regular files");
    assert_eq!(reactor.source_count(), 0);
}

#[test]
fn wakes_before_a_turn_are_merged() {
    let mut reactor = Reactor::new().unwrap();
    let (seen, note) = log();
    let handle = reactor.insert(Recorder(note));
    for _ in 0..3 {
        reactor.wake(handle.id());
    }
    reactor.turn(None).unwrap();
    assert_eq!(*seen.borrow(), [Ready::WOKEN]);
}

#[test]
fn again_requeues_for_the_next_turn() {
    let mut reactor = Reactor::new().unwrap();
    let (calls, note) = log();
    let (_, mut other) = scripted(&mut reactor, move |_, _, ready, reactor| {
        note.borrow_mut().push((ready, reactor.turn_count()));
        if note.borrow().len() < 4 { Next::Again } else { Next::Done }
    });
    other.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the source was called four times", |_| calls.borrow().len() == 4);
    let calls = calls.borrow();
    assert!(calls[0].0.intersects(Ready::READABLE));
    assert_eq!(calls[1].0, Ready::NONE);
    // The first `Again` is handled by the queue of its own turn, after all other sources were
    // called.
    for pair in calls[1..].windows(2) {
        assert!(pair[1].1 > pair[0].1, "{calls:?}");
    }
}

#[test]
fn event_for_a_queued_source_is_merged() {
    let mut reactor = Reactor::new().unwrap();
    let (calls, note) = log();
    let (_, mut other) = scripted(&mut reactor, move |_, _, ready, _| {
        note.borrow_mut().push(ready);
        Next::Again
    });
    other.write_all(b"x").unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap(); // now the source is queued
    calls.borrow_mut().clear();
    other.write_all(b"y").unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let calls = calls.borrow();
    assert!(calls.len() == 1 && calls[0].intersects(Ready::READABLE), "{calls:?}");
}

#[test]
fn call_that_requeues_itself_does_not_prolong_the_turn() {
    fn forever(reactor: &mut Reactor) {
        reactor.call_soon(forever);
    }
    let mut reactor = Reactor::new().unwrap();
    forever(&mut reactor);
    for turn in 1..=10 {
        reactor.turn(None).unwrap();
        assert_eq!(reactor.turn_count(), turn);
    }
}

#[test]
fn would_block_in_a_watch_waits_for_the_next_event() {
    let mut reactor = Reactor::new().unwrap();
    let (end, mut other) = UnixStream::pair().unwrap();
    let (got, note) = log();
    let id = reactor
        .watch(end, move |end, _| {
            loop {
                let mut byte = [0];
                if end.read(&mut byte)? == 0 {
                    return Ok(());
                }
                note.borrow_mut().push(byte[0]);
            }
        })
        .unwrap();
    for byte in 0..3 {
        other.write_all(&[byte]).unwrap();
        turn_until(&mut reactor, "the byte was read", |_| got.borrow().last() == Some(&byte));
        assert!(reactor.contains(id));
    }
    drop(other);
    turn_until(&mut reactor, "the watch is finished", |reactor| !reactor.contains(id));
}

#[test]
fn interrupted_watch_is_called_again() {
    let mut reactor = Reactor::new().unwrap();
    let (end, _other) = UnixStream::pair().unwrap();
    let (calls, note) = log();
    let watched = move |_: &mut UnixStream, _: &mut Reactor| {
        note.borrow_mut().push(());
        if note.borrow().len() < 3 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    let id = reactor.watch(end, watched).unwrap();
    turn_until(&mut reactor, "the watch is finished", |reactor| !reactor.contains(id));
    assert_eq!(calls.borrow().len(), 3);
}

#[test]
fn error_in_a_watch_ends_only_that_watch() {
    let mut reactor = Reactor::new().unwrap();
    let (end, mut other) = UnixStream::pair().unwrap();
    let id = reactor.watch(end, |_, _| Err(io::ErrorKind::InvalidData.into())).unwrap();
    let witness = reactor.insert(Recorder(Rc::default()));
    other.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the watch ended", |reactor| !reactor.contains(id));
    assert!(reactor.contains(witness.id()));
}

#[test]
fn nested_turn_is_an_error() {
    let mut reactor = Reactor::new().unwrap();
    let (result, note) = log();
    reactor.call_soon(move |reactor| note.borrow_mut().push(reactor.run().is_err()));
    reactor.turn(None).unwrap();
    assert_eq!(*result.borrow(), [true]);
}

#[test]
fn stop_ends_only_the_current_run_after_its_turn() {
    let mut reactor = Reactor::new().unwrap();
    for _ in 0..2 {
        reactor.call_soon(Reactor::stop);
        reactor.run().unwrap();
    }
    assert_eq!(reactor.turn_count(), 2);
}

#[test]
fn removed_source_with_a_borrowed_descriptor_is_deregistered() {
    let mut reactor = Reactor::new().unwrap();
    let (end, mut other) = UnixStream::pair().unwrap();
    let kept = end.as_fd().try_clone_to_owned().unwrap();
    let id = reactor.watch(end, |_, _| Err(io::ErrorKind::WouldBlock.into())).unwrap();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.remove(id);
    other.write_all(b"x").unwrap();
    let before = reactor.turn_count();
    // If the duplicate were still registered with epoll, this turn would end at once.
    let began = std::time::Instant::now();
    reactor.turn(Some(Duration::from_millis(30))).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(reactor.turn_count(), before + 1);
    drop(kept);
}

#[test]
fn nested_use_of_the_scratch_buffer_gets_its_full_size() {
    let mut reactor = Reactor::new().unwrap();
    reactor.with_scratch(|reactor, outer| {
        outer[0] = 1;
        let inner = reactor.with_scratch(|_, inner| inner.len());
        assert_eq!((outer.len(), inner), (echo_reactor::SCRATCH_SIZE, echo_reactor::SCRATCH_SIZE));
    });
}

#[test]
fn run_until_returns_when_it_is_done_or_at_its_limit() {
    let mut reactor = Reactor::new().unwrap();
    let (began, limit) = (std::time::Instant::now(), Duration::from_millis(20));
    assert!(!reactor.run_until(limit, |_| false).unwrap());
    assert!(began.elapsed() >= limit);
    assert!(reactor.run_until(PATIENCE, |_| true).unwrap());
    assert!(began.elapsed() < PATIENCE, "it waited for its limit");
}
