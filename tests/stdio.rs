//! Every kind of stdin and stdout as a source: no byte is lost, no read or write blocks, no flag
//! changes.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    PATIENCE, Process, Scratch, Terminal, assert_same_bytes, feed, fifo, is_nonblocking, make_fifo, noise,
    pipe, pseudo_terminal, reset_on_close, turn_until, turn_until_quiet,
};
use echo_reactor::{
    Chunk, Descriptor, Direction, Flow, Framing, Handle, Id, Input, Mailbox, Next, Output, Reactor, Ready,
    Source, TryRecv, TrySendError,
};

/// Receives everything from a mailbox, as a protocol would.
struct Reader {
    mailbox: Handle<Mailbox<Chunk>>,
    items: Rc<RefCell<Vec<Chunk>>>,
    closed: Rc<RefCell<bool>>,
}

impl Source for Reader {
    fn ready(&mut self, id: Id, _: Ready, reactor: &mut Reactor) -> Next {
        loop {
            match self.mailbox.try_recv(reactor, id) {
                TryRecv::Item(item) => self.items.borrow_mut().push(item),
                TryRecv::Empty => return Next::Wait,
                TryRecv::Closed => {
                    *self.closed.borrow_mut() = true;
                    return Next::Done;
                }
            }
        }
    }
}

/// Reads a descriptor through an `Input`.
struct Reading {
    reactor: Reactor,
    items: Rc<RefCell<Vec<Chunk>>>,
    closed: Rc<RefCell<bool>>,
}

impl Reading {
    fn of(descriptor: impl AsFd, framing: Framing) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let mailbox = Mailbox::new(&mut reactor, 2);
        let (items, closed) = (Rc::default(), Rc::default());
        Input::open(&mut reactor, &descriptor, framing, mailbox).unwrap();
        let reader = Reader { mailbox, items: Rc::clone(&items), closed: Rc::clone(&closed) };
        let reader = reactor.insert(reader);
        reactor.wake(reader.id());
        Reading { reactor, items, closed }
    }

    fn bytes(&self) -> Vec<u8> {
        self.items.borrow().iter().flat_map(|item| item.as_ref().unwrap().clone()).collect()
    }

    fn lines(&self) -> Vec<String> {
        let text = |item: &Chunk| String::from_utf8(item.as_ref().unwrap().clone()).unwrap();
        self.items.borrow().iter().map(text).collect()
    }

    #[track_caller]
    fn until_lines(&mut self, count: usize) -> Vec<String> {
        let items = self.items.clone();
        turn_until(&mut self.reactor, "the lines were read", |_| items.borrow().len() >= count);
        self.lines()
    }

    #[track_caller]
    fn until_the_end(&mut self) -> Vec<u8> {
        let closed = self.closed.clone();
        turn_until(&mut self.reactor, "the input ended", |_| *closed.borrow());
        self.bytes()
    }
}

#[test]
fn every_kind_of_input_is_read_without_changing_its_flags() {
    let scratch = Scratch::new();
    let bytes = noise(3 << 20, 7);
    let (pipe, to_pipe) = pipe();
    let (fifo, to_fifo) = fifo(&scratch, "fifo");
    let (socket, to_socket) = UnixStream::pair().unwrap();
    let file = File::open(scratch.file("file", &bytes)).unwrap();
    let feeders = [feed(to_pipe, &bytes), feed(to_fifo, &bytes), feed(to_socket, &bytes)];
    for (kind, descriptor) in
        [("pipe", pipe), ("fifo", fifo), ("socket", socket.into()), ("file", OwnedFd::from(file))]
    {
        let mut reading = Reading::of(&descriptor, Framing::Bytes);
        assert!(!is_nonblocking(&descriptor), "{kind}: while it is open");
        assert_same_bytes(&reading.until_the_end(), &bytes);
        assert!(!is_nonblocking(&descriptor), "{kind}: afterwards");
    }
    feeders.into_iter().for_each(|feeder| feeder.join().unwrap());
}

#[test]
fn dev_null_is_empty_and_a_directory_is_an_error() {
    let mut reading = Reading::of(File::open("/dev/null").unwrap(), Framing::Bytes);
    assert!(reading.until_the_end().is_empty());
    let mut reading = Reading::of(File::open("/").unwrap(), Framing::Bytes);
    let closed = reading.closed.clone();
    turn_until(&mut reading.reactor, "the input ended", |_| *closed.borrow());
    let error = reading.items.borrow_mut().pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
}

