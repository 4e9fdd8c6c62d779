//! No peer, thread or protocol can block the loop, because one call of a source does a bounded
//! amount of work.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::Cell;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use common::{cpu_time, turn_until, turn_until_quiet};
use echo_reactor::observe::{DispatchEnd, Observer};
use echo_reactor::{
    Connection, Flow, Handle, Id, ListenOptions, Mailbox, Next, Output, Protocol, Reactor, Ready,
    SCRATCH_SIZE, Source, Transport, TryRecv, TrySendError, Writer, start_server,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};

/// Counts the calls of `data_received`.
struct Counter(Rc<Cell<usize>>);

impl Protocol for Counter {
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {
        self.0.set(self.0.get() + 1);
    }
}

/// The most that one call of a source has received, and the sum, in bytes.
struct Received(Rc<Cell<(u64, u64)>>);

impl Observer for Received {
    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let count = dispatch.stats.map_or(0, |(before, after)| after.bytes_in - before.bytes_in);
        let (most, sum) = self.0.get();
        self.0.set((most.max(count), sum + count));
    }
}

fn unix_connection<P: Protocol>(reactor: &mut Reactor, protocol: P) -> (Handle<Connection<P>>, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    (Connection::from_socket(reactor, mio::net::UnixStream::from_std(ours), protocol).unwrap(), peer)
}

#[test]
fn small_reads_use_up_the_budget() {
    let mut reactor = Reactor::new().unwrap();
    let reads = Rc::new(Cell::new(0));
    let (_, peer) = unix_connection(&mut reactor, Counter(reads.clone()));
    sockopt::set_socket_send_buffer_size(&peer, 1 << 20).unwrap();
    // The kernel ends a read at a message that carries a descriptor, so each read returns one byte.
    let mut sent = 0;
    loop {
        let (fds, mut space) = ([peer.as_fd()], [std::mem::MaybeUninit::uninit(); 64]);
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        if sendmsg(&peer, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).is_err() {
            break;
        }
        sent += 1;
    }
    reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(sent > 256, "the kernel took {sent} messages");
    assert!((1..=256).contains(&reads.get()), "{} reads in one turn", reads.get());
    turn_until(&mut reactor, "all messages were read", |_| reads.get() == sent);
}

/// Makes its peer send more for everything that it receives.
struct Refilling(UnixStream);

impl Protocol for Refilling {
    fn data_received(&mut self, _: &mut Transport, _: &[u8]) {
        while self.0.write(&[0; 4096]).is_ok() {}
    }
}

#[test]
fn expired_idle_timeout_does_not_raise_the_read_budget() {
    let limit = Duration::from_secs(60);
    let mut reactor = Reactor::new().unwrap();
    let start = Instant::now();
    reactor.set_now(start);
    let received = Rc::new(Cell::new((0, 0)));
    reactor.add_observer(Received(received.clone()));
    let (ours, mut peer) = UnixStream::pair().unwrap();
    peer.set_nonblocking(true).unwrap();
    peer.write_all(b"the first byte").unwrap();
    let ours = mio::net::UnixStream::from_std(ours);
    let handle = Connection::from_socket(&mut reactor, ours, Refilling(peer)).unwrap();
    handle.enter(&mut reactor, |_, transport| transport.set_idle_timeout(Some(limit))).unwrap();
    reactor.set_now(start + limit);
    turn_until(&mut reactor, "much was received", |_| received.get().1 > 16 << 20);
    assert!(received.get().0 < 2 * SCRATCH_SIZE as u64, "{} bytes in one call", received.get().0);
    assert!(reactor.contains(handle.id()), "bytes had arrived");
}

