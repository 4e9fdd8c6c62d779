//! Futures, wakers and destructors that do the unexpected: they panic, are dropped while they wait,
//! poll at once, use a half while they are dropped, or outlive their reactor.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;
#[allow(dead_code, unreachable_pub)] // its `main`
#[path = "../examples/proxy.rs"]
mod example;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Guard, OnDrop, assert_closed, assert_same_bytes, connect, count_polls, fill, halves, hand_over,
    new_reactor, noise, panics, poll_once, reset_on_close, serve_once, shared, turn_until, turn_until_panic,
    turn_until_quiet,
};
use echo_reactor::{
    Address, Cancelled, ConnectOptions, ListenOptions, LoopHandle, Mailbox, Reactor, Task, TryRecv, Writer,
    start_server,
};

const TICK: Duration = Duration::from_millis(1);

// ---- panics

#[test]
fn panic_of_a_reader_still_wakes_a_waiting_writer() {
    let (failed, noted) = shared(false);
    let (mut reactor, peer) = hand_over(move |mut reader, mut writer| async move {
        reader.handle().spawn(async move {
            reader.read(&mut [0]).await.unwrap();
        });
        fill(&mut writer).await;
        noted.set(writer.write_all(b"more").await.is_err());
    });
    turn_until_quiet(&mut reactor);
    reset_on_close(&peer); // one call of the source polls both halves
    drop(peer);
    turn_until_panic(&mut reactor);
    turn_until(&mut reactor, "the writer has failed", |_| failed.get());
}

#[test]
fn task_that_panics_resets_its_connection_whoever_polls_it() {
    for polled_by_queue in [false, true] {
        let (mut reactor, mut peer) = hand_over(move |mut reader, mut writer| async move {
            writer.write_all(b"half an ans").await.unwrap();
            reader.read(&mut [0]).await.unwrap();
            if polled_by_queue {
                reader.handle().sleep(TICK).await;
            }
            panic!("deliberate");
        });
        turn_until_quiet(&mut reactor);
        peer.write_all(b"x").unwrap();
        turn_until_panic(&mut reactor);
        turn_until_quiet(&mut reactor);
        let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn new_connection_outlives_a_panic_of_the_waker_that_waits_for_it() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("deliberate");
        }
    }
    let (mut reactor, handle) = new_reactor();
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [Address::from(listening.local_addr().unwrap())];
    let options = ConnectOptions::default();
    let mut connecting = pin!(handle.open_connection(&addresses, &options));
    let bomb = Waker::from(Arc::new(Bomb));
    assert!(connecting.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    turn_until_panic(&mut reactor);
    turn_until_quiet(&mut reactor);
    let Poll::Ready(Ok((mut reader, _writer))) = poll_once(connecting) else { panic!("it is connected") };
    listening.accept().unwrap().0.write_all(b"hello").unwrap();
    let received = reactor.run_until_complete(async move { reader.read(&mut [0; 8]).await });
    assert_eq!(received.unwrap().unwrap(), 5);
}

