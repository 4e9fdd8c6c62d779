//! The streams style: what each read and write returns at its limit, at the end and after an error.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::{
    DeadPort, Scratch, accept, assert_same_bytes, connect, connect_unix, fill, halves, hand_over,
    new_reactor, noise, poll_once, shared, turn_until, turn_until_quiet,
};
use echo_reactor::observe::{DispatchEnd, IoStats, Observer};
use echo_reactor::{
    Address, ConnectOptions, CopyError, Either, ListenOptions, Mailbox, Reactor, Reader, SCRATCH_SIZE,
    Writer, copy, join, race, start_server,
};
use rustix::net::sockopt::set_socket_recv_buffer_size;

type Notes = Rc<RefCell<Vec<String>>>;

/// A server with a handler that the test chooses. The peer is a blocking socket.
fn serve<F: Future<Output = io::Result<()>> + 'static>(
    handler: impl FnMut(Reader, Writer) -> F + 'static,
) -> (Reactor, TcpStream) {
    let mut reactor = Reactor::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let listener = start_server(&mut reactor, &[any], &ListenOptions::default(), handler).unwrap();
    let peer = connect(&listener.addresses(&reactor).unwrap()[0].to_string());
    (reactor, peer)
}

/// The same on a Unix socket, where no acknowledgement causes another event.
fn serve_unix<F: Future<Output = io::Result<()>> + 'static>(
    handler: impl FnMut(Reader, Writer) -> F + 'static,
) -> (Reactor, UnixStream) {
    let scratch = common::Scratch::new();
    let path = scratch.path("socket");
    let mut reactor = Reactor::new().unwrap();
    let address = [Address::Unix(path.clone())];
    start_server(&mut reactor, &address, &ListenOptions::default(), handler).unwrap();
    let peer = connect_unix(&path);
    (reactor, peer)
}

/// The result of a handler that gets these bytes and an end of file.
fn after<F: Future<Output = String> + 'static>(
    bytes: &[u8],
    mut read: impl FnMut(Reader) -> F + 'static,
) -> String {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |reader, _writer| {
        let (result, noted) = (read(reader), noted.clone());
        async move {
            let result = result.await;
            noted.borrow_mut().push(result);
            Ok(())
        }
    });
    peer.write_all(bytes).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "the handler returned", |_| !notes.borrow().is_empty());
    notes.take().remove(0)
}