#[test]
fn protocol_that_moves_its_marks_in_each_notification_does_not_hold_the_loop() {
    /// Raises its marks when it is paused, and lowers them when it resumes.
    struct Moving(Rc<Cell<usize>>);
    impl Protocol for Moving {
        fn connection_made(&mut self, transport: &mut Transport) {
            transport.set_write_marks(1000, 100);
            transport.write(&vec![0; 4 << 20]);
        }
        fn data_received(&mut self, _: &mut Transport, _: &[u8]) {}
        fn pause_writing(&mut self, transport: &mut Transport) {
            self.0.set(self.0.get() + 1);
            assert!(self.0.get() < 100, "the loop is blocked");
            transport.set_write_marks(16 << 20, 16 << 20);
        }
        fn resume_writing(&mut self, transport: &mut Transport) {
            transport.set_write_marks(1000, 100);
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let pauses = Rc::new(Cell::new(0));
    let (_, _peer) = unix_connection(&mut reactor, Moving(pauses.clone()));
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!((10..20).contains(&pauses.get()), "{} pauses in 10 turns", pauses.get());
}

#[test]
fn item_of_a_mailbox_polls_one_of_its_receivers() {
    const RECEIVERS: usize = 200;
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, RECEIVERS);
    let handle = reactor.handle().unwrap();
    for _ in 0..RECEIVERS {
        let inner = handle.clone();
        handle.spawn(async move { inner.recv(mailbox).await });
    }
    turn_until_quiet(&mut reactor);
    let calls = Rc::new(Cell::new(0));
    reactor.add_observer(Calls(calls.clone()));
    for number in 0..20 {
        mailbox.try_send(&mut reactor, mailbox.id(), number).unwrap();
        if number % 2 == 1 {
            turn_until_quiet(&mut reactor);
        }
    }
    assert!(calls.get() < 200, "{} calls for 20 items", calls.get());
    assert_eq!(mailbox.try_recv(&mut reactor, mailbox.id()), TryRecv::Empty, "all items were received");
}

/// Counts the calls of all sources.
struct Calls(Rc<Cell<usize>>);

impl Observer for Calls {
    fn on_dispatch(&mut self, _: &DispatchEnd) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn discarded_bytes_use_up_the_budget() {
    let mut reactor = Reactor::new().unwrap();
    let handler = |_, mut writer: Writer| async move { Err(writer.broken().await) }; // drops the reader
    let addresses = ["127.0.0.1:0".parse().unwrap()];
    let listener = start_server(&mut reactor, &addresses, &ListenOptions::default(), handler).unwrap();
    let mut peer = TcpStream::connect(listener.addresses(&reactor).unwrap()[0].to_string()).unwrap();
    turn_until_quiet(&mut reactor);
    let calls = Rc::new(Cell::new(0));
    reactor.add_observer(Calls(calls.clone()));
    peer.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent <= 3 * SCRATCH_SIZE {
        while let Ok(count) = peer.write(&[0; SCRATCH_SIZE]) {
            sent += count;
        }
        turn_until_quiet(&mut reactor);
    }
    let budgets = sent / SCRATCH_SIZE;
    turn_until(&mut reactor, "each budget has had its call", |_| calls.get() >= budgets);
}

#[test]
fn one_large_write_is_sent_in_bounded_parts() {
    const ALL: usize = 32 << 20;
    struct Large;
    impl Protocol for Large {
        fn data_received(&mut self, transport: &mut Transport, _: &[u8]) {
            transport.write(&vec![7; ALL]);
        }
    }
    /// The most that one call of a source has sent, in bytes.
    struct Sent(Rc<Cell<u64>>);
    impl Observer for Sent {
        fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
            let count = dispatch.stats.map_or(0, |(before, after)| after.bytes_out - before.bytes_out);
            self.0.set(self.0.get().max(count));
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let most = Rc::new(Cell::new(0));
    reactor.add_observer(Sent(most.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = mio::net::TcpStream::from_std(listener.accept().unwrap().0);
    Connection::from_socket(&mut reactor, ours, Large).unwrap();
    let reader = thread::spawn(move || {
        peer.write_all(b"!").unwrap();
        peer.read_exact(&mut vec![0; ALL]).unwrap();
    });
    turn_until(&mut reactor, "all bytes were received", |_| reader.is_finished());
    reader.join().unwrap();
    assert!(most.get() <= SCRATCH_SIZE as u64, "{} bytes in one call", most.get());
}

/// Does as much as it can, up to a budget for each call, and counts that.
struct Greedy<F> {
    act: F,
    done: Rc<Cell<usize>>,
    budget: usize,
}

impl<F: FnMut(&mut Reactor, Id) -> bool + 'static> Source for Greedy<F> {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        for _ in 0..self.budget {
            if !(self.act)(reactor, id) {
                return Next::Wait;
            }
            self.done.set(self.done.get() + 1);
        }
        Next::Again
    }
}

/// Adds three greedy sources that do the same. Returns how much each of them has done.
fn add_greedy<F>(reactor: &mut Reactor, budget: usize, act: F) -> [Rc<Cell<usize>>; 3]
where
    F: FnMut(&mut Reactor, Id) -> bool + Copy + 'static,
{
    [(); 3].map(|()| {
        let done = Rc::new(Cell::new(0));
        let source = reactor.insert(Greedy { act, done: done.clone(), budget });
        reactor.wake(source.id());
        done
    })
}

#[track_caller]
fn assert_fair(done: &[Rc<Cell<usize>>; 3]) {
    let done = done.each_ref().map(|done| done.get());
    assert!(done.iter().min() > Some(&(done.iter().sum::<usize>() / 9)), "{done:?}"); // a third each
}

/// Budgets of greedy sources, and capacities of their mailbox. A source that is called again comes
/// between the wake-up of another one and its call.
const GREEDY: [(usize, usize); 4] = [(usize::MAX, 16), (usize::MAX, 1), (1, 16), (1, 1)];

#[test]
fn greedy_senders_of_a_mailbox_take_turns() {
    for (budget, capacity) in GREEDY {
        let mut reactor = Reactor::new().unwrap();
        let mailbox = Mailbox::new(&mut reactor, capacity);
        let sent =
            add_greedy(&mut reactor, budget, move |reactor, id| mailbox.try_send(reactor, id, ()).is_ok());
        let receiver = mailbox.id();
        for _ in 0..100 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            while matches!(mailbox.try_recv(&mut reactor, receiver), TryRecv::Item(())) {}
        }
        assert_fair(&sent);
    }
}

#[test]
fn greedy_receivers_of_a_mailbox_take_turns() {
    for (budget, capacity) in GREEDY {
        let mut reactor = Reactor::new().unwrap();
        let mailbox = Mailbox::new(&mut reactor, capacity);
        let received = add_greedy(&mut reactor, budget, move |reactor, id| {
            matches!(mailbox.try_recv(reactor, id), TryRecv::Item(()))
        });
        let sender = mailbox.id();
        for _ in 0..100 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            while mailbox.try_send(&mut reactor, sender, ()).is_ok() {}
        }
        assert_fair(&received);
    }
}

