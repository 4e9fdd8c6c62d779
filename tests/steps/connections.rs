//! The rows of the table that are about connections: steps 1 to 8.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{self, PATIENCE, Server, noise};
use crate::trial::{
    MANY, QUIET, TURNS, Trial, UNCHECKED, Verdict, count, ensure, has_grown, state, stop_process, threads,
};
use crate::{MINE, path};

pub fn serves_a_second_peer(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let _silent = server.connect();
    trial.answers("the second peer", &mut server.connect())
}

pub fn serves_while_a_peer_does_not_read(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut other = server.connect();
    let mut stalled = server.connect();
    trial.answers("the first peer", &mut other)?;
    trial.answers("the second peer", &mut stalled)?;
    trial.send_until_stalled(&server, &mut stalled, has_grown(&server));
    trial.answers("while another peer did not read, a peer", &mut other)
}

pub fn needs_one_thread(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut streams: Vec<_> = (0..3).map(|_| server.connect()).collect();
    trial.answers("the first of three peers", &mut streams[0])?;
    // A step may have one more thread, for stdin. A short wait is enough, because a thread for a
    // connection starts at once.
    for stream in &mut streams {
        stream.write_all(b"hello").unwrap();
    }
    let deadline = Instant::now() + trial.unit / 2;
    while Instant::now() < deadline {
        let threads = threads(&server.process);
        ensure!(threads <= 2, "the server has {threads} threads for three peers");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub fn sleeps_while_nothing_happens(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut silent = server.connect();
    trial.answers("the first peer", &mut silent)?;
    let mut stalled = server.connect();
    trial.send_until_stalled(&server, &mut stalled, has_grown(&server));
    stalled.shutdown(Shutdown::Write).unwrap();
    let is_asleep = trial.happens(|| {
        let before = server.process.activity();
        let is_asleep = (0..5).all(|_| {
            thread::sleep(trial.unit / 10);
            state(&server.process) == 'S'
        });
        is_asleep && server.process.activity() == before
    });
    ensure!(
        is_asleep,
        "one peer is silent, and another one has ended its side and does not read: the server went on running"
    );
    Ok(())
}

pub fn bounds_the_memory_of_a_peer(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    let is_large = has_grown(&server);
    let sent = trial.send_until_stalled(&server, &mut stream, &is_large);
    ensure!(!is_large(), "the peer sent {sent} bytes and read none: the server took 8 MiB more for it");
    ensure!(
        sent < MANY,
        "the server took {} MB of a peer that read nothing, and its memory did not grow: it threw bytes away. Above the \
         mark it must not read",
        sent / 1_000_000
    );
    let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
    while got < sent {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => got += count,
            result => {
                let reason =
                    result.map_or_else(|error| trial.reason(error), |_| "the server closed".to_owned());
                return Err(format!(
                    "the peer sent first and read then, and got {got} of {sent} bytes: {reason}"
                ));
            }
        }
    }
    resumes_without_an_event(trial)
}

/// A peer makes room and sends more, all while the server is stopped: that is one event. A read takes
/// the buffer above the mark, and a write below it, and then no event comes for the other bytes.
fn resumes_without_an_event(trial: &Trial) -> Verdict {
    let kept = kept_for_a_peer(trial);
    let bytes = noise(kept + (80 << 10), 20);
    let rounds = if trial.step == MINE { 40 } else { 1 };
    for number in 0..rounds {
        let server = trial.serve();
        let mut stream = server.connect();
        let (first, more) = (kept + (80 << 10) * number / rounds, 1 << 17);
        stream.set_write_timeout(Some(trial.limit)).unwrap();
        let _ = stream.write_all(&bytes[..first]);
        trial.wait_until_asleep(&server);
        stop_process(&server);
        stream.set_nonblocking(true).unwrap();
        let got = count(QUIET, || stream.read(&mut [0; 1 << 16]));
        let sent = first + stream.write(&bytes[..more]).unwrap_or(0);
        stream.set_nonblocking(false).unwrap();
        server.process.signal(Signal::CONT);
        stream.set_read_timeout(Some(trial.limit)).unwrap();
        let result = stream.read_exact(&mut vec![0; sent - got]);
        ensure!(
            result.is_ok(),
            "a peer read and sent, which was one event, and got only a part of its bytes: {}. A pause must not \
             clear the readiness",
            trial.reason(result.unwrap_err())
        );
    }
    Ok(())
}

/// One peer has sent some megabytes when another peer sends a few bytes. A fair server echoes the
/// few bytes before it has echoed all the megabytes.
pub fn serves_while_a_peer_floods(trial: &Trial) -> Verdict {
    let mut verdict = Ok(());
    // On a busy machine, the server may echo everything before this thread runs again.
    for _ in 0..20 {
        let server = trial.serve();
        let (mut flood, mut other) = (server.connect(), server.connect());
        trial.answers("the first peer", &mut flood)?;
        trial.answers("the second peer", &mut other)?;
        trial.answers("the first peer", &mut flood)?;
        trial.stop_asleep(&server);
        flood.set_nonblocking(true).unwrap();
        let sent = count(QUIET, || flood.write(&[7; 1 << 16]));
        other.write_all(b"now").unwrap();
        // The lowest priority, so that the server does not get far before it is stopped again.
        rustix::process::setpriority_process(Some(server.process.pid()), 19).unwrap();
        other.set_read_timeout(Some(5 * trial.limit)).unwrap();
        server.process.signal(Signal::CONT);
        let result = other.read_exact(&mut [0; 3]);
        ensure!(result.is_ok(), "the second peer sent 3 bytes and got no echo during the flood");
        stop_process(&server);
        let echoed = count(QUIET, || flood.read(&mut [0; 1 << 16]));
        server.process.signal(Signal::CONT);
        assert!(sent > 1 << 20);
        if echoed < sent / 4 * 3 {
            return Ok(());
        }
        verdict = Err(format!(
            "the server echoed {echoed} of {sent} bytes of a peer that flooded, before it echoed 3 bytes of \
             another peer"
        ));
    }
    verdict
}

/// Counts the calls between two polls, with many connections at once and a peer that floods. A call
/// of a connection makes at most 16 reads.
pub fn reads_at_most_16_times_in_a_turn(trial: &Trial) -> Verdict {
    if !common::has_strace() {
        return Err(UNCHECKED.to_owned());
    }
    let scratch = common::Scratch::new();
    let trace = scratch.path("trace");
    let mut server = trial.serve_traced(&trace, &[TURNS, &trial.slow_polls()], PATIENCE);
    let mut peers: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let bytes = noise(1 << 20, 19);
    let mut sender = peers[0].try_clone().unwrap();
    let mut echo = vec![0; bytes.len()];
    peers[0].set_read_timeout(Some(trial.limit)).unwrap();
    sender.set_write_timeout(Some(trial.limit)).unwrap();
    let result = thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&bytes));
        peers[0].read_exact(&mut echo)
    });
    ensure!(result.is_ok(), "a peer sent 1 MiB and got less of it: {}", trial.reason(result.unwrap_err()));
    let hint = "a listener that stops before `WouldBlock` has to be called again in the next turn";
    let verdict = trial.answers("the last of 40 peers", &mut peers[39]);
    verdict.map_err(|sentence| with_hint(sentence, hint))?;
    server.process.signal(Signal::KILL);
    server.process.wait();
    let trace = || fs::read_to_string(&trace).unwrap();
    assert!(trial.happens(|| trace().contains("+++ killed")), "strace writes everything");
    for turn in trace().split("epoll_wait(") {
        let mut calls = HashMap::new();
        for (call, _) in turn.lines().skip(1).filter_map(|line| line.split_once(',')) {
            let count = calls.entry(call).or_insert(0);
            *count += 1;
            ensure!(*count <= 16, "the server called `{call}, …)` more than 16 times between two polls");
        }
    }
    Ok(())
}