#[test]
fn non_blocking_input_works_and_stays_non_blocking() {
    let (reader, writer) = pipe();
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut reading = Reading::of(&reader, Framing::Bytes);
    turn_until_quiet(&mut reading.reactor);
    feed(writer, b"late").join().unwrap();
    assert_eq!(reading.until_the_end(), b"late");
    assert!(is_nonblocking(&reader));
}

#[test]
fn lines_of_one_write_are_delivered_separately() {
    let (reader, writer) = pipe();
    let mut reading = Reading::of(&reader, Framing::Lines);
    let mut writer = File::from(writer);
    writer.write_all(b"one\ntwo\nthree\nfo").unwrap();
    assert_eq!(reading.until_lines(3), ["one\n", "two\n", "three\n"]);
    writer.write_all(b"ur\nfive without a newline").unwrap();
    assert_eq!(reading.until_lines(4)[3], "four\n");
    drop(writer);
    reading.until_the_end();
    assert_eq!(reading.lines()[4], "five without a newline");
}

#[test]
fn line_is_split_only_above_the_limit() {
    const LIMIT: usize = 64 * 1024;
    for length in [LIMIT - 1, LIMIT, LIMIT + 1] {
        let scratch = Scratch::new();
        let mut text = vec![b'x'; length - 1];
        text.extend_from_slice(b"\nnext\n");
        let file = File::open(scratch.file("file", &text)).unwrap();
        let mut reading = Reading::of(file, Framing::Lines);
        assert_same_bytes(&reading.until_the_end(), &text);
        let pieces = if length <= LIMIT { 2 } else { 3 };
        assert_eq!(reading.lines().len(), pieces, "a line of {length} bytes");
    }
}

#[test]
fn many_lines_pass_through_a_small_mailbox_in_order() {
    let scratch = Scratch::new();
    let expected: Vec<String> = (0..20_000).map(|number| format!("line {number}\n")).collect();
    let file = File::open(scratch.file("file", expected.concat().as_bytes())).unwrap();
    let mut reading = Reading::of(file, Framing::Lines);
    reading.until_the_end();
    assert_eq!(reading.lines(), expected);
}

#[test]
fn lines_typed_before_the_first_read_are_all_read() {
    // In canonical mode, a read returns one line. So a short read does not mean that the input is
    // empty.
    let mut terminal = Terminal::new();
    terminal.type_in("one\ntwo\nthree\n");
    let mut reading = Reading::of(&terminal.line, Framing::Lines);
    assert_eq!(reading.until_lines(3), ["one\n", "two\n", "three\n"]);
    assert!(!is_nonblocking(&terminal.line));
    terminal.type_in("\x04"); // ^D
    reading.until_the_end();
    assert!(!is_nonblocking(&terminal.line));
}

#[test]
fn second_reader_of_a_pipe_never_blocks_the_loop() {
    let (reader, writer) = pipe();
    let mut writer = File::from(writer);
    let mut thief = File::from(reader.try_clone().unwrap());
    let mut reading = Reading::of(&reader, Framing::Bytes);
    for _ in 0..50 {
        writer.write_all(b"x").unwrap();
        thief.read_exact(&mut [0]).unwrap(); // the other reader took the byte after the event
        turn_until_quiet(&mut reading.reactor);
    }
    assert!(reading.bytes().is_empty());
}

#[test]
fn full_mailbox_stops_reading() {
    let (reader, writer) = pipe();
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 2);
    Input::open(&mut reactor, &reader, Framing::Bytes, mailbox).unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut writer = File::from(writer);
    let mut sent = 0;
    for _ in 0..100 {
        while let Ok(count) = writer.write(&[0; 4096]) {
            sent += count;
        }
        turn_until_quiet(&mut reactor);
    }
    assert!(sent <= 3 * 64 * 1024, "{sent} bytes: more than two items and the pipe hold");
}

// ---- output

/// Writes to a descriptor through an `Output` and records its error.
struct Writing {
    reactor: Reactor,
    output: Handle<Output>,
    error: Rc<RefCell<Option<ErrorKind>>>,
}