#[test]
fn halves_outlive_a_reactor_that_is_dropped_by_a_panic() {
    let kept = RefCell::default();
    assert!(panics(|| {
        let mut reactor = Reactor::new().unwrap();
        kept.replace(Some(halves(&mut reactor)));
        panic!("deliberate");
    }));
    let (mut reader, mut writer, mut peer) = kept.take().unwrap();
    let Poll::Ready(Err(error)) = poll_once(pin!(reader.read(&mut [0]))) else { panic!("the read waits") };
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(writer.try_write(b"late").unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn panic_of_a_closure_continues_in_the_future_that_passed_it() {
    for is_poll_fn in [false, true] {
        let (mut reactor, handle) = new_reactor();
        let (dropped, guard) = shared(0);
        let task = handle.clone().spawn(async move {
            let _guard = Guard(guard);
            if is_poll_fn {
                handle.poll_fn(|_, _| -> Poll<()> { panic!("deliberate") }).await;
            } else {
                handle.call(|_| panic!("deliberate")).await
            }
        });
        turn_until_panic(&mut reactor);
        assert!(task.is_finished() && dropped.get() == 1);
        turn_until_quiet(&mut reactor);
        assert_eq!(reactor.source_count(), 0);
    }
}

#[test]
fn cancel_of_a_future_whose_drop_panics_leaves_no_source() {
    let (mut reactor, handle) = new_reactor();
    let bomb = OnDrop(|| panic!("deliberate"));
    let task = handle.spawn(async move {
        let _bomb = bomb;
        pending::<()>().await;
    });
    turn_until_quiet(&mut reactor);
    assert!(panics(|| task.cancel()));
    turn_until_quiet(&mut reactor);
    assert_eq!(reactor.source_count(), 0);
}

// ---- wakers

#[test]
fn many_wakes_of_one_task_cause_one_poll_and_delay_no_other_call() {
    let (mut reactor, handle) = new_reactor();
    let (polls, counted) = shared(0);
    let (kept, waker) = mpsc::channel::<Waker>();
    handle.spawn(async move {
        poll_fn(|context| Poll::Ready(kept.send(context.waker().clone()))).await.unwrap();
        count_polls(&counted).await;
    });
    turn_until_quiet(&mut reactor);
    let (waker, before) = (waker.recv().unwrap(), polls.get());
    let called = Arc::new(AtomicBool::new(false));
    let (remote, noted) = (handle.remote().clone(), called.clone());
    let thread = thread::spawn(move || {
        (0..5000).for_each(|_| waker.wake_by_ref());
        remote.call(move |_| noted.store(true, Ordering::Release))
    });
    thread.join().unwrap().unwrap();
    reactor.turn(None).unwrap();
    assert!(called.load(Ordering::Acquire));
    assert_eq!(polls.get(), before + 1);
}

// ---- waits that are dropped

#[test]
fn dropped_read_or_write_does_not_poll_its_task() {
    for writes in [false, true] {
        let (polls, noted) = shared(0);
        let (mut reactor, mut peer) = hand_over(move |mut reader, mut writer| async move {
            let handle = reader.handle();
            if writes {
                fill(&mut writer).await;
                handle.timeout(TICK, writer.write_all(b"more")).await.unwrap_err();
            } else {
                handle.timeout(TICK, reader.read(&mut [0])).await.unwrap_err();
            }
            count_polls(&noted).await;
        });
        turn_until(&mut reactor, "the future is dropped", |_| polls.get() > 0);
        peer.write_all(b"hello").unwrap();
        peer.set_nonblocking(true).unwrap();
        for _ in 0..10 {
            while peer.read(&mut [0; 65536]).is_ok() {}
            turn_until_quiet(&mut reactor);
        }
        assert_eq!(polls.get(), 1);
    }
}

#[test]
fn dropped_recv_puts_its_item_back() {
    let (mut reactor, handle) = new_reactor();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let mut recv = Box::pin(handle.recv(mailbox));
    assert!(poll_once(recv.as_mut()).is_pending());
    turn_until_quiet(&mut reactor);
    mailbox.try_send(&mut reactor, mailbox.id(), 7).unwrap();
    turn_until_quiet(&mut reactor); // the item is received
    drop(recv);
    turn_until_quiet(&mut reactor);
    assert_eq!(mailbox.try_recv(&mut reactor, mailbox.id()), TryRecv::Item(7));
}

#[test]
fn dropped_recv_takes_no_item_from_others() {
    let (mut reactor, handle) = new_reactor();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let mut dropped = Box::pin(handle.recv(mailbox));
    assert!(poll_once(dropped.as_mut()).is_pending());
    turn_until_quiet(&mut reactor);
    let mut waiting = pin!(handle.recv(mailbox));
    assert!(poll_once(waiting.as_mut()).is_pending());
    turn_until_quiet(&mut reactor);
    mailbox.try_send(&mut reactor, mailbox.id(), 7).unwrap(); // both waiting futures are woken
    drop(dropped);
    turn_until_quiet(&mut reactor);
    assert_eq!(poll_once(waiting), Poll::Ready(Some(7)));
}

#[test]
fn dropped_poll_fn_is_not_called_again() {
    let (mut reactor, handle) = new_reactor();
    let mailbox = Mailbox::<()>::new(&mut reactor, 1);
    let (calls, noted) = shared(0);
    let mut future = Box::pin(handle.poll_fn(move |reactor, id| {
        noted.set(noted.get() + 1);
        let _ = mailbox.try_recv(reactor, id); // so that an item wakes this future
        Poll::<()>::Pending
    }));
    assert!(poll_once(future.as_mut()).is_pending());
    turn_until_quiet(&mut reactor);
    assert_eq!(calls.get(), 1);
    mailbox.try_send(&mut reactor, mailbox.id(), ()).unwrap();
    drop(future); // the call of the closure is queued already
    turn_until_quiet(&mut reactor);
    assert_eq!((calls.get(), reactor.source_count()), (1, 1));
}

#[test]
fn poll_fn_that_cancels_its_own_task_leaves_no_source() {
    let (mut reactor, handle) = new_reactor();
    let (own, taken) = shared(None::<Task<()>>);
    let inner = handle.clone();
    own.set(Some(handle.spawn(async move {
        let cancel = move |_: &mut Reactor, _| {
            taken.take().into_iter().for_each(|task| task.cancel());
            Poll::<()>::Pending
        };
        inner.poll_fn(cancel).await;
    })));
    turn_until_quiet(&mut reactor);
    assert_eq!((own.take().is_none(), reactor.source_count()), (true, 0));
}

// ---- wakers with side effects

thread_local! {
    static PARKED: Cell<Option<Writer>> = const { Cell::new(None) };
    static AWAITED: RefCell<Option<Task<()>>> = const { RefCell::new(None) };
    static OUTPUT: Cell<Option<Poll<Result<(), Cancelled>>>> = const { Cell::new(None) };
}

/// A waker that owns a half.
struct DropsWriter;

impl Wake for DropsWriter {
    fn wake(self: Arc<Self>) {}
}

impl Drop for DropsWriter {
    fn drop(&mut self) {
        drop(PARKED.take());
    }
}

#[test]
fn drop_of_a_waker_may_use_the_other_half() {
    for is_replaced in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let (mut reader, writer, mut peer) = halves(&mut reactor);
        PARKED.set(Some(writer));
        let mut buffer = [0];
        let mut read = Box::pin(reader.read(&mut buffer));
        let waker = Waker::from(Arc::new(DropsWriter));
        assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker); // the waiting read has a clone of it
        if is_replaced {
            assert!(poll_once(read.as_mut()).is_pending());
        } else {
            drop(read);
        }
        assert!(PARKED.take().is_none(), "the waker is dropped");
        turn_until_quiet(&mut reactor);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }
}