/// Asserts that turns with nothing to do sleep until their time limit.
#[track_caller]
fn assert_sleeps(reactor: &mut Reactor) {
    let began = Instant::now();
    for _ in 0..10 {
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
    assert!(began.elapsed() > Duration::from_millis(50), "ten turns took {:?}", began.elapsed());
}

fn show(result: io::Result<Option<Vec<u8>>>) -> String {
    match result {
        Ok(Some(bytes)) => format!("{:?}", String::from_utf8(bytes).unwrap()),
        Ok(None) => "end".into(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

#[test]
fn read_line_refuses_a_line_beyond_its_limit() {
    for (line, expected) in [
        ("123456\nx", "\"123456\\n\""),
        ("1234567\nx", "\"1234567\\n\""),
        ("12345678\nx", "InvalidData"),
        ("1234", "\"1234\""),
        ("12345678", "\"12345678\""),
        ("123456789", "InvalidData"),
        ("", "end"),
    ] {
        let read = |mut reader: Reader| async move { show(reader.read_line(8).await) };
        assert_eq!(after(line.as_bytes(), read), expected, "{line:?}");
    }
}

#[test]
fn read_until_needs_its_delimiter_within_the_limit() {
    for (text, expected) in
        [("1234567;", "\"1234567;\""), ("12345678;", "InvalidData"), ("1234", "UnexpectedEof"), ("", "end")]
    {
        let read = |mut reader: Reader| async move { show(reader.read_until(b';', 8).await) };
        assert_eq!(after(text.as_bytes(), read), expected, "{text:?}");
    }
}

#[test]
fn read_exactly_is_all_or_nothing() {
    for (text, expected) in [
        ("1234", "\"1234\" then \"\""),
        ("12345", "\"1234\" then \"5\""),
        ("123", "UnexpectedEof then \"123\""),
    ] {
        let read = |mut reader: Reader| async move {
            let first = show(reader.read_exactly(4).await.map(Some));
            let mut rest = [0; 8];
            let count = reader.read(&mut rest).await.unwrap();
            format!("{first} then {:?}", std::str::from_utf8(&rest[..count]).unwrap())
        };
        assert_eq!(after(text.as_bytes(), read), expected, "{text:?}");
    }
}

#[test]
fn read_exactly_can_exceed_the_high_water_mark() {
    let bytes = noise(1 << 20, 41);
    let notes = Rc::new(RefCell::new(Vec::new()));
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |mut reader: Reader, _writer| {
        let noted = noted.clone();
        async move {
            *noted.borrow_mut() = reader.read_exactly(1 << 20).await?;
            Ok(())
        }
    });
    let sent = bytes.clone();
    let thread = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer));
    turn_until(&mut reactor, "all bytes have come", |_| !notes.borrow().is_empty());
    assert_same_bytes(&notes.borrow(), &bytes);
    thread.join().unwrap().unwrap();
}

#[test]
fn reader_that_does_not_read_makes_its_peer_wait() {
    let (mut reactor, mut peer) = serve(|reader: Reader, _writer| async move {
        reader.handle().sleep(Duration::from_secs(3600)).await;
        Ok(())
    });
    peer.set_nonblocking(true).unwrap();
    let (mut sent, mut before) = (0, 1);
    while sent != before && sent < 64 << 20 {
        before = sent;
        while let Ok(count) = peer.write(&[0; 65536]) {
            sent += count;
        }
        turn_until_quiet(&mut reactor);
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken although nobody reads them");
}

#[test]
fn dropped_reader_does_not_make_its_peer_wait() {
    let (mut reactor, mut peer) = serve(|reader, writer: Writer| async move {
        drop(reader);
        writer.handle().sleep(Duration::from_secs(3600)).await;
        Ok(())
    });
    let sender = std::thread::spawn(move || peer.write_all(&[0; 20 << 20]));
    turn_until(&mut reactor, "everything is sent", |_| sender.is_finished());
    sender.join().unwrap().unwrap();
}

#[test]
fn write_all_waits_for_a_slow_peer_and_every_byte_arrives() {
    let notes = Notes::default();
    let noted = notes.clone();
    let bytes = noise(8 << 20, 42);
    let to_send = bytes.clone();
    let (mut reactor, mut peer) = serve(move |_reader, mut writer: Writer| {
        let (bytes, noted) = (to_send.clone(), noted.clone());
        async move {
            for piece in bytes.chunks(10_000) {
                writer.write_all(piece).await?;
                noted.borrow_mut().push("written".into());
            }
            Ok(())
        }
    });
    // So that the kernel takes only a part, however much it is allowed to take.
    set_socket_recv_buffer_size(&peer, 64 << 10).unwrap();
    turn_until(&mut reactor, "it began", |_| !notes.borrow().is_empty());
    turn_until_quiet(&mut reactor);
    assert!(notes.borrow().len() < bytes.len() / 10_000, "it waits");
    assert_sleeps(&mut reactor);
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        peer.read_to_end(&mut got).map(|_| got)
    });
    turn_until(&mut reactor, "all arrived", |_| reader.is_finished());
    assert_same_bytes(&reader.join().unwrap().unwrap(), &bytes);
}

#[test]
fn future_that_always_writes_has_a_budget_for_each_turn() {
    const ALL: usize = 32 << 20;
    for piece in [1000, 16 << 10, 64 << 10] {
        let (written, noted) = shared(0);
        let (mut reactor, mut peer) = hand_over(move |_reader, mut writer| async move {
            while noted.get() < ALL {
                writer.write_all(&vec![0; piece]).await.unwrap();
                noted.set(noted.get() + piece);
            }
        });
        let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
        let (mut before, mut most) = (0, 0);
        turn_until(&mut reactor, "everything is written", |_| {
            most = most.max(written.get() - before);
            before = written.get();
            before >= ALL
        });
        turn_until(&mut reactor, "everything is sent", |_| reader.is_finished());
        assert_eq!(reader.join().unwrap().unwrap(), before);
        // One turn has one budget for the event, and one for the call that was queued already.
        // After each, the write buffer also takes bytes, which are sent in the next turn.
        let limit = 2 * (SCRATCH_SIZE + (64 << 10) + piece);
        assert!(most <= limit, "{most} bytes in one turn, in pieces of {piece}");
    }
}

#[test]
fn future_that_always_reads_has_a_budget_for_each_turn() {
    const ALL: usize = 8 << 20;
    const PIECE: usize = 64; // small, so that the peer writes faster than the future reads
    let read = Rc::new(Cell::new(0));
    let total = read.clone();
    let (mut reactor, mut peer) = serve(move |mut reader: Reader, _writer| {
        let total = total.clone();
        async move {
            loop {
                match reader.read(&mut [0; PIECE]).await? {
                    0 => return Ok(()),
                    count => total.set(total.get() + count),
                }
            }
        }
    });
    let flood = std::thread::spawn(move || peer.write_all(&[0; ALL]));
    let (mut before, mut most) = (0, 0);
    turn_until(&mut reactor, "everything is read", |_| {
        most = most.max(read.get() - before);
        before = read.get();
        before == ALL
    });
    flood.join().unwrap().unwrap();
    // One turn has one budget for the event, and one for the call that was queued already. A read
    // is a system call, so each read takes at least 1 KiB of the budget.
    let reads = most / PIECE;
    assert!(reads <= 2 * SCRATCH_SIZE / 1024, "{reads} reads in one turn");
}