impl Writing {
    fn to(descriptor: impl AsFd) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let error = Rc::new(RefCell::new(None));
        let note = error.clone();
        let output =
            Output::open(&mut reactor, &descriptor, move |_, error| *note.borrow_mut() = Some(error.kind()));
        Writing { output: output.unwrap(), reactor, error }
    }

    fn write(&mut self, bytes: &[u8]) -> Flow {
        let nobody = self.output.id();
        self.output.write(&mut self.reactor, nobody, bytes)
    }

    #[track_caller]
    fn until_the_end(&mut self) {
        let done = Rc::new(RefCell::new(false));
        let note = done.clone();
        self.output.on_flushed(&mut self.reactor, move |_| *note.borrow_mut() = true);
        turn_until(&mut self.reactor, "everything is written", |_| *done.borrow());
    }

    #[track_caller]
    fn fails(&mut self) -> ErrorKind {
        let error = self.error.clone();
        turn_until(&mut self.reactor, "the error was reported", |_| error.borrow().is_some());
        error.borrow().unwrap()
    }
}

#[test]
fn every_kind_of_output_is_written_without_changing_its_flags() {
    let scratch = Scratch::new();
    let bytes = noise(1 << 20, 9);
    let (from_pipe, pipe) = pipe();
    let (from_fifo, fifo) = fifo(&scratch, "fifo");
    let (socket, from_socket) = UnixStream::pair().unwrap();
    for (kind, descriptor, source) in [
        ("pipe", pipe, File::from(from_pipe)),
        ("fifo", fifo, File::from(from_fifo)),
        ("socket", socket.into(), File::from(OwnedFd::from(from_socket))),
    ] {
        let mut writing = Writing::to(&descriptor);
        assert_eq!(writing.write(&bytes), Flow::Full, "{kind}: nobody reads it");
        turn_until_quiet(&mut writing.reactor);
        assert!(!is_nonblocking(&descriptor), "{kind}: while it is open");
        let reader = common::collect(source);
        writing.until_the_end();
        assert!(!is_nonblocking(&descriptor), "{kind}: afterwards");
        drop((writing, descriptor));
        assert_same_bytes(&reader.recv_timeout(common::PATIENCE).unwrap(), &bytes);
    }
}