/// A waker that polls the task's handle at once.
struct PollsAtOnce;

impl Wake for PollsAtOnce {
    fn wake(self: Arc<Self>) {
        AWAITED.with_borrow_mut(|task| OUTPUT.set(task.as_mut().map(|task| poll_once(Pin::new(task)))));
    }
}

#[test]
fn waker_that_polls_at_once_learns_that_its_task_was_cancelled() {
    let (mut reactor, handle) = new_reactor();
    let mut task = handle.spawn(pending());
    let waker = Waker::from(Arc::new(PollsAtOnce));
    assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
    AWAITED.set(Some(task));
    turn_until_quiet(&mut reactor);
    drop(reactor);
    assert_eq!(OUTPUT.take(), Some(Poll::Ready(Err(Cancelled))));
}

#[test]
fn task_that_is_woken_during_its_own_poll_is_polled_again() {
    let (mut reactor, handle) = new_reactor();
    let mut other = Reactor::new().unwrap();
    let (mut reader, _writer, mut peer) = halves(&mut other);
    let mut task = pin!(handle.spawn(async move {
        let mut buffer = [0; 2];
        let mut read = pin!(reader.read(&mut buffer));
        poll_fn(|context| {
            let polled = read.as_mut().poll(context);
            if polled.is_pending() {
                peer.write_all(b"hi").unwrap();
                turn_until_quiet(&mut other); // the other reactor wakes the task, which is running
            }
            polled.map(drop)
        })
        .await
    }));
    turn_until(&mut reactor, "the task is polled again", |_| poll_once(task.as_mut()) == Poll::Ready(Ok(())));
}

