//! Tasks: spawning, awaiting and cancelling them, and the operations that they await.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    A_WHILE, Guard, Lines, PATIENCE, assert_same_bytes, connect, fill, hand_over, new_reactor, noise,
    poll_once, reset_on_close, shared, turn_until, turn_until_panic, turn_until_quiet,
};
use echo_reactor::{
    Address, Cancelled, ConnectOptions, CopyError, Either, Elapsed, Flow, Handle, Id, ListenOptions,
    LoopHandle, Mailbox, Next, Reactor, Reader, Ready, Source, Task, TryRecv, Writer, copy, join, join_all,
    race, race_all, start_server, try_join,
};

/// Runs a future on a new reactor. After a few more turns, the reactor must have no source or
/// timer.
fn run<F: Future<Output: 'static> + 'static>(f: impl FnOnce(LoopHandle) -> F) -> F::Output {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    let output = reactor.run_until_complete(f(handle)).unwrap();
    for _ in 0..5 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!((reactor.source_count(), reactor.timer_count()), (0, 0), "nothing is left");
    output
}

#[test]
fn spawned_task_runs_by_itself_and_its_output_can_be_awaited() {
    let outputs = run(|handle| async move {
        let slow = handle.clone();
        let slow = handle.spawn(async move {
            slow.sleep(Duration::from_millis(20)).await;
            "slow"
        });
        let quick = handle.spawn(async { "quick" });
        handle.sleep(Duration::from_millis(1)).await; // the quick task ends before it is awaited
        (quick.await, slow.await)
    });
    assert_eq!(outputs, (Ok("quick"), Ok("slow")));
}

#[test]
fn task_whose_handle_is_dropped_keeps_running() {
    let done = Rc::new(Cell::new(false));
    let set = done.clone();
    run(|handle| async move {
        let inner = handle.clone();
        drop(handle.spawn(async move {
            inner.sleep(Duration::from_millis(5)).await;
            set.set(true);
        }));
        handle.sleep(Duration::from_millis(50)).await;
    });
    assert!(done.get());
}

#[test]
fn cancelled_task_is_dropped_wherever_it_waits() {
    let dropped = Rc::new(Cell::new(0));
    let guards = dropped.clone();
    let ends = run(|handle| async move {
        let mut ends = Vec::new();
        // Cancel it before its first poll, and while it waits for the reactor, for a timer, and for
        // nothing.
        for stage in 0..4 {
            let (guard, inner) = (Guard(guards.clone()), handle.clone());
            let task = handle.spawn(async move {
                let _guard = guard;
                match stage {
                    1 => inner.call(|_| ()).await,
                    2 => inner.sleep(Duration::from_secs(3600)).await,
                    _ => pending().await,
                }
                pending::<()>().await
            });
            for _ in 0..stage {
                handle.call(|_| ()).await;
            }
            task.cancel();
            task.cancel(); // a second call changes nothing
            ends.push(task.await);
        }
        ends
    });
    assert_eq!(ends, [Err(Cancelled); 4]);
    assert_eq!(dropped.get(), 4);
}