#[test]
fn read_into_an_empty_buffer_is_not_the_end_of_file() {
    let read = |mut reader: Reader| async move {
        let nothing = reader.read(&mut []).await.unwrap();
        format!("{nothing}, then {}", show(reader.read_exactly(3).await.map(Some)))
    };
    assert_eq!(after(b"abc", read), "0, then \"abc\"");
}

#[test]
fn end_of_file_is_returned_by_the_next_read_of_any_kind() {
    let read = |mut reader: Reader| async move {
        let count = reader.read(&mut [0; 10]).await.unwrap();
        format!("{count} bytes, then {}", show(reader.read_line(10).await))
    };
    assert_eq!(after(b"abc", read), "3 bytes, then end");
}

#[test]
fn end_of_file_stays_end_of_file_on_a_unix_socket() {
    let mut reactor = Reactor::new().unwrap();
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let (mut reader, _writer, mut peer) =
        accept(&mut reactor, Address::Unix(path.clone()), |_| connect_unix(&path));
    peer.write_all(b"bye").unwrap();
    drop(peer);
    for expected in [3, 0, 0, 0] {
        turn_until_quiet(&mut reactor);
        let Poll::Ready(count) = poll_once(pin!(reader.read(&mut [0; 10]))) else { panic!("it waits") };
        assert_eq!(count.unwrap(), expected);
    }
}

/// Keeps the counters of the source that was called last.
struct LastStats(Rc<Cell<Option<IoStats>>>);

impl Observer for LastStats {
    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        if let Some((_, after)) = dispatch.stats {
            self.0.set(Some(after));
        }
    }
}

#[test]
fn copy_that_waits_for_its_reader_is_not_backpressured() {
    let (mut reactor, mut peer) = hand_over(|mut reader, mut writer| async move {
        let _ = copy(&mut reader, &mut writer).await;
    });
    let (stats, noted) = shared(None);
    reactor.add_observer(LastStats(noted));
    peer.write_all(b"x").unwrap();
    turn_until_quiet(&mut reactor);
    assert!(!stats.take().unwrap().backpressured);
}

#[test]
fn writer_that_waits_for_room_is_backpressured() {
    let (mut reactor, mut peer) = hand_over(|_reader, mut writer| async move {
        fill(&mut writer).await;
        fill(&mut writer).await;
    });
    let (stats, noted) = shared(None);
    reactor.add_observer(LastStats(noted));
    turn_until_quiet(&mut reactor);
    peer.write_all(b"x").unwrap(); // an event for the connection
    turn_until_quiet(&mut reactor);
    assert!(stats.take().unwrap().backpressured);
}

#[test]
fn small_writes_in_a_row_are_sent_together() {
    let (mut reactor, mut peer) = serve(|mut reader: Reader, mut writer: Writer| async move {
        while reader.read(&mut [0; 1]).await? > 0 {
            for piece in 0..10 {
                writer.write_all(&[piece]).await?;
            }
        }
        Ok(())
    });
    // The peer waits in its read, so in some round it would see the first piece separately.
    let reader = std::thread::spawn(move || {
        for _ in 0..200 {
            peer.write_all(b"x").unwrap();
            assert_eq!(peer.read(&mut [0; 100]).unwrap(), 10);
        }
    });
    turn_until(&mut reactor, "all pieces have come", |_| reader.is_finished());
    reader.join().unwrap();
}

#[test]
fn broken_returns_if_another_source_polled_the_read_of_the_end() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let (mut reactor, handle) = new_reactor();
    let (mut reader, mut writer, peer) =
        accept(&mut reactor, Address::Unix(path.clone()), |_| connect_unix(&path));
    let (kind, noted) = shared(None);
    let clock = handle.clone();
    handle.spawn(async move {
        clock.sleep(Duration::from_millis(20)).await; // this timer polls the task
        while reader.read(&mut [0; 100]).await.unwrap() > 0 {}
        noted.set(Some(writer.broken().await.kind()));
    });
    (&peer).write_all(b"bye").unwrap();
    drop(peer);
    turn_until(&mut reactor, "the task learns of it", |_| kind.get() == Some(ErrorKind::BrokenPipe));
}