#[test]
fn task_that_has_run_another_reactor_is_still_polled() {
    let (read, noted) = shared(0);
    let (mut reactor, mut peer) = hand_over(move |mut reader, _writer| async move {
        Reactor::new().unwrap().run_until_complete(async {}).unwrap(); // polls another task
        noted.set(reader.read(&mut [0]).await.unwrap());
    });
    turn_until_quiet(&mut reactor);
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the task has read", |_| read.get() == 1);
}

// ---- runs and turns

#[test]
fn bytes_written_before_run_until_complete_returns_arrive() {
    for length in [10, 100_000] {
        let (reactor_is_dropped, when_dropped) = mpsc::channel::<()>();
        let (address, peer) = serve_once(move |mut stream| {
            let _ = when_dropped.recv();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).map(|_| got)
        });
        let (mut reactor, handle) = new_reactor();
        let talk = async move {
            let addresses = [address.parse().unwrap()];
            let dialed = handle.open_connection(&addresses, &ConnectOptions::default()).await;
            let (_reader, mut writer) = dialed.unwrap();
            writer.write_all(&noise(length, 61)).await.unwrap();
        };
        reactor.run_until_complete(talk).unwrap();
        drop(reactor);
        drop(reactor_is_dropped);
        assert_same_bytes(&peer.join().unwrap().unwrap(), &noise(length, 61));
    }
}

#[test]
fn nested_run_until_complete_is_an_error_and_the_outer_loop_continues() {
    let mut reactor = Reactor::new().unwrap();
    let steps = Rc::new(RefCell::new(Vec::new()));
    let noted = steps.clone();
    reactor.call_soon(move |reactor| {
        let nested = reactor.run_until_complete(async {});
        noted.borrow_mut().push(if nested.is_err() { "refused" } else { "ran" });
        reactor.call_later(20 * TICK, move |reactor| {
            noted.borrow_mut().push("later");
            reactor.stop();
        });
    });
    reactor.run().unwrap();
    assert_eq!(*steps.borrow(), ["refused", "later"]);
}

#[test]
fn stop_in_the_turn_of_completion_does_not_end_the_next_run() {
    let (mut reactor, handle) = new_reactor();
    let inner = handle.clone();
    let completed_with_stop = async move {
        inner.call_soon(Reactor::stop).unwrap();
        // The task is called again in the next turn, after `stop`.
        let mut is_woken = false;
        poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        7
    };
    assert_eq!(reactor.run_until_complete(completed_with_stop).unwrap(), 7);
    let next = async move {
        handle.call(|_| ()).await;
        handle.call(|_| ()).await;
        8
    };
    assert_eq!(reactor.run_until_complete(next).unwrap(), 8);
}

#[test]
fn spawned_task_is_polled_in_this_turn_or_the_next() {
    let (mut reactor, handle) = new_reactor();
    let (polls, noted) = shared(0);
    reactor.call_soon(move |_| {
        handle.spawn(async move { count_polls(&noted).await });
    });
    for _ in 0..2 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(polls.get(), 1);
}