#[test]
fn connections_of_a_server_end_with_their_tasks() {
    let mut reactor = Reactor::new().unwrap();
    let tasks = Rc::new(RefCell::new(Vec::new()));
    let running = tasks.clone();
    let handler = move |mut reader: Reader, writer: Writer| {
        let task = reader.handle().spawn(async move {
            let _kept_open = writer;
            reader.read(&mut [0]).await
        });
        running.borrow_mut().push(task);
        ready(Ok(()))
    };
    let any = ["127.0.0.1:0".parse().unwrap()];
    let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut peers = [(); 3].map(|()| connect(&address));
    turn_until(&mut reactor, "all connections are accepted", |_| tasks.borrow().len() == 3);
    peers[0].write_all(b"x").unwrap();
    let finished = || tasks.borrow().iter().filter(|task| task.is_finished()).count();
    turn_until(&mut reactor, "one task has returned", |_| finished() == 1);
    tasks.borrow().iter().for_each(Task::cancel);
    assert_eq!(finished(), 3);
    turn_until_quiet(&mut reactor);
    for peer in &mut peers {
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn task_that_cancels_itself_ends_when_it_waits() {
    let reached = Rc::new(Cell::new(0));
    let notes = reached.clone();
    run(|handle| async move {
        let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let other = own.clone();
        let task = handle.spawn(async move {
            other.take().unwrap().cancel();
            notes.set(1);
            poll_fn(|context| {
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            })
            .await;
            notes.set(2);
        });
        *own.borrow_mut() = Some(task);
        handle.sleep(Duration::from_millis(20)).await;
    });
    assert_eq!(reached.get(), 1);
}

#[test]
fn panicking_task_ends_and_the_others_keep_running() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    let failing = handle.spawn(async { panic!("deliberate") });
    turn_until_panic(&mut reactor);
    let output = reactor.run_until_complete(async move { failing.await.map(|()| "returned") }).unwrap();
    assert_eq!(output, Err(Cancelled));
}

#[test]
fn tasks_are_dropped_with_their_reactor_and_later_calls_fail() {
    let dropped = Rc::new(Cell::new(0));
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    for waits_for_timer in [false, true] {
        let (guard, inner) = (Guard(dropped.clone()), handle.clone());
        handle.spawn(async move {
            let _guard = guard;
            if waits_for_timer {
                inner.sleep(Duration::from_secs(3600)).await;
            }
            pending::<()>().await
        });
    }
    turn_until_quiet(&mut reactor);
    let never_polled = Guard(dropped.clone());
    handle.spawn(async move { drop(never_polled) });
    drop(reactor);
    assert_eq!(dropped.get(), 3);
    let late = Guard(dropped.clone());
    handle.spawn(async move { drop(late) });
    assert_eq!(dropped.get(), 4);
    assert!(handle.call_soon(|_| ()).is_err());
}

#[test]
fn task_that_waits_for_its_peer_is_dropped_with_the_reactor() {
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard(dropped.clone());
    let (mut reactor, mut peer) = hand_over(|mut reader, writer| async move {
        let _both = (guard, writer);
        let _ = reader.read(&mut [0]).await;
    });
    turn_until_quiet(&mut reactor);
    assert_eq!(dropped.get(), 0);
    drop(reactor);
    assert_eq!(dropped.get(), 1);
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn run_until_complete_fails_if_the_loop_is_stopped_before() {
    let mut reactor = Reactor::new().unwrap();
    reactor.call_later(Duration::from_millis(5), Reactor::stop);
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard(dropped.clone());
    let endless = async move {
        let _guard = guard;
        pending::<()>().await
    };
    let error = reactor.run_until_complete(endless).unwrap_err();
    assert_eq!((error.to_string().as_str(), dropped.get()), ("the task was cancelled", 1));
    assert_eq!(reactor.run_until_complete(async { 7 }).unwrap(), 7);
}

#[test]
fn timeout_returns_the_output_or_drops_the_future() {
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard(dropped.clone());
    let results = run(|handle| async move {
        let in_time = handle.timeout(Duration::from_secs(60), async { 7 }).await;
        let late = async move {
            let _guard = guard;
            pending::<i32>().await
        };
        (in_time, handle.timeout(Duration::from_millis(5), late).await)
    });
    assert_eq!(results, (Ok(7), Err(Elapsed)));
    assert_eq!(io::Error::from(Elapsed).kind(), ErrorKind::TimedOut);
    assert_eq!(dropped.get(), 1);
}

#[test]
fn join_waits_for_all_and_race_for_the_first() {
    let outputs = run(|handle| async move {
        let after = |milliseconds: u64| {
            let handle = handle.clone();
            async move {
                handle.sleep(Duration::from_millis(milliseconds)).await;
                milliseconds
            }
        };
        let both = join(after(20), async { "now" }).await;
        let all = join_all([30, 10, 20].map(&after)).await;
        let first = race(after(3_600_000), after(5)).await;
        let first_of_all = race_all([3_600_000, 5, 3_600_000].map(&after)).await;
        assert!(join_all(Vec::<std::future::Ready<()>>::new()).await.is_empty());
        (both, all, first, first_of_all)
    });
    assert_eq!(outputs.0, (20, "now"));
    assert_eq!(outputs.1, [30, 10, 20]);
    assert_eq!((outputs.2, outputs.3), (Either::Second(5), (1, 5)));
}

#[test]
fn wait_that_is_cancelled_and_repeated_gets_its_item() {
    struct Busy(Handle<Mailbox<()>>);
    impl Source for Busy {
        fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
            while self.0.try_send(reactor, id, ()).is_ok() {}
            Next::Again
        }
    }
    for turns in [100, 101] {
        for tasks in [1, 2, 5] {
            let (mut reactor, handle) = new_reactor();
            let [rare, busy] = [(); 2].map(|()| Mailbox::new(&mut reactor, 8));
            let received = Rc::new(Cell::new(0));
            for _ in 0..tasks {
                let (handle, received) = (handle.clone(), received.clone());
                handle.clone().spawn(async move {
                    loop {
                        if let Either::First(_) = race(handle.recv(rare), handle.recv(busy)).await {
                            received.set(received.get() + 1);
                        }
                    }
                });
            }
            let source = reactor.insert(Busy(busy));
            reactor.wake(source.id());
            for turn in 0..turns + 20 {
                if turn >= turns && turn < turns + 4 {
                    rare.try_send(&mut reactor, source.id(), ()).unwrap();
                }
                reactor.turn(Some(Duration::ZERO)).unwrap();
            }
            assert_eq!(received.get(), 4, "{tasks} tasks, from turn {turns}");
        }
    }
}

#[test]
fn try_join_returns_the_first_error_and_drops_the_other_future() {
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard(dropped.clone());
    let results = run(|handle| async move {
        let endless = async move {
            let _guard = guard;
            pending::<Result<(), &str>>().await
        };
        let failing = async {
            handle.sleep(Duration::from_millis(1)).await;
            Err::<(), _>("failed")
        };
        let both = try_join(async { Ok::<_, ()>(1) }, async { Ok(2) }).await;
        (try_join(endless, failing).await, both)
    });
    assert_eq!(results, (Err("failed"), Ok((1, 2))));
    assert_eq!(dropped.get(), 1);
}

#[test]
fn cancelled_connect_leaves_no_socket() {
    // The backlog of one is full, so the kernel ignores further attempts.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = std::net::SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
    let _queued: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    let elapsed = run(|handle| async move {
        let inner = handle.clone();
        let addresses = [Address::from(address)];
        let dial =
            async move { inner.open_connection(&addresses, &ConnectOptions::default()).await.map(drop) };
        handle.timeout(Duration::from_millis(50), dial).await.is_err()
    });
    assert!(elapsed);
}

#[test]
fn open_connection_without_addresses_is_an_error() {
    let error = run(|handle| async move {
        handle.open_connection(&[], &ConnectOptions::default()).await.map(drop).unwrap_err()
    });
    assert_eq!(error.to_string(), "no address to connect to");
}

// ---- halves that are used by another task

#[test]
fn reader_that_another_task_uses_gets_every_byte() {
    for (length, way) in
        [64 << 10, 1 << 20, 8 << 20].into_iter().flat_map(|length| [(length, 0), (length, 1)])
    {
        let got = Rc::new(RefCell::new(Vec::new()));
        let sink = got.clone();
        let (mut reactor, mut peer) = hand_over(move |mut reader, _writer| async move {
            let mut buffer = [0; 10_000];
            loop {
                let piece = match way {
                    0 => {
                        let count = reader.read(&mut buffer).await.unwrap();
                        buffer[..count].to_vec()
                    }
                    _ => reader.read_exactly(4096).await.unwrap_or_default(),
                };
                if piece.is_empty() {
                    return;
                }
                sink.borrow_mut().extend_from_slice(&piece);
            }
        });
        let bytes = noise(length, 51);
        let sent = bytes.clone();
        let sender = thread::spawn(move || peer.write_all(&sent));
        turn_until(&mut reactor, "all came", |_| got.borrow().len() == length);
        assert_same_bytes(&got.borrow(), &bytes);
        sender.join().unwrap().unwrap();
    }
}

#[test]
fn two_tasks_use_the_halves_of_one_connection_at_once() {
    const LENGTH: usize = 4 << 20;
    let received = Rc::new(RefCell::new(Vec::new()));
    let noted = received.clone();
    let (mut reactor, mut peer) = hand_over(|mut reader, mut writer| async move {
        let reading = reader.handle().spawn(async move { reader.read_exactly(LENGTH).await });
        for piece in noise(LENGTH, 53).chunks(777) {
            writer.write_all(piece).await.unwrap();
        }
        *noted.borrow_mut() = reading.await.unwrap().unwrap();
    });
    let mut sink = peer.try_clone().unwrap();
    let sender = thread::spawn(move || sink.write_all(&noise(LENGTH, 54)));
    let receiver = thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got)
    });
    turn_until(&mut reactor, "both directions are done", |_| receiver.is_finished());
    assert_same_bytes(&received.borrow(), &noise(LENGTH, 54));
    assert_same_bytes(&receiver.join().unwrap().unwrap(), &noise(LENGTH, 53));
    sender.join().unwrap().unwrap();
}