#[test]
fn reset_connection_whose_writer_is_kept_does_not_count_as_open() {
    let mut reactor = Reactor::new().unwrap();
    let mut options = ListenOptions::default();
    options.max_connections = Some(1);
    let kept = Rc::new(RefCell::new(Vec::new()));
    let keeper = kept.clone();
    let handler = move |_: Reader, writer| {
        keeper.borrow_mut().push(writer);
        async { Ok(()) }
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let listener = start_server(&mut reactor, &[any], &options, handler).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    for count in 1..=2 {
        let peer = connect(&address);
        turn_until(&mut reactor, "the peer is accepted", |_| kept.borrow().len() == count);
        common::reset_on_close(&peer);
    }
}

#[test]
fn broken_connection_is_an_error_of_the_next_write() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, peer) = serve(move |_reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            for _ in 0..1_000_000 {
                if let Err(error) = writer.write_all(&[0; 1000]).await {
                    noted.borrow_mut().push(format!("{:?}", error.kind()));
                    return Ok(());
                }
            }
            noted.borrow_mut().push("no error".into());
            Ok(())
        }
    });
    turn_until_quiet(&mut reactor);
    common::reset_on_close(&peer);
    drop(peer);
    turn_until(&mut reactor, "the error came", |_| !notes.borrow().is_empty());
    let error = notes.borrow()[0].clone();
    assert!(["ConnectionReset", "BrokenPipe"].contains(&error.as_str()), "{error}");
}

#[test]
fn broken_returns_when_a_unix_peer_has_closed() {
    for reads in [false, true] {
        let (kind, noted) = shared(None);
        let (mut reactor, peer) = serve_unix(move |mut reader, mut writer: Writer| {
            let noted = noted.clone();
            async move {
                if reads {
                    assert_eq!(reader.read(&mut [0]).await?, 0);
                } else {
                    drop(reader);
                }
                noted.set(Some(writer.broken().await.kind()));
                Ok(())
            }
        });
        turn_until_quiet(&mut reactor);
        drop(peer);
        turn_until(&mut reactor, "the writer has noticed", |_| kind.get().is_some());
        assert_eq!(kind.get(), Some(ErrorKind::BrokenPipe));
    }
}

#[test]
fn copy_ends_when_the_unix_peer_of_its_writer_has_closed() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let from = Address::from(silent.local_addr().unwrap());
    let (ends, noted) = shared(None);
    let (mut reactor, peer) = serve_unix(move |mut reader, mut writer: Writer| {
        let (noted, from) = (noted.clone(), [from.clone()]);
        async move {
            let handle = reader.handle();
            let (mut from, _writer) = handle.open_connection(&from, &ConnectOptions::default()).await?;
            let (read, copied) = join(reader.read(&mut [0]), copy(&mut from, &mut writer)).await;
            noted.set(Some((read?, matches!(copied, Err(CopyError::Write(_))))));
            Ok(())
        }
    });
    turn_until_quiet(&mut reactor);
    drop(peer);
    turn_until(&mut reactor, "both directions have ended", |_| ends.get().is_some());
    assert_eq!(ends.get(), Some((0, true)));
}

#[test]
fn bytes_sent_before_the_peer_stopped_reading_are_still_read() {
    let notes = Notes::default();
    let noted = notes.clone();
    let handler = move |mut reader: Reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            reader.read_exactly(1).await?;
            writer.write_all(b"never read").await?;
            let line = show(reader.read_line(100).await);
            let error = reader.read_exactly(1).await.unwrap_err();
            noted.borrow_mut().push(format!("{line}, {:?}", error.kind()));
            Ok(())
        }
    };
    let (mut reactor, mut peer) = serve_unix(handler);
    peer.shutdown(Shutdown::Read).unwrap();
    peer.write_all(b"xlast words\n").unwrap();
    turn_until(&mut reactor, "the handler has noticed", |_| !notes.borrow().is_empty());
    assert_eq!(notes.borrow()[0], "\"last words\\n\", BrokenPipe");
    turn_until(&mut reactor, "it ended", |reactor| reactor.source_count() == 1);
}

#[test]
fn read_after_a_broken_write_ends_even_if_no_data_arrives() {
    let notes = Notes::default();
    let noted = notes.clone();
    let handler = move |mut reader: Reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            reader.read_exactly(1).await?;
            writer.write_all(b"never read").await?;
            reader.handle().sleep(Duration::from_millis(10)).await; // meanwhile, the handler does not read
            let error = reader.read(&mut [0]).await.unwrap_err();
            noted.borrow_mut().push(format!("{:?}", error.kind()));
            Ok(())
        }
    };
    let (mut reactor, mut peer) = serve_unix(handler);
    peer.shutdown(Shutdown::Read).unwrap();
    peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, "the read has failed", |_| !notes.borrow().is_empty());
    assert_eq!(notes.borrow()[0], "BrokenPipe");
}

#[test]
fn handler_learns_of_a_reset_after_a_half_close_by_its_next_write() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, peer) = serve(move |mut reader: Reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            assert_eq!(reader.read(&mut [0; 1]).await?, 0);
            noted.borrow_mut().push("end of file".into());
            while writer.write_all(b"still there?").await.is_ok() {
                reader.handle().sleep(Duration::from_millis(1)).await;
            }
            noted.borrow_mut().push("lost".into());
            Ok(())
        }
    });
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "the handler has read", |_| notes.borrow().len() == 1);
    drop(peer); // with unread bytes, so the kernel sends a reset
    turn_until(&mut reactor, "the handler has noticed", |_| notes.borrow().len() == 2);
    turn_until(&mut reactor, "the connection is gone", |reactor| reactor.source_count() == 1);
}