#[test]
fn sleep_after_a_long_callback_is_not_shorter() {
    const DELAY: Duration = Duration::from_millis(100);
    let (mut reactor, handle) = new_reactor();
    let sleep = Rc::new(RefCell::new(Box::pin(async move { handle.sleep(DELAY).await })));
    let begun = sleep.clone();
    let (began, noted) = shared(None);
    reactor.call_later(TICK, move |reactor| {
        let _ = reactor.now(); // the time of this turn
        thread::sleep(DELAY); // the callback takes long
        noted.set(Some(Instant::now()));
        assert!(poll_once(begun.borrow_mut().as_mut()).is_pending());
    });
    turn_until(&mut reactor, "the sleep begins", |_| began.get().is_some());
    turn_until(&mut reactor, "the sleep ends", |_| poll_once(sleep.borrow_mut().as_mut()).is_ready());
    let slept = began.get().unwrap().elapsed();
    assert!(slept >= DELAY, "{slept:?}");
}

// ---- reactors that are dropped

#[test]
fn tasks_of_a_dropped_reactor_are_cancelled() {
    let (mut reactor, handle) = new_reactor();
    let waiting = handle.spawn(pending::<()>());
    turn_until_quiet(&mut reactor);
    let queued = handle.spawn(async {});
    drop(reactor);
    let late = handle.spawn(async {});
    for task in [waiting, queued, late] {
        assert_eq!(poll_once(pin!(task)), Poll::Ready(Err(Cancelled)));
    }
}

#[test]
fn task_of_a_dropped_reactor_is_not_leaked_if_it_owns_its_handle() {
    let (dropped, noted) = shared(0);
    for is_late in [false, true] {
        let (reactor, handle) = new_reactor();
        let mut reactor = Some(reactor);
        let own: Rc<RefCell<Option<Task<()>>>> = Rc::default();
        let held = (Guard(noted.clone()), own.clone());
        if is_late {
            reactor = None;
        }
        own.replace(Some(handle.spawn(async move { drop(held) })));
        drop((own, reactor));
    }
    assert_eq!(dropped.get(), 2);
}

#[test]
fn handles_of_dropped_reactors_keep_no_descriptor() {
    const COUNT: usize = 500; // many more than other tests open meanwhile
    let open = || std::fs::read_dir("/dev/fd").unwrap().count();
    let before = open();
    let handles: Vec<LoopHandle> = (0..COUNT).map(|_| Reactor::new().unwrap().handle().unwrap()).collect();
    assert!(open() < before + COUNT / 2);
    drop(handles);
}

#[test]
fn reactor_dropped_at_any_moment_leaves_nothing_behind() {
    for round in 0..300 {
        let random = noise(4, round);
        let ((created, counted), (dropped, noted)) = (shared(0), shared(0));
        let backend = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [Address::from(backend.local_addr().unwrap())];
        let handler = move |reader, writer| {
            counted.set(counted.get() + 1);
            let (guard, proxied) = (Guard(noted.clone()), example::proxy(reader, writer, addresses.to_vec()));
            async move {
                let _guard = guard;
                proxied.await
            }
        };
        let mut reactor = Reactor::new().unwrap();
        let any = ["127.0.0.1:0".parse().unwrap()];
        let listener = start_server(&mut reactor, &any, &ListenOptions::default(), handler).unwrap();
        let mut client = connect(&listener.addresses(&reactor).unwrap()[0].to_string());
        client.write_all(&noise(usize::from(random[0]) * 200, round)).unwrap();
        backend.set_nonblocking(true).unwrap();
        let mut server = None;
        for _ in 0..random[1] % 16 {
            reactor.turn(Some(TICK * u32::from(random[2] % 2))).unwrap();
            server = server.or_else(|| backend.accept().ok());
        }
        let panicked = panics(|| {
            let _reactor = reactor;
            assert!(random[3] > 80, "deliberate");
        });
        assert_eq!((dropped.get(), panicked), (created.get(), random[3] <= 80), "round {round}");
        for mut peer in [client].into_iter().chain(server.map(|(stream, _)| stream)) {
            assert_closed(&mut peer);
        }
    }
}