#[test]
fn file_is_written_from_its_current_offset() {
    let scratch = Scratch::new();
    let path = scratch.file("file", b"0123456789");
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(b"ab").unwrap();
    let mut writing = Writing::to(&file);
    assert_eq!(writing.write(b"cd"), Flow::Open);
    writing.until_the_end();
    assert_eq!(fs::read(&path).unwrap(), b"abcd456789");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn full_device_is_an_error_and_null_device_accepts_everything() {
    let mut writing = Writing::to(OpenOptions::new().write(true).open("/dev/full").unwrap());
    writing.write(b"x");
    assert_eq!(writing.fails(), ErrorKind::StorageFull);
    assert_eq!(writing.write(b"x"), Flow::Closed);
    let mut writing = Writing::to(OpenOptions::new().write(true).open("/dev/null").unwrap());
    assert_eq!(writing.write(&noise(200_000, 3)), Flow::Open); // less than one budget
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc/PID/mem")]
fn write_that_takes_nothing_is_an_error() {
    let mut ended = Process::spawn(Command::new("cat").stdin(Stdio::piped()));
    let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", ended.child.id())).unwrap();
    drop(ended.child.stdin.take());
    ended.wait();
    let mut writing = Writing::to(memory);
    writing.write(b"x");
    assert_eq!(writing.fails(), ErrorKind::WriteZero);
}

#[test]
fn closed_reader_is_noticed_while_nothing_is_written() {
    let (reader, writer) = pipe();
    let mut writing = Writing::to(&writer);
    turn_until_quiet(&mut writing.reactor);
    assert!(writing.error.borrow().is_none());
    drop(reader);
    assert_eq!(writing.fails(), ErrorKind::BrokenPipe);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: kqueue reports it only at the next write")]
fn reset_of_a_socket_is_reported_as_a_reset_while_nothing_is_written() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut writing = Writing::to(&stream);
    let (peer, _) = listener.accept().unwrap();
    reset_on_close(&peer);
    drop(peer);
    assert_eq!(writing.fails(), ErrorKind::ConnectionReset);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: only there is a FIFO reopened")]
fn fifo_opened_for_reading_and_writing_has_no_end() {
    let scratch = Scratch::new();
    let path = scratch.path("control");
    make_fifo(&path);
    let open = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut reading = Reading::of(open(), Framing::Lines);
    turn_until_quiet(&mut reading.reactor);
    assert!(!*reading.closed.borrow());
    drop(reading);
    let mut writing = Writing::to(open());
    turn_until_quiet(&mut writing.reactor);
    writing.write(b"kept");
    assert!(writing.error.borrow().is_none());
}

#[test]
#[ignore = "part of write_in_the_background_neither_blocks_the_loop_nor_keeps_it_busy"]
fn background_process_writes_on_its_terminal() {
    let (mut reactor, signals) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let count = signals.clone();
    reactor.on_signal(rustix::process::Signal::TTOU.as_raw(), move |_| count.set(count.get() + 1)).unwrap();
    let output = Output::open(&mut reactor, &io::stdin(), |_, error| panic!("{error}")).unwrap();
    let began = Instant::now();
    assert_eq!(output.write(&mut reactor, output.id(), b"text"), Flow::Open); // it is buffered
    turn_until(&mut reactor, "three signals", |_| signals.get() == 3);
    assert!(began.elapsed() >= Duration::from_millis(20), "{:?}", began.elapsed());
    reactor.remove(output.id());
    assert_eq!(reactor.timer_count(), 0);
}

/// With `tostop`, the kernel answers each such write with SIGTTOU, which the process handles.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn write_in_the_background_neither_blocks_the_loop_nor_keeps_it_busy() {
    let terminal = Terminal::new();
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "set -m; stty tostop; {} --exact --ignored background_process_writes_on_its_terminal > /dev/null 2>&1 & wait %1",
        program.display()
    );
    let mut command = Command::new("setsid");
    command.args(["--wait", "--ctty", "bash", "-c", &script]);
    command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    assert_eq!(Process::spawn(&mut command).wait_code(), 0);
}

#[test]
fn writer_of_a_full_output_is_woken_when_there_is_room() {
    let (reader, writer) = pipe();
    let mut writing = Writing::to(&writer);
    let mailbox = Mailbox::<u8>::new(&mut writing.reactor, 1);
    let woken = Rc::new(RefCell::new(false));
    struct Waiting(Rc<RefCell<bool>>);
    impl Source for Waiting {
        fn ready(&mut self, _: Id, ready: Ready, _: &mut Reactor) -> Next {
            *self.0.borrow_mut() = ready.intersects(Ready::WOKEN);
            Next::Wait
        }
    }
    let waiting = writing.reactor.insert(Waiting(woken.clone())).id();
    let flow = writing.output.write(&mut writing.reactor, waiting, &noise(300_000, 4));
    assert_eq!(flow, Flow::Full);
    turn_until_quiet(&mut writing.reactor);
    assert!(!*woken.borrow());
    let _all = common::collect(File::from(reader));
    turn_until(&mut writing.reactor, "the writer was woken", |_| *woken.borrow());
    mailbox.close(&mut writing.reactor);
}

#[test]
fn writing_to_a_terminal_does_not_change_its_flags() {
    let mut terminal = Terminal::new();
    let mut writing = Writing::to(&terminal.line);
    writing.write(b"hello\n");
    terminal.see("hello");
    assert!(!is_nonblocking(&terminal.line));
}

#[test]
fn output_whose_reader_has_gone_does_not_keep_the_loop_busy() {
    for bytes in [0, 1 << 20] {
        let mut reactor = Reactor::new().unwrap();
        let (reading, writing) = io::pipe().unwrap();
        let output = Output::open(&mut reactor, &writing, |_, _| ()).unwrap();
        output.write(&mut reactor, output.id(), &vec![7; bytes]);
        reactor.turn(Some(Duration::ZERO)).unwrap();
        drop(reading);
        let before = reactor.turn_count();
        reactor.run_until(Duration::from_millis(20), |_| false).unwrap();
        let turns = reactor.turn_count() - before;
        assert!(turns < 10, "{turns} turns");
    }
}

#[test]
fn descriptor_that_cannot_be_reopened_is_polled_and_does_not_block() {
    // The master of a terminal has no name: opening `/dev/ptmx` would create another terminal.
    let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
    let descriptor = Descriptor::open(&master, Direction::Read).unwrap();
    assert!(format!("{descriptor:?}").contains("Shared"), "{descriptor:?}");
    assert!(descriptor.is_pollable());
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let line = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(descriptor.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    rustix::io::write(&line, b"hi\n").unwrap();
    let count = descriptor.read(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"hi\r\n");
}

#[cfg(target_os = "linux")]
#[test]
fn regular_file_is_polled_only_if_it_may_block() {
    let scratch = Scratch::new();
    for (path, is_pollable) in [(scratch.file("file", b"x"), false), ("/proc/self/mounts".into(), true)] {
        let file = File::open(&path).unwrap();
        assert!(file.metadata().unwrap().is_file());
        assert_eq!(Descriptor::open(&file, Direction::Read).unwrap().is_pollable(), is_pollable, "{path:?}");
    }
}

// ---- mailboxes and shared descriptors

#[test]
fn mailbox_wakes_its_waiting_writer_and_reader() {
    struct Count(Rc<RefCell<u32>>);
    impl Source for Count {
        fn ready(&mut self, _: Id, _: Ready, _: &mut Reactor) -> Next {
            *self.0.borrow_mut() += 1;
            Next::Wait
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (reader_woken, writer_woken) = (Rc::new(RefCell::new(0)), Rc::new(RefCell::new(0)));
    let reader = reactor.insert(Count(reader_woken.clone())).id();
    let writer = reactor.insert(Count(writer_woken.clone())).id();
    let mailbox = Mailbox::new(&mut reactor, 1);
    assert_eq!(mailbox.try_recv(&mut reactor, reader), TryRecv::Empty);
    mailbox.try_send(&mut reactor, writer, 1).unwrap();
    reactor.turn(None).unwrap();
    assert_eq!((*reader_woken.borrow(), *writer_woken.borrow()), (1, 0));
    assert_eq!(mailbox.try_send(&mut reactor, writer, 2), Err(TrySendError::Full(2)));
    assert_eq!(mailbox.try_recv(&mut reactor, reader), TryRecv::Item(1));
    reactor.turn(None).unwrap();
    assert_eq!((*reader_woken.borrow(), *writer_woken.borrow()), (1, 1));
    mailbox.close(&mut reactor);
    assert_eq!(mailbox.try_send(&mut reactor, writer, 3), Err(TrySendError::Closed(3)));
    assert_eq!(mailbox.try_recv(&mut reactor, reader), TryRecv::Closed);
    reactor.remove(mailbox.id());
    assert_eq!(mailbox.try_send(&mut reactor, writer, 4), Err(TrySendError::Closed(4)));
}

#[test]
fn full_output_wakes_every_writer_and_calls_every_callback() {
    let mut reactor = Reactor::new().unwrap();
    let (reading, writing) = pipe();
    let output = Output::open(&mut reactor, &writing, |_, _| ()).unwrap();
    let woken = Rc::new(RefCell::new(Vec::new()));
    struct Writer(Rc<RefCell<Vec<Id>>>);
    impl Source for Writer {
        fn ready(&mut self, id: Id, ready: Ready, _: &mut Reactor) -> Next {
            assert!(ready.intersects(Ready::WOKEN));
            self.0.borrow_mut().push(id);
            Next::Wait
        }
    }
    let writers = [(); 3].map(|()| reactor.insert(Writer(woken.clone())).id());
    for writer in writers {
        assert_eq!(output.write(&mut reactor, writer, &[b'x'; 200_000]), Flow::Full);
    }
    let flushed = Rc::new(RefCell::new(0));
    for _ in 0..2 {
        let flushed = flushed.clone();
        output.on_flushed(&mut reactor, move |_| *flushed.borrow_mut() += 1);
    }
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; 600_000];
        File::from(reading).read_exact(&mut all).unwrap();
    });
    turn_until(&mut reactor, "both callbacks", |_| *flushed.borrow() == 2);
    turn_until_quiet(&mut reactor);
    assert_eq!(*woken.borrow(), writers);
    reader.join().unwrap();
}

#[test]
fn empty_output_is_not_woken_by_other_writers_of_its_terminal() {
    let mut terminal = Terminal::new();
    let mut reactor = Reactor::new().unwrap();
    let output = Output::open(&mut reactor, &terminal.line, |_, _| ()).unwrap();
    output.write(&mut reactor, output.id(), b"hello\n");
    terminal.see("hello");
    turn_until_quiet(&mut reactor);
    rustix::io::write(&terminal.line, b"from another writer\n").unwrap();
    terminal.see("writer");
    let began = std::time::Instant::now();
    reactor.turn(Some(std::time::Duration::from_millis(30))).unwrap();
    assert!(began.elapsed() >= std::time::Duration::from_millis(30), "an event woke the loop");
}

#[cfg(target_os = "linux")]
#[test]
fn blocking_descriptor_is_read_only_when_readable() {
    use rustix::event::{EventfdFlags, eventfd};
    let counter = eventfd(0, EventfdFlags::empty()).unwrap();
    let writer = counter.try_clone().unwrap();
    let (turn_has_ended, ended) = mpsc::channel();
    let later = thread::spawn(move || {
        let was_blocked = ended.recv_timeout(PATIENCE).is_err(); // then this write ends the read
        rustix::io::write(&writer, &7_u64.to_ne_bytes()).unwrap();
        was_blocked
    });
    let mut reading = Reading::of(&counter, Framing::Bytes);
    reading.reactor.turn(Some(Duration::from_millis(10))).unwrap(); // the descriptor is not readable
    let _ = turn_has_ended.send(());
    assert!(!later.join().unwrap(), "the loop blocked in a read");
    let items = reading.items.clone();
    turn_until(&mut reading.reactor, "the bytes were read", |_| !items.borrow().is_empty());
    assert_eq!(items.borrow()[0].as_ref().unwrap(), &7_u64.to_ne_bytes());
}

#[test]
fn descriptor_opened_for_the_other_direction_is_rejected() {
    let (reading, writing) = pipe();
    for (descriptor, direction) in [(&reading, Direction::Write), (&writing, Direction::Read)] {
        let error = Descriptor::open(descriptor, direction).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(9), "EBADF");
    }
}