#[test]
fn try_write_takes_all_or_nothing_and_never_waits() {
    let counts = Rc::new(RefCell::new(Vec::new()));
    let noted = counts.clone();
    let (mut reactor, mut peer) = hand_over(move |_reader, mut writer| async move {
        let mut taken = 0;
        while writer.try_write(&[7; 1000]).is_ok() {
            taken += 1000;
        }
        assert_eq!(writer.try_write(&[7; 1000]).unwrap_err().kind(), ErrorKind::WouldBlock);
        noted.borrow_mut().push(taken);
        writer.write_all(b"end").await.unwrap();
    });
    turn_until(&mut reactor, "the write buffer is full", |_| !counts.borrow().is_empty());
    let taken = counts.borrow()[0];
    let thread = thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got)
    });
    turn_until(&mut reactor, "the peer has all bytes", |_| thread.is_finished());
    let got = thread.join().unwrap().unwrap();
    assert_eq!((got.len(), &got[taken..]), (taken + 3, &b"end"[..]));
}

#[test]
fn flush_waits_until_the_kernel_has_everything() {
    let flushed = Rc::new(Cell::new(false));
    let noted = flushed.clone();
    let (mut reactor, mut peer) = hand_over(move |_reader, mut writer| async move {
        writer.flush().await.unwrap(); // nothing was written
        writer.write_all(&noise(8 << 20, 55)).await.unwrap();
        writer.flush().await.unwrap();
        noted.set(true);
        writer.write_eof();
        writer.flush().await.unwrap(); // it was written before the end
    });
    turn_until_quiet(&mut reactor);
    assert!(!flushed.get());
    let thread = thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got)
    });
    turn_until(&mut reactor, "the peer has all bytes", |_| thread.is_finished());
    assert_same_bytes(&thread.join().unwrap().unwrap(), &noise(8 << 20, 55));
    assert!(flushed.get());
}