#[test]
fn input_that_a_handler_did_not_read_does_not_delay_the_end() {
    let handler = |mut reader: Reader, _writer| async move { reader.read_exactly(1).await.map(drop) };
    let (mut reactor, mut peer) = serve_unix(handler);
    peer.write_all(&[0; 100_000]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "the peer was accepted", |reactor| reactor.source_count() == 3);
    turn_until(&mut reactor, "the connection is gone", |reactor| reactor.source_count() == 1);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "in order");
}

#[test]
fn peer_that_stays_is_closed_thirty_seconds_after_the_handler_returned() {
    let (mut reactor, _peer) = serve(|_reader, _writer| async { Ok(()) });
    turn_until(&mut reactor, "it lingers", |reactor| reactor.timer_count() == 1);
    let now = reactor.now();
    reactor.set_now(now + Duration::from_secs(29));
    turn_until_quiet(&mut reactor);
    assert_eq!(reactor.source_count(), 2);
    reactor.set_now(now + Duration::from_secs(31));
    turn_until(&mut reactor, "the connection is gone", |reactor| reactor.source_count() == 1);
}

#[test]
fn dropped_write_does_not_keep_the_loop_awake() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |reader: Reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            let clock = reader.handle();
            let some = [0; 65536];
            while let Either::First(written) =
                race(writer.write_all(&some), clock.sleep(Duration::from_millis(50))).await
            {
                written?;
            }
            noted.borrow_mut().push("given up".into());
            clock.sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
    });
    turn_until(&mut reactor, "the handler has dropped the write", |_| !notes.borrow().is_empty());
    peer.set_nonblocking(true).unwrap();
    let mut quiet = 0;
    turn_until(&mut reactor, "the peer has all bytes", |_| {
        let mut drained = false;
        while peer.read(&mut [0; 65536]).is_ok() {
            drained = true;
        }
        quiet = if drained { 0 } else { quiet + 1 };
        quiet == 20
    });
    assert_sleeps(&mut reactor);
}

#[test]
fn bytes_arrive_in_order_if_kinds_of_read_are_mixed() {
    let bytes = noise(1 << 20, 43);
    let got = Rc::new(RefCell::new(Vec::new()));
    let gotten = got.clone();
    let mut reactor = Reactor::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let handler = move |mut reader: Reader, mut writer: Writer| {
        let got = gotten.clone();
        async move {
            let mut buffer = [0; 3000];
            for way in (0..).map(|count: usize| count * 7919 % 11) {
                let taken = match way {
                    0 => reader.read_exactly(1234).await.unwrap_or_default(),
                    1 => reader.read_until(b'x', 1 << 16).await.ok().flatten().unwrap_or_default(),
                    2 => reader.read_line(1 << 16).await?.unwrap_or_default(),
                    _ => {
                        let count = reader.read(&mut buffer[..way * 250]).await?;
                        if count == 0 {
                            break;
                        }
                        buffer[..count].to_vec()
                    }
                };
                got.borrow_mut().extend_from_slice(&taken);
                writer.write_all(&taken).await?;
            }
            Ok(())
        }
    };
    let listener = start_server(&mut reactor, &[any], &ListenOptions::default(), handler).unwrap();
    let mut peer = connect(&listener.addresses(&reactor).unwrap()[0].to_string());
    let (mut sink, sent) = (peer.try_clone().unwrap(), bytes.clone());
    let writer = std::thread::spawn(move || {
        for piece in sent.chunks(777) {
            peer.write_all(piece)?;
        }
        peer.shutdown(Shutdown::Write)
    });
    let echo = std::thread::spawn(move || {
        let mut echo = Vec::new();
        sink.read_to_end(&mut echo).map(|_| echo)
    });
    turn_until(&mut reactor, "the connection has ended", |reactor| {
        reactor.source_count() == 1 && echo.is_finished()
    });
    writer.join().unwrap().unwrap();
    assert_same_bytes(&got.borrow(), &bytes);
    assert_same_bytes(&echo.join().unwrap().unwrap(), &bytes);
    let totals = listener.stats(&reactor).unwrap();
    assert_eq!((totals.open, totals.bytes_in, totals.bytes_out), (0, 1 << 20, 1 << 20));
}