/// Adds a hint to a sentence about a peer that got nothing from a server that runs.
fn with_hint(sentence: String, hint: &str) -> String {
    if sentence.contains("waited") { format!("{sentence}; {hint}") } else { sentence }
}

/// A server that may have 12 descriptors, and 20 peers.
fn serve_without_descriptors(trial: &Trial) -> (Server, Vec<TcpStream>) {
    let mut command = common::program("bash");
    // Without the descriptors that the test may have inherited, and without messages: a server that
    // spins writes one for each `accept`, and would sleep while the pipe is full.
    let script = r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit -n 12; exec "$@" 2> /dev/null"#;
    command.args(["-c", script, "bash"]).arg(path(trial.step)).arg("127.0.0.1:0");
    let server = trial.run(command.stdin(Stdio::piped()));
    trial.stop_asleep(&server);
    let peers = (0..20).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    (server, peers)
}

pub fn sleeps_while_no_descriptor_is_left(trial: &Trial) -> Verdict {
    let (server, _peers) = serve_without_descriptors(trial);
    ensure!(
        trial.wait_until_asleep(&server),
        "peers waited, no descriptor was left for them, and the server went on running: when `accept` can only \
         fail, it has to wait until a connection ends"
    );
    Ok(())
}

/// There are more peers than descriptors. A peer leaves when it has its echo, and the first ten with
/// a reset. Then one `accept` fails, and a connection waits behind the error.
pub fn accepts_waiting_peers_after_an_error(trial: &Trial) -> Verdict {
    let (server, peers) = serve_without_descriptors(trial);
    trial.wait_until_asleep(&server); // then only a close can have it accept the others
    for (number, mut peer) in (1..).zip(peers) {
        let leave = if number <= 11 { "reset their connections" } else { "left" };
        let who = format!(
            "the server may have 12 descriptors, the peers before it {leave}, and peer {number} of 20"
        );
        let hint = "the end of a connection frees a descriptor, so it has to call `accept` again";
        trial.answers(&who, &mut peer).map_err(|sentence| with_hint(sentence, hint))?;
        if number <= 10 {
            common::reset_on_close(&peer);
        }
    }
    if !common::has_strace() {
        return Ok(()); // the rest is not checked here
    }
    let fault = ["trace=accept4", "inject=accept4:error=ECONNABORTED:when=1"];
    let server = trial.serve_traced("/dev/null".as_ref(), &fault, PATIENCE);
    let who = "the first `accept` failed (`ECONNABORTED`), and the peer that waited behind it";
    trial.answers(who, &mut server.connect())
}