#[test]
fn input_error_comes_after_all_lines_read() {
    let (ours, peer) = {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listening.local_addr().unwrap()).unwrap();
        (listening.accept().unwrap().0, peer)
    };
    let mut reading = Reading::of(&ours, Framing::Lines);
    (&peer).write_all(b"whole\npartial").unwrap();
    turn_until_quiet(&mut reading.reactor);
    common::reset_on_close(&peer);
    drop(peer);
    let (closed, items) = (reading.closed.clone(), reading.items.clone());
    turn_until(&mut reading.reactor, "the input has ended", |_| *closed.borrow());
    let items: Vec<_> = items.take().into_iter().map(|item| item.map_err(|error| error.kind())).collect();
    let expected = [Ok(b"whole\n".to_vec()), Ok(b"partial".to_vec()), Err(ErrorKind::ConnectionReset)];
    assert_eq!(items, expected);
}

/// A program that controls a child through a pseudo-terminal writes to its master.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: its terminals take a byte if `poll` says so")]
fn output_on_the_master_of_a_pseudo_terminal_never_blocks() {
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    const SIZE: usize = 20_000; // more than the terminal takes
    let (master, line) = pseudo_terminal();
    let mut attributes = tcgetattr(&line).unwrap();
    attributes.make_raw();
    tcsetattr(&line, OptionalActions::Now, &attributes).unwrap();
    let (sender, written) = mpsc::channel();
    let writer = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        let output = Output::open(&mut reactor, &master, |_, _| ()).unwrap();
        let waiter = Mailbox::<u8>::new(&mut reactor, 1).id();
        let _ = output.write(&mut reactor, waiter, &[b'x'; SIZE]);
        turn_until_quiet(&mut reactor);
        sender.send(()).unwrap();
        output.on_flushed(&mut reactor, Reactor::stop);
        reactor.run().unwrap();
        master // closing it would discard what is not read yet
    });
    written.recv_timeout(PATIENCE).expect("the write does not block");
    let mut received = vec![0; SIZE];
    File::from(line).read_exact(&mut received).unwrap();
    assert_eq!(received, [b'x'; SIZE]);
    writer.join().unwrap();
}