#[test]
fn writer_moved_to_another_task_still_sends_and_closes() {
    let bytes = noise(1 << 20, 44);
    let to_send = bytes.clone();
    let given = Rc::new(RefCell::new(None));
    let mut reactor = Reactor::new().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let handler = move |mut reader: Reader, writer: Writer| {
        let (given, bytes) = (given.clone(), to_send.clone());
        async move {
            let other: Option<Writer> = given.take();
            if let Some(mut other) = other {
                other.write_all(&bytes[..1000]).await?;
                reader.read_exactly(1).await?; // by now its peer has received the bytes
                for piece in bytes[1000..].chunks(30_000) {
                    other.write_all(piece).await?;
                }
                other.write_eof();
            } else {
                *given.borrow_mut() = Some(writer);
            }
            while reader.read(&mut [0; 10]).await? > 0 {}
            Ok(())
        }
    };
    let listener = start_server(&mut reactor, &[any], &ListenOptions::default(), handler).unwrap();
    let address = listener.addresses(&reactor).unwrap()[0].to_string();
    let mut first = connect(&address);
    turn_until(&mut reactor, "the first handler has given its writer away", |reactor| {
        reactor.source_count() == 3
    });
    turn_until_quiet(&mut reactor);
    let mut second = connect(&address);
    let thread = std::thread::spawn(move || {
        let mut got = vec![0; 1000];
        first.read_exact(&mut got).unwrap();
        second.write_all(b"x").unwrap();
        first.read_to_end(&mut got).unwrap();
        got
    });
    turn_until(&mut reactor, "all bytes have come", |_| thread.is_finished());
    assert_same_bytes(&thread.join().unwrap(), &bytes);
}

#[test]
fn write_eof_leaves_the_reader_open() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |mut reader: Reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            writer.write_all(b"question").await?;
            writer.write_eof();
            assert_eq!(writer.write_all(b"late").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let answer = show(reader.read_line(100).await);
            noted.borrow_mut().push(answer);
            Ok(())
        }
    });
    let thread = std::thread::spawn(move || {
        let mut question = String::new();
        peer.read_to_string(&mut question).unwrap();
        peer.write_all(b"answer").unwrap();
        question
    });
    turn_until(&mut reactor, "the answer came", |_| !notes.borrow().is_empty());
    assert_eq!(thread.join().unwrap(), "question");
    assert_eq!(*notes.borrow(), ["\"answer\""]);
}

#[test]
fn failed_handler_ends_its_connection_and_no_other() {
    let (mut reactor, mut peer) = serve(|mut reader: Reader, mut writer: Writer| async move {
        writer.write_all(b"last words").await?;
        reader.read_exactly(1).await?;
        Err(io::Error::other("deliberate"))
    });
    peer.write_all(b"x").unwrap();
    let address = peer.peer_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let mut got = String::new();
        peer.read_to_string(&mut got).unwrap();
        got
    });
    turn_until(&mut reactor, "the failed connection has ended", |_| thread.is_finished());
    assert_eq!(thread.join().unwrap(), "last words");
    let mut next = connect(&address);
    let thread = std::thread::spawn(move || next.read_exact(&mut [0; 10]));
    turn_until(&mut reactor, "the next peer is served", |_| thread.is_finished());
    thread.join().unwrap().unwrap();
}

#[test]
fn waker_works_from_another_thread() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, _peer) = serve(move |_reader, _writer| {
        let noted = noted.clone();
        async move {
            let done = Arc::new(AtomicBool::new(false));
            let mut started = false;
            poll_fn(|context| {
                if !std::mem::replace(&mut started, true) {
                    let (done, waker) = (done.clone(), context.waker().clone());
                    std::thread::spawn(move || {
                        done.store(true, Ordering::Release);
                        waker.wake();
                    });
                }
                if done.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            noted.borrow_mut().push("woken".into());
            Ok(())
        }
    });
    turn_until(&mut reactor, "the thread woke the task", |_| !notes.borrow().is_empty());
}

#[test]
fn sub_future_with_own_waker_is_woken() {
    /// Records that the part may be polled, as `join` or `select` over many futures do.
    struct Part {
        may_be_polled: AtomicBool,
        whole: Waker,
    }
    impl Wake for Part {
        fn wake(self: Arc<Self>) {
            self.may_be_polled.store(true, Ordering::Release);
            self.whole.wake_by_ref();
        }
    }
    async fn apart<F: Future>(part: F) -> F::Output {
        let mut part = pin!(part);
        let mut own: Option<Arc<Part>> = None;
        poll_fn(move |context| {
            let own = own.get_or_insert_with(|| {
                Arc::new(Part { may_be_polled: AtomicBool::new(true), whole: context.waker().clone() })
            });
            if !own.may_be_polled.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            part.as_mut().poll(&mut Context::from_waker(&Waker::from(own.clone())))
        })
        .await
    }

    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |mut reader: Reader, mut writer: Writer| {
        let noted = noted.clone();
        async move {
            let mut buffer = [0; 10];
            let count = apart(reader.read(&mut buffer)).await?;
            noted.borrow_mut().push(format!("{count} bytes"));
            let line = show(apart(reader.read_line(10)).await);
            noted.borrow_mut().push(line);
            apart(reader.handle().sleep(Duration::from_millis(1))).await;
            noted.borrow_mut().push("slept".into());
            for _ in 0..100 {
                apart(writer.write_all(&[0; 65536])).await?;
            }
            noted.borrow_mut().push("written".into());
            Ok(())
        }
    });
    for (message, answer) in [("12345", "5 bytes"), ("67\n", "\"67\\n\"")] {
        turn_until_quiet(&mut reactor);
        assert_sleeps(&mut reactor);
        peer.write_all(message.as_bytes()).unwrap();
        turn_until(&mut reactor, answer, |_| notes.borrow().iter().any(|note| note == answer));
    }
    let reader = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()).unwrap());
    turn_until(&mut reactor, "everything is written", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap(), 100 * 65536);
    assert_eq!(notes.borrow()[2..], ["slept", "written"]);
}