#[test]
fn flush_after_write_eof_waits_for_the_rest_and_fails_if_it_is_lost() {
    let results = Rc::new(RefCell::new(Vec::new()));
    for peer_reads in [true, false] {
        let noted = results.clone();
        let (mut reactor, mut peer) = hand_over(move |_reader, mut writer| async move {
            writer.write_all(&noise(8 << 20, 57)).await.unwrap();
            writer.write_eof();
            for _ in 0..2 {
                let result = writer.flush().await; // the second time, the FIN is sent
                noted.borrow_mut().push(result.map_err(|error| error.kind()));
            }
        });
        turn_until_quiet(&mut reactor);
        assert_eq!(results.borrow().len(), 0);
        let thread = thread::spawn(move || match peer_reads {
            true => drop(peer.read_to_end(&mut Vec::new())),
            false => reset_on_close(&peer),
        });
        turn_until(&mut reactor, "both flushes have returned", |_| results.borrow().len() == 2);
        thread.join().unwrap();
        let expected = if peer_reads { Ok(()) } else { Err(ErrorKind::ConnectionReset) };
        assert_eq!(results.take(), [expected; 2]);
    }
}

#[test]
fn broken_returns_at_a_reset_even_if_the_reader_is_not_used() {
    let kind = Rc::new(Cell::new(None));
    let noted = kind.clone();
    let (mut reactor, peer) = hand_over(move |reader, mut writer| async move {
        noted.set(Some(writer.broken().await.kind()));
        drop(reader);
    });
    turn_until_quiet(&mut reactor);
    reset_on_close(&peer);
    drop(peer);
    turn_until(&mut reactor, "the task has noticed", |_| kind.get().is_some());
    assert_eq!(kind.get(), Some(ErrorKind::ConnectionReset));
}

