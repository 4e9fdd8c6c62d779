//! The rows of the table that are about time and other threads: step 9 and later.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::MINE;
use crate::common::{self, Server};
use crate::trial::{Trial, UNCHECKED, Verdict, ensure, state, stop_process};

/// Waits until the server closes an idle connection.
fn is_closed(trial: &Trial, stream: &mut TcpStream, idle_limit: Duration) -> Verdict {
    stream.set_read_timeout(Some(trial.limit)).unwrap();
    let end = stream.read(&mut [0]);
    ensure!(
        end.is_ok_and(|count| count == 0),
        "the idle limit is {idle_limit:?} (the second argument, in milliseconds), and a silent peer was still \
         connected after {:?}",
        trial.limit
    );
    Ok(())
}

pub fn closes_an_idle_peer(trial: &Trial) -> Verdict {
    let idle_limit = trial.unit;
    let server = trial.serve_with_idle_limit(idle_limit);
    let mut idle = server.connect();
    trial.answers("the peer", &mut idle)?;
    is_closed(trial, &mut idle, idle_limit)?;
    in_time(|| keeps_a_busy_peer(trial, &server, idle_limit))
}

/// Repeats a trial that returns false. It does if this thread was late, as on a busy machine: then
/// a connection may be closed rightly.
fn in_time(trial: impl Fn() -> Result<bool, String>) -> Verdict {
    for _ in 0..20 {
        if trial()? {
            return Ok(());
        }
    }
    Err("the machine is too busy for this row".to_owned())
}

/// A peer sends a byte often, for several idle limits. Returns false if it was late.
fn keeps_a_busy_peer(trial: &Trial, server: &Server, idle_limit: Duration) -> Result<bool, String> {
    let pause = idle_limit / 4;
    let began = Instant::now();
    let mut sent_last = began;
    let mut peer = server.connect();
    peer.set_read_timeout(Some(trial.limit)).unwrap();
    while began.elapsed() < 3 * idle_limit {
        thread::sleep(pause);
        let now = Instant::now();
        let result = peer.write_all(b"x");
        if sent_last.elapsed() >= idle_limit {
            return Ok(false);
        }
        sent_last = now;
        let result = result.and_then(|()| peer.read_exact(&mut [0]));
        ensure!(
            result.is_ok(),
            "the idle limit is {idle_limit:?}, and a peer that sent a byte every {pause:?} got no echo after {} ms: \
             {}. Idle time begins with the *last* byte, and an older timer must not close the connection",
            began.elapsed().as_millis(),
            trial.reason(result.unwrap_err())
        );
    }
    Ok(true)
}

/// Each poll stops the server. Meanwhile each of a hundred peers sends a byte. So the next poll always
/// finds more events than the first list has room for.
pub fn closes_an_idle_peer_while_many_are_busy(trial: &Trial) -> Verdict {
    if !common::has_strace() {
        return Err(UNCHECKED.to_owned());
    }
    let scratch = common::Scratch::new();
    let trace = scratch.path("trace");
    let stop = "inject=epoll_wait:signal=SIGSTOP";
    let server = trial.serve_traced(&trace, &["trace=epoll_wait", stop], 3 * trial.unit);
    let mut idle = server.connect();
    let mut peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    peers.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                let stops = || fs::read_to_string(&trace).unwrap().matches("stopped by SIGSTOP").count();
                trial.happens(|| is_over.load(Ordering::Relaxed) || stops() >= number);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                for peer in &mut peers {
                    let _ = (peer.write(&[7]), peer.read(&mut [0; 64]));
                }
                server.process.signal(Signal::CONT);
            }
        });
        let verdict = is_closed(&Trial { limit: 3 * trial.limit, ..*trial }, &mut idle, 3 * trial.unit);
        is_over.store(true, Ordering::Relaxed);
        verdict
    })
}

pub fn stale_timer_closes_nobody(trial: &Trial) -> Verdict {
    in_time(|| keeps_the_next_peer(trial))
}

/// Returns false if it was late.
fn keeps_the_next_peer(trial: &Trial) -> Result<bool, String> {
    let unit = trial.unit;
    let server = trial.serve_with_idle_limit(2 * unit);
    let mut first = server.connect();
    trial.answers("the first peer", &mut first)?;
    let began = Instant::now();
    first.shutdown(Shutdown::Write).unwrap();
    trial.gets_the_rest("the first peer", &mut first, b"")?; // the slot is free
    thread::sleep(unit.saturating_sub(began.elapsed()));
    let connected = Instant::now();
    let mut second = server.connect(); // in the same slot, whose old timer is due after one unit
    trial.answers("the second peer", &mut second)?;
    thread::sleep((unit * 5 / 2).saturating_sub(began.elapsed()));
    if connected.elapsed() > unit * 7 / 4 {
        return Ok(false);
    }
    trial.answers("when the first peer would have been idle for too long, the second peer", &mut second)?;
    Ok(true)
}