#[test]
fn greedy_writers_of_an_output_take_turns() {
    let mut reactor = Reactor::new().unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reading, true).unwrap();
    let output = Output::open(&mut reactor, &writing, |_, _| ()).unwrap();
    let written = add_greedy(&mut reactor, usize::MAX, move |reactor, id| {
        output.flow(reactor, id) == Flow::Open && output.write(reactor, id, &[7; 1024]) != Flow::Closed
    });
    // The reader waits for the turn's end: while it reads, a writer without a budget does not end.
    let mut bytes = vec![0; 1 << 20];
    for _ in 0..100 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        while reading.read(&mut bytes).is_ok() {}
    }
    assert_fair(&written);
}

#[test]
fn items_and_places_that_are_not_reserved_are_for_everyone() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 4);
    let [waiter, other] = [(); 2].map(|()| Mailbox::<()>::new(&mut reactor, 1).id());
    assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Empty);
    for item in 0..4 {
        mailbox.try_send(&mut reactor, other, item).unwrap(); // the first one is reserved
    }
    let received: Vec<_> = (0..4).map(|_| mailbox.try_recv(&mut reactor, other)).collect();
    assert_eq!(received, [TryRecv::Item(0), TryRecv::Item(1), TryRecv::Item(2), TryRecv::Empty]);
    assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Item(3));
    while mailbox.try_send(&mut reactor, waiter, 0).is_ok() {}
    for _ in 0..4 {
        mailbox.try_recv(&mut reactor, other); // the first place is reserved
    }
    let sent: Vec<_> = (0..4).map(|item| mailbox.try_send(&mut reactor, other, item).is_ok()).collect();
    assert_eq!(sent, [true, true, true, false]);
    assert!(mailbox.try_send(&mut reactor, waiter, 0).is_ok());
}

#[test]
fn item_that_its_waiter_does_not_take_is_for_the_next() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let idle = Mailbox::<()>::new(&mut reactor, 1).id(); // takes nothing when it is woken
    let done = Rc::new(Cell::new(0));
    let act = move |reactor: &mut Reactor, id| mailbox.try_recv(reactor, id) == TryRecv::Item(());
    let receiver = reactor.insert(Greedy { act, done: done.clone(), budget: 2 }).id();
    assert_eq!(mailbox.try_recv(&mut reactor, idle), TryRecv::Empty);
    mailbox.try_send(&mut reactor, idle, ()).unwrap(); // reserved
    assert_eq!(mailbox.try_recv(&mut reactor, receiver), TryRecv::Empty);
    turn_until_quiet(&mut reactor);
    assert_eq!(done.get(), 1);
}

#[test]
fn place_that_its_waiter_does_not_take_is_for_the_next() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let idle = Mailbox::<()>::new(&mut reactor, 1).id(); // takes nothing when it is woken
    let done = Rc::new(Cell::new(0));
    let act = move |reactor: &mut Reactor, id| mailbox.try_send(reactor, id, ()).is_ok();
    let sender = reactor.insert(Greedy { act, done: done.clone(), budget: 2 }).id();
    mailbox.try_send(&mut reactor, idle, ()).unwrap();
    assert_eq!(mailbox.try_send(&mut reactor, idle, ()), Err(TrySendError::Full(())));
    assert_eq!(mailbox.try_recv(&mut reactor, idle), TryRecv::Item(())); // its place is reserved
    assert_eq!(mailbox.try_send(&mut reactor, sender, ()), Err(TrySendError::Full(())));
    turn_until_quiet(&mut reactor);
    assert_eq!(done.get(), 1);
}