#[test]
fn reset_by_a_peer_that_did_not_read_is_a_reset_for_both_halves() {
    let (kinds, noted) = shared(None);
    let (mut reactor, peer) = hand_over(move |mut reader, mut writer| async move {
        fill(&mut writer).await;
        let (written, read) = join(writer.write_all(b"more"), reader.read(&mut [0])).await;
        noted.set(Some([written.unwrap_err().kind(), read.unwrap_err().kind()]));
    });
    turn_until_quiet(&mut reactor);
    reset_on_close(&peer);
    drop(peer);
    turn_until(&mut reactor, "both halves have failed", |_| kinds.get().is_some());
    assert_eq!(kinds.get(), Some([ErrorKind::ConnectionReset; 2]));
}

#[test]
fn dropped_writer_ends_our_side_and_the_reader_still_works() {
    let line = Rc::new(RefCell::new(None));
    let noted = line.clone();
    let (mut reactor, mut peer) = hand_over(move |mut reader, mut writer| async move {
        writer.write_all(b"bye").await.unwrap();
        drop(writer);
        *noted.borrow_mut() = reader.read_line(100).await.unwrap();
    });
    let thread = thread::spawn(move || {
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        peer.write_all(b"answer\n").unwrap();
        got
    });
    turn_until(&mut reactor, "the answer came", |_| line.borrow().is_some());
    assert_eq!(thread.join().unwrap(), "bye");
    assert_eq!(line.borrow().as_deref(), Some(&b"answer\n"[..]));
}