#[test]
fn item_received_for_a_dropped_wait_is_returned_by_the_next_one() {
    let notes = Notes::default();
    let noted = notes.clone();
    let mut reactor = Reactor::new().unwrap();
    let mailbox = Mailbox::new(&mut reactor, 8);
    let any = SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let handler = move |mut reader: Reader, _writer| {
        let noted = noted.clone();
        async move {
            let handle = reader.handle();
            let mut buffer = [0; 1];
            let (mut bytes, mut items) = (0, 0);
            while bytes < 300 || items < 300 {
                // In many rounds, both are ready in the same turn, and the reader wins.
                match race(reader.read(&mut buffer), handle.recv(mailbox)).await {
                    Either::First(count) => bytes += count?,
                    Either::Second(item) => {
                        assert_eq!(item, Some(items));
                        items += 1;
                    }
                }
            }
            noted.borrow_mut().push("all".into());
            Ok(())
        }
    };
    let listener = start_server(&mut reactor, &[any], &ListenOptions::default(), handler).unwrap();
    let mut peer = connect(&listener.addresses(&reactor).unwrap()[0].to_string());
    let nobody = mailbox.id();
    let (mut next, mut sent) = (0, 0);
    turn_until(&mut reactor, "every byte and every item came", |reactor| {
        if next < 300 && mailbox.try_send(reactor, nobody, next).is_ok() {
            next += 1;
        }
        if sent < 300 {
            peer.write_all(b"x").unwrap();
            sent += 1;
        }
        !notes.borrow().is_empty()
    });
}

#[test]
fn sleep_follows_the_clock_of_the_loop() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |reader: Reader, _writer| {
        let noted = noted.clone();
        async move {
            reader.handle().sleep(Duration::from_secs(60)).await;
            noted.borrow_mut().push("awake".into());
            Ok(())
        }
    });
    let start = Instant::now();
    reactor.set_now(start);
    turn_until_quiet(&mut reactor);
    peer.write_all(b"this does not end it").unwrap();
    reactor.set_now(start + Duration::from_secs(59));
    turn_until_quiet(&mut reactor);
    assert!(notes.borrow().is_empty());
    reactor.set_now(start + Duration::from_secs(60));
    turn_until(&mut reactor, "the sleep has ended", |_| !notes.borrow().is_empty());
}

#[test]
fn dropped_sleep_leaves_no_timer() {
    let notes = Notes::default();
    let noted = notes.clone();
    let (mut reactor, mut peer) = serve(move |mut reader: Reader, _writer| {
        let noted = noted.clone();
        async move {
            let clock = reader.handle();
            while let Either::First(Ok(Some(_))) =
                race(reader.read_line(100), clock.sleep(Duration::from_secs(60))).await
            {
                noted.borrow_mut().push("line".into());
            }
            Ok(())
        }
    });
    for count in 1..=100 {
        peer.write_all(b"another line\n").unwrap();
        turn_until(&mut reactor, "all lines were read", |_| notes.borrow().len() == count);
        assert!(reactor.timer_count() <= 1, "{} timers after {count} lines", reactor.timer_count());
    }
    peer.shutdown(Shutdown::Write).unwrap();
    turn_until(&mut reactor, "the connection has ended", |reactor| reactor.source_count() == 1);
    assert_eq!(reactor.timer_count(), 0);
}

#[test]
fn open_connection_connects_or_returns_every_error() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    let (address, server) = common::serve_once(|mut stream| {
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(b"world\n").unwrap();
    });
    let dead = DeadPort::new();
    let (dead_address, addresses) = (dead.1.into(), [dead.1.into(), address.parse().unwrap()]);
    let result = reactor
        .run_until_complete(async move {
            let options = ConnectOptions::default();
            let error = handle.open_connection(&[dead_address], &options).await.unwrap_err();
            let (mut reader, mut writer) = handle.open_connection(&addresses, &options).await?;
            writer.write_all(b"hello").await?;
            Ok::<_, io::Error>((error.to_string(), show(reader.read_line(100).await)))
        })
        .unwrap()
        .unwrap();
    assert_eq!(result, (format!("{}: Connection refused", dead.1), "\"world\\n\"".into()));
    server.join().unwrap();
    turn_until(&mut reactor, "nothing is left", |reactor| reactor.source_count() == 0);
}