#[test]
fn waiters_that_were_woken_together_cost_the_next_receiver_nothing() {
    const WAITERS: usize = 8000;
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, WAITERS);
    let own = mailbox.id();
    for _ in 0..WAITERS {
        let waiter = Mailbox::<()>::new(&mut reactor, 1).id(); // takes nothing when it is woken
        assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Empty);
    }
    (0..WAITERS).for_each(|item| mailbox.try_send(&mut reactor, own, item).unwrap());
    turn_until_quiet(&mut reactor);
    let before = cpu_time();
    (0..WAITERS).for_each(|item| assert_eq!(mailbox.try_recv(&mut reactor, own), TryRecv::Item(item)));
    let took = cpu_time() - before;
    assert!(took < Duration::from_secs(1), "{took:?}"); // it takes 10 ms
}

#[test]
fn waiters_that_were_woken_together_take_their_items_in_linear_time() {
    const WAITERS: usize = 8000;
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, WAITERS);
    let waiters: Vec<Id> = (0..WAITERS).map(|_| Mailbox::<()>::new(&mut reactor, 1).id()).collect();
    for &waiter in &waiters {
        assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Empty);
    }
    (0..WAITERS).for_each(|item| mailbox.try_send(&mut reactor, mailbox.id(), item).unwrap());
    assert_eq!(mailbox.try_recv(&mut reactor, waiters[0]), TryRecv::Item(0));
    reactor.turn(Some(Duration::ZERO)).unwrap(); // wakes the others together
    let before = cpu_time();
    for (item, &waiter) in waiters.iter().enumerate().skip(1) {
        assert_eq!(mailbox.try_recv(&mut reactor, waiter), TryRecv::Item(item));
    }
    let took = cpu_time() - before;
    assert!(took < Duration::from_secs(1), "{took:?}"); // it takes 10 ms
}

#[test]
fn woken_waiter_that_leaves_passes_its_turn_on() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let received = add_greedy(&mut reactor, usize::MAX, move |reactor, id| {
        matches!(mailbox.try_recv(reactor, id), TryRecv::Item(()))
    });
    turn_until_quiet(&mut reactor);
    let first = reactor.slots().nth(1).unwrap().id; // after the mailbox
    mailbox.try_send(&mut reactor, first, ()).unwrap(); // wakes the first one
    reactor.remove(first);
    turn_until_quiet(&mut reactor);
    assert_eq!(received.each_ref().map(|received| received.get()), [0, 1, 0]);
}

#[test]
fn place_that_a_woken_sender_does_not_use_is_for_the_next_one() {
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 1);
    let first = Mailbox::<()>::new(&mut reactor, 1).id(); // sends nothing when it is woken
    mailbox.try_send(&mut reactor, first, ()).unwrap();
    assert_eq!(mailbox.flow(&mut reactor, first), Flow::Full);
    assert_eq!(mailbox.try_recv(&mut reactor, mailbox.id()), TryRecv::Item(())); // wakes it
    let sent = add_greedy(&mut reactor, 1, move |reactor, id| mailbox.try_send(reactor, id, ()).is_ok());
    turn_until_quiet(&mut reactor);
    assert_eq!(sent.each_ref().map(|sent| sent.get()), [1, 0, 0]);
}

#[test]
fn one_large_write_on_an_output_is_written_in_bounded_parts() {
    const ALL: usize = 8 << 20;
    let mut reactor = Reactor::new().unwrap();
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap(); // takes everything
    let output = Output::open(&mut reactor, &null, |_, error| panic!("{error}")).unwrap();
    output.write(&mut reactor, output.id(), &vec![7; ALL]);
    let mut left = ALL;
    while left > 0 {
        let buffered = output.buffered(&reactor).unwrap();
        assert!((1..=SCRATCH_SIZE).contains(&(left - buffered)), "{} bytes in one turn", left - buffered);
        left = buffered;
        reactor.turn(None).unwrap();
    }
}

#[test]
fn woken_waiter_that_stays_busy_does_not_hold_up_the_next_one() {
    /// Takes one item, and then queues itself in each turn.
    struct Busy(Handle<Mailbox<()>>, Rc<Cell<usize>>);
    impl Source for Busy {
        fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
            if self.1.get() == 0 && matches!(self.0.try_recv(reactor, id), TryRecv::Item(())) {
                self.1.set(1);
            }
            if self.1.get() == 0 { Next::Wait } else { Next::Again }
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 2);
    let taken = [(); 2].map(|()| {
        let taken = Rc::new(Cell::new(0));
        let source = reactor.insert(Busy(mailbox, taken.clone()));
        reactor.wake(source.id());
        taken
    });
    for _ in 0..5 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    for _ in 0..2 {
        mailbox.try_send(&mut reactor, mailbox.id(), ()).unwrap();
    }
    for _ in 0..10 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(taken.each_ref().map(|taken| taken.get()), [1, 1]);
}