#[test]
fn reset_is_an_error_of_every_read_and_abort_is_a_reset() {
    let kinds = Rc::new(RefCell::new(Vec::new()));
    let noted = kinds.clone();
    let (mut reactor, mut peer) = hand_over(move |mut reader, _writer| async move {
        assert_eq!(reader.read_exactly(5).await.unwrap(), b"hello");
        for _ in 0..2 {
            let error = reader.read(&mut [0; 10]).await.unwrap_err();
            noted.borrow_mut().push(error.kind());
            let error = reader.read_line(10).await.unwrap_err();
            noted.borrow_mut().push(error.kind());
        }
    });
    peer.write_all(b"hello").unwrap();
    turn_until_quiet(&mut reactor);
    reset_on_close(&peer);
    drop(peer);
    turn_until(&mut reactor, "the reset was read", |_| kinds.borrow().len() == 4);
    assert_eq!(*kinds.borrow(), [ErrorKind::ConnectionReset; 4]);

    let (mut reactor, mut peer) = hand_over(|reader, mut writer| async move {
        writer.write_all(b"never mind").await.unwrap();
        writer.abort();
        drop(reader);
    });
    let thread = thread::spawn(move || peer.read_to_end(&mut Vec::new()));
    turn_until(&mut reactor, "the peer has noticed", |_| thread.is_finished());
    assert_eq!(thread.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn writer_learns_that_the_task_of_its_reader_has_panicked() {
    let kind = Rc::new(Cell::new(None));
    let noted = kind.clone();
    let (mut reactor, mut peer) = hand_over(move |mut reader, mut writer| async move {
        reader.handle().spawn(async move {
            reader.read_exactly(1).await.unwrap();
            panic!("deliberate");
        });
        fill(&mut writer).await;
        noted.set(Some(writer.write_all(b"more").await.unwrap_err().kind()));
    });
    turn_until_quiet(&mut reactor);
    peer.write_all(b"x").unwrap();
    turn_until_panic(&mut reactor);
    turn_until(&mut reactor, "the writer has failed", |_| kind.get().is_some());
    assert_eq!(kind.get(), Some(ErrorKind::ConnectionAborted));
}

#[test]
fn copy_is_complete_and_waits_for_a_slow_writer() {
    let total = Rc::new(Cell::new(0));
    let noted = total.clone();
    let (mut reactor, mut peer) = hand_over(move |mut reader, mut writer| async move {
        assert_eq!(reader.read_exactly(3).await.unwrap(), b"abc"); // more bytes were read ahead
        noted.set(copy(&mut reader, &mut writer).await.unwrap());
    });
    let bytes = noise(8 << 20, 52);
    peer.write_all(b"abc").unwrap();
    peer.set_nonblocking(true).unwrap();
    let (mut sent, mut before) = (0, 1);
    while sent != before {
        before = sent;
        while let Ok(count) = peer.write(&bytes[sent..]) {
            sent += count;
            if count == 0 {
                break;
            }
        }
        turn_until_quiet(&mut reactor);
    }
    assert!(sent > 100_000, "{sent}");
    let copied_before = total.get();
    peer.set_nonblocking(false).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let thread = thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got)
    });
    turn_until(&mut reactor, "everything came back", |_| thread.is_finished());
    assert_same_bytes(&thread.join().unwrap().unwrap(), &bytes[..sent]);
    assert_eq!((copied_before, total.get()), (0, sent as u64));
}

#[test]
fn copy_ends_when_its_writer_breaks_even_if_no_data_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = Address::from(listener.local_addr().unwrap());
    let kind = Rc::new(Cell::new(None));
    let noted = kind.clone();
    let (mut reactor, _peer) = hand_over(move |mut reader, _writer| async move {
        let dialed = reader.handle().open_connection(&[other], &ConnectOptions::default()).await;
        let (_from, mut to) = dialed.unwrap();
        match copy(&mut reader, &mut to).await.unwrap_err() {
            CopyError::Write(error) => noted.set(Some(error.kind())),
            CopyError::Read(error) => panic!("{error}"),
        }
    });
    let accepted = thread::spawn(move || listener.accept().unwrap().0);
    turn_until(&mut reactor, "the copy is connected", |_| accepted.is_finished());
    turn_until_quiet(&mut reactor);
    let accepted = accepted.join().unwrap();
    reset_on_close(&accepted);
    drop(accepted);
    turn_until(&mut reactor, "copy has ended", |_| kind.get().is_some());
    assert_eq!(kind.get(), Some(ErrorKind::ConnectionReset));
}

// ---- errors that nobody awaits

/// A server whose handler fails when its peer resets, in a program without a logger.
fn failing_server(stderr: impl Into<Stdio>) -> (std::process::Child, String) {
    let mut command = Command::new(common::example("stream_server"));
    command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().unwrap();
    let line = Lines::of(child.stdout.take().unwrap()).next();
    (child, line.strip_prefix("listening on ").unwrap().to_owned())
}

fn reset(address: &str) {
    let mut peer = connect(address);
    common::ping(&mut peer, b"hello");
    reset_on_close(&peer);
}

#[test]
fn error_of_a_handler_is_on_stderr_if_there_is_no_logger() {
    let (mut child, address) = failing_server(Stdio::piped());
    let lines = Lines::of(child.stderr.take().unwrap());
    reset(&address);
    let line = lines.next();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("the handler of 127.0.0.1:"), "{line}");
    assert!(line.to_lowercase().ends_with("failed: connection reset by peer"), "{line}");
}