/// How many bytes the kernel keeps for a peer that does not read: of a server of its own, because this
/// peer's end is a reset.
fn kept_for_a_peer(trial: &Trial) -> usize {
    let server = trial.serve();
    let mut stream = server.connect();
    trial.send_until_stalled(&server, &mut stream, has_grown(&server));
    stop_process(&server);
    stream.set_nonblocking(true).unwrap();
    count(trial.unit / 2, || stream.read(&mut [0; 1 << 16]))
}

pub fn sends_the_rest_after_a_half_close(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let half_close = |stream: &mut TcpStream, bytes: &[u8]| {
        stream.set_write_timeout(Some(trial.limit)).unwrap();
        let _ = stream.write_all(bytes); // the peer sees what it gets
        let _ = stream.shutdown(Shutdown::Write);
    };
    // The bytes and the end come in one event.
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    trial.stop_asleep(&server);
    half_close(&mut stream, b"bye");
    server.process.signal(Signal::CONT);
    trial.gets_the_rest(
        "the peer sent `bye` and its end, which came in one event, and",
        &mut stream,
        b"bye",
    )?;

    let kept = kept_for_a_peer(trial);
    // It differs a little. So only some of the rounds leave the server with a part of the bytes when
    // it reads the end, and only some have a ring buffer that wraps. One has to do for the steps.
    let rounds = if trial.step == MINE { 60 } else { 1 };
    let bytes = noise(kept + (112 << 10), 17);
    for number in 0..rounds {
        let mut stream = server.connect();
        let bytes = &bytes[(112 << 10) * number / (rounds + 1)..];
        half_close(&mut stream, bytes);
        trial.wait_until_asleep(&server);
        trial.gets_the_rest("after the half-close, a peer that reads late", &mut stream, bytes)?;
    }
    Ok(())
}

pub fn survives_a_reset(trial: &Trial) -> Verdict {
    let mut server = trial.serve();
    let mut first = server.connect();
    trial.answers("the first peer", &mut first)?;
    first.shutdown(Shutdown::Write).unwrap();
    trial.gets_the_rest("the first peer", &mut first, b"")?;
    let before = server.process.descriptors();
    for number in 0..20 {
        let mut stream = server.connect();
        let _ = stream.write_all([&[7; 100_000][..], b"hello", b""][number % 3]);
        common::reset_on_close(&stream);
    }
    trial.answers("after 20 resets, a new peer", &mut server.connect())?;
    let status = server.process.child.try_wait().unwrap();
    ensure!(status.is_none(), "after 20 resets, the server had ended");
    let now = || server.process.descriptors();
    ensure!(
        trial.happens(|| now() <= before),
        "after 20 resets, the server had {} descriptors and not {before}: it has to close the connection",
        now()
    );
    Ok(())
}

pub fn survives_ctrl_z_and_fg(trial: &Trial) -> Verdict {
    let server = trial.serve();
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    trial.stop_asleep(&server);
    server.process.signal(Signal::CONT);
    trial.answers("after Ctrl-Z and `fg`, the peer", &mut stream)
}