pub fn serves_all_whose_bytes_came_while_it_was_stopped(trial: &Trial) -> Verdict {
    in_time(|| serves_after_a_stop(trial))?;
    // A part of the rounds stop the server in its poll, and one has to do for the steps.
    let rounds = if trial.step == MINE { 5 } else { 1 };
    (0..rounds).try_for_each(|_| in_time(|| serves_after_a_stop_in_a_turn(trial)))
}

/// Two peers flood, so the server is stopped between two polls. Returns false if this thread was late.
fn serves_after_a_stop_in_a_turn(trial: &Trial) -> Result<bool, String> {
    let idle_limit = 3 * trial.unit;
    let server = trial.serve_with_idle_limit(idle_limit);
    let mut floods = [server.connect(), server.connect()];
    floods.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    let began = Instant::now();
    let mut silent = server.connect();
    trial.answers("a peer", &mut silent)?;
    let mut buffer = vec![0; 1 << 18];
    while began.elapsed() < idle_limit / 2
        && (began.elapsed() < idle_limit / 8 || state(&server.process) != 'R')
    {
        for peer in &mut floods {
            let _ = (peer.write(&buffer), peer.read(&mut buffer));
        }
    }
    stop_process(&server);
    let _ = silent.write_all(b"hello\n"); // the peer sees what it gets
    if began.elapsed() >= idle_limit {
        return Ok(false);
    }
    thread::sleep(idle_limit); // the thing under test: the peer is idle for too long
    server.process.signal(Signal::CONT);
    silent.set_read_timeout(Some(trial.limit)).unwrap();
    let result = silent.read_exact(&mut [0; 6]);
    ensure!(
        result.is_ok(),
        "two peers flooded, and the server was stopped in a turn. The bytes of a third one came meanwhile, and it \
         got no echo: {}. A timer is due only if its time had come *before* the poll",
        trial.reason(result.unwrap_err())
    );
    Ok(true)
}

/// More peers than one list of events has room for. Returns false if it was late.
fn serves_after_a_stop(trial: &Trial) -> Result<bool, String> {
    let idle_limit = 3 * trial.unit;
    let server = trial.serve_with_idle_limit(idle_limit);
    let began = Instant::now();
    let mut peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    trial.answers("the last of 100 peers", &mut peers[99])?;
    trial.stop_asleep(&server);
    for peer in &mut peers {
        let _ = peer.write_all(b"hello\n"); // the peer sees what it gets
    }
    if began.elapsed() >= idle_limit {
        return Ok(false);
    }
    thread::sleep(idle_limit); // the thing under test: all are idle for too long
    server.process.signal(Signal::CONT);
    for peer in &mut peers {
        peer.set_read_timeout(Some(trial.limit)).unwrap();
        let result = peer.read_exact(&mut [0; 6]);
        ensure!(
            result.is_ok(),
            "a peer whose bytes had come got no echo: {}",
            trial.reason(result.unwrap_err())
        );
    }
    Ok(true)
}

pub fn is_woken_by_another_thread(trial: &Trial) -> Verdict {
    let mut server = trial.serve();
    stop(&mut server);
    let ends = trial.happens(|| server.process.child.try_wait().unwrap().is_some());
    ensure!(ends, "the line `stop` came on stdin, and the server ran on for {:?}", trial.limit);
    Ok(())
}

pub fn stops_when_the_last_connection_has_ended(trial: &Trial) -> Verdict {
    let mut server = trial.serve();
    let mut stream = server.connect();
    trial.answers("the peer", &mut stream)?;
    stop(&mut server);
    let closes = trial.happens(|| TcpListener::bind(server.address()).is_ok());
    ensure!(closes, "the line `stop` came on stdin, and the server listened on for {:?}", trial.limit);
    trial.answers("after the line `stop` on stdin, the peer", &mut stream)?;
    drop(stream);
    let mut status = None;
    trial.happens(|| {
        status = server.process.child.try_wait().unwrap();
        status.is_some()
    });
    let Some(status) = status else {
        return Err(format!("its last connection had ended, and the server ran on for {:?}", trial.limit));
    };
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}

/// Writes the line that stops the server.
fn stop(server: &mut Server) {
    let _ = server.process.child.stdin.as_mut().unwrap().write_all(b"stop\n"); // a server may not read it
}