#[test]
fn full_stderr_does_not_delay_the_server() {
    let (reader, writer) = common::pipe();
    let mut fill = std::fs::File::from(writer.try_clone().unwrap());
    rustix::io::ioctl_fionbio(&fill, true).unwrap();
    while fill.write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&fill, false).unwrap();
    let (mut child, address) = failing_server(writer);
    let began = Instant::now();
    for _ in 0..10 {
        reset(&address);
    }
    common::ping(&mut connect(&address), b"still there");
    assert!(began.elapsed() < PATIENCE.max(A_WHILE));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(reader);
}

#[test]
fn items_of_cancelled_receivers_keep_their_order() {
    for dropped_first in [0, 1] {
        let mut reactor = Reactor::new().unwrap();
        let mailbox = Mailbox::new(&mut reactor, 8);
        let handle = reactor.handle().unwrap();
        let mut receivers = [(); 2].map(|()| Some(Box::pin(handle.recv(mailbox))));
        for receiver in receivers.iter_mut().flatten() {
            assert!(poll_once(receiver.as_mut()).is_pending());
        }
        turn_until_quiet(&mut reactor);
        for number in 1..=3 {
            mailbox.try_send(&mut reactor, mailbox.id(), number).unwrap();
        }
        turn_until_quiet(&mut reactor); // both have an item, and are not polled
        receivers[dropped_first] = None;
        receivers[1 - dropped_first] = None;
        turn_until_quiet(&mut reactor);
        let items = [(); 3].map(|()| mailbox.try_recv(&mut reactor, mailbox.id()));
        assert_eq!(items, [1, 2, 3].map(TryRecv::Item), "{dropped_first}");
    }
}

#[test]
fn item_of_a_cancelled_receiver_may_fill_the_place_of_a_woken_sender() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let (own, sender) = (mailbox.id(), Mailbox::<()>::new(&mut reactor, 1).id());
    let handle = reactor.handle().unwrap();
    let mut receiver = Box::pin(handle.recv(mailbox));
    assert!(poll_once(receiver.as_mut()).is_pending());
    mailbox.try_send(&mut reactor, own, 1).unwrap();
    turn_until_quiet(&mut reactor); // the receiver has the item, and is not polled
    mailbox.try_send(&mut reactor, own, 2).unwrap();
    assert_eq!(mailbox.flow(&mut reactor, sender), Flow::Full);
    assert_eq!(mailbox.try_recv(&mut reactor, own), TryRecv::Item(2)); // wakes the sender
    drop(receiver);
    reactor.turn(Some(Duration::ZERO)).unwrap(); // the first item is back
    assert!(mailbox.try_send(&mut reactor, sender, 3).is_err(), "the mailbox is full");
    assert_eq!(mailbox.try_recv(&mut reactor, own), TryRecv::Item(1));
}

#[test]
fn item_is_received_although_the_first_receiver_that_was_woken_is_cancelled() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let handle = reactor.handle().unwrap();
    let received = shared(0);
    let receivers = [(); 3].map(|()| {
        let (inner, note) = (handle.clone(), received.1.clone());
        handle.spawn(async move { note.set(inner.recv(mailbox).await.unwrap()) })
    });
    turn_until_quiet(&mut reactor);
    mailbox.try_send(&mut reactor, mailbox.id(), 7).unwrap();
    receivers[0].cancel();
    receivers[1].cancel();
    turn_until_quiet(&mut reactor);
    assert_eq!(received.0.get(), 7);
}

#[test]
fn wakes_of_one_task_from_other_threads_are_merged() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    let waker = Rc::new(RefCell::new(None));
    let shown = waker.clone();
    handle.spawn(poll_fn(move |context| {
        *shown.borrow_mut() = Some(context.waker().clone());
        Poll::<()>::Pending
    }));
    turn_until_quiet(&mut reactor);
    let waker = waker.take().unwrap();
    for _ in 0..10_000 {
        waker.wake_by_ref();
    }
    let stop = reactor.remote().unwrap();
    stop.call(Reactor::stop).unwrap();
    let turns = reactor.turn_count();
    reactor.run().unwrap();
    assert_eq!(reactor.turn_count() - turns, 1, "all wake-ups came before the call, in one turn");
}