#[test]
fn handler_that_does_not_read_counts_as_a_connection_until_it_returns() {
    let gate = Rc::new(Cell::new(false));
    let open = gate.clone();
    let (mut reactor, peer) = serve(move |reader: Reader, writer: Writer| {
        let open = open.clone();
        async move {
            while !open.get() {
                reader.handle().call(|_| ()).await;
            }
            drop(writer);
            Ok(())
        }
    });
    turn_until(&mut reactor, "it runs", |reactor| reactor.source_count() == 3);
    common::reset_on_close(&peer);
    drop(peer);
    for _ in 0..100 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(reactor.source_count(), 3);
    gate.set(true);
    turn_until(&mut reactor, "the connection is gone", |reactor| reactor.source_count() == 1);
}

#[test]
fn writer_knows_its_own_address_until_the_connection_has_ended() {
    let (ends, noted) = shared(None);
    let (mut reactor, peer) = hand_over(move |_reader, mut writer| async move {
        let own = writer.local_addr();
        writer.abort();
        writer.broken().await;
        writer.handle().call(|_| ()).await; // by now the source has closed the socket
        noted.set(Some((own.unwrap(), writer.local_addr().unwrap_err().kind())));
    });
    let own = Address::from(peer.peer_addr().unwrap());
    turn_until_quiet(&mut reactor);
    assert_eq!(ends.take(), Some((own, ErrorKind::NotConnected)));
}

#[test]
fn both_halves_know_the_peer_and_either_can_abort_the_connection() {
    fn reader_aborts(mut reader: Reader, _writer: Writer) {
        reader.abort();
    }
    fn writer_aborts(_reader: Reader, mut writer: Writer) {
        writer.abort();
    }
    for abort in [reader_aborts, writer_aborts] {
        let mut reactor = Reactor::new().unwrap();
        let (reader, writer, mut peer) = halves(&mut reactor);
        let address = Address::from(peer.local_addr().unwrap());
        assert_eq!((reader.peer_addr(), writer.peer_addr()), (Some(&address), Some(&address)));
        let states = |reactor: &Reactor| -> Vec<_> {
            reactor
                .slots()
                .filter_map(|slot| slot.connection)
                .map(|state| (state.read, state.write))
                .collect()
        };
        assert_eq!(states(&reactor), [("open", "open")]);
        let names: Vec<_> = reactor.slots().filter_map(|slot| slot.type_name).collect();
        assert!(names.iter().any(|name| name.contains("accept")), "no handler's name: {names:?}");
        abort(reader, writer);
        turn_until_quiet(&mut reactor);
        assert_eq!(states(&reactor), []);
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn read_that_finds_nothing_costs_no_call_of_the_connection() {
    let (mut reactor, handle) = new_reactor();
    let (mut reader, _writer, peer) = halves(&mut reactor);
    let (calls, noted) = shared(0);
    reactor.add_observer(Calls(noted));
    handle.spawn(async move { reader.read(&mut [0; 8]).await });
    turn_until_quiet(&mut reactor);
    assert_eq!(calls.get(), 1, "one call of the task");
    let names: Vec<_> = reactor.slots().filter_map(|slot| slot.type_name).collect();
    assert!(
        names.iter().any(|name| name.contains("read_that_finds_nothing")),
        "no name of the task: {names:?}"
    );
    drop(peer);
}

/// Counts the calls of all sources.
struct Calls(Rc<Cell<usize>>);

impl Observer for Calls {
    fn on_dispatch(&mut self, _: &DispatchEnd) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn write_marks_bound_what_a_writer_buffers() {
    const PIECE: usize = 64 << 10;
    for (high, low) in [(1000, 100), (1 << 20, 10), (0, 0)] {
        let (mut reactor, peer) = hand_over(move |_reader, mut writer| async move {
            writer.set_write_marks(high, low);
            while writer.write_all(&[0; PIECE]).await.is_ok() {}
        });
        let (most, noted) = shared(0);
        reactor.add_observer(MostBuffered(noted));
        turn_until(&mut reactor, "the kernel's buffer is full", |_| most.get() > high);
        turn_until_quiet(&mut reactor);
        assert!(most.get() <= high + PIECE, "{high}: {}", most.get());
        drop(peer);
    }
}

/// Records how much a source has buffered at most.
struct MostBuffered(Rc<Cell<usize>>);

impl Observer for MostBuffered {
    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let buffered = dispatch.stats.map_or(0, |(_, after)| after.buffered);
        self.0.set(self.0.get().max(buffered));
    }
}
