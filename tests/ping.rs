//! `echo-client --ping`: what it measures, what it counts as lost, and how it exits.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    DeadPort, Lines, Outcome, Process, Scratch, Server, Terminal, assert_one_line, client_command, collect,
    eventually, full_pipe, outcome_of, pipe, run, serve_once,
};
use rustix::process::Signal;
use serde_json::Value;

fn ping(arguments: &[&str]) -> Outcome {
    run(client_command().arg("--ping").args(arguments), b"")
}

fn start(arguments: &[&str]) -> Process {
    let mut command = client_command();
    command.arg("--ping").args(arguments).stdin(Stdio::null());
    Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// The non-empty lines on stdout.
fn lines(outcome: &Outcome) -> Vec<String> {
    let text = String::from_utf8(outcome.stdout.clone()).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn json(outcome: &Outcome) -> Value {
    assert_eq!(lines(outcome).len(), 1, "one object and nothing else");
    serde_json::from_slice(&outcome.stdout).unwrap()
}

/// The first number after `key`.
fn number(line: &str, key: &str) -> f64 {
    let rest = line.split(key).nth(1).unwrap_or_else(|| panic!("no {key} in {line}"));
    rest.split([' ', '/', ',']).next().unwrap().parse().unwrap()
}

/// The counters of an object: sent, received, lost, late, wrong.
fn counters(json: &Value) -> [u64; 5] {
    ["sent", "received", "lost", "late", "wrong"].map(|key| json[key].as_u64().unwrap())
}

/// Calls `answer` with the number and the bytes of each 64-byte message.
fn echo_each(mut stream: &TcpStream, mut answer: impl FnMut(u64, Vec<u8>, &mut &TcpStream)) {
    for number in 1.. {
        let mut message = vec![0; 64];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        answer(number, message, &mut stream);
    }
}

#[test]
fn summary_agrees_with_the_line_of_each_round_trip() {
    let server = Server::start(&["-v"]);
    let outcome = ping(&["-c", "20", "-i", "0.005", "-s", "100", server.address()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let lines = lines(&outcome);
    let address = server.address();
    assert!(lines[0].starts_with(&format!("PING {address}, 100 bytes: connected in ")), "{lines:?}");
    let mut times: Vec<f64> = Vec::new();
    for (line, number) in lines[1..].iter().zip(1..=20) {
        assert!(line.starts_with(&format!("100 bytes from {address}: seq={number} time=")), "{line}");
        assert!(line.ends_with(" ms"), "{line}");
        times.push(self::number(line, "time="));
    }
    assert_eq!(times.len(), 20);
    assert_eq!(lines[21], format!("--- {address} ping statistics ---"));
    assert!(lines[22].starts_with("20 sent, 20 received, 0 lost (0 %), time "), "{}", lines[22]);
    assert!(number(&lines[22], "time ") >= 19.0 * 5.0, "{}", lines[22]);
    assert_eq!(number(&lines[23], "connect = "), number(&lines[0], "connected in "));
    times.sort_by(f64::total_cmp);
    let average = times.iter().sum::<f64>() / 20.0;
    let deviation = (times.iter().map(|time| (time - average).powi(2)).sum::<f64>() / 20.0).sqrt();
    let median = (times[9] + times[10]) / 2.0;
    let figures = lines[24].strip_prefix("rtt min/avg/median/p99/max/mdev = ").unwrap();
    let figures: Vec<f64> =
        figures.trim_end_matches(" ms").split('/').map(|figure| figure.parse().unwrap()).collect();
    for (figure, expected) in figures.iter().zip([times[0], average, median, times[19], times[19], deviation])
    {
        assert!((figure - expected).abs() < 0.0021, "{figures:?}: {expected}");
    }
    assert_eq!(lines.len(), 25);
    // The connection closes without a reset.
    let end = server.err.next_with(" ended after ");
    assert!(end.contains(": closed") && end.contains("bytes: 2000 in, 2000 out"), "{end}");
}

#[test]
fn verbose_logs_the_connection_once_and_the_bytes_at_the_end() {
    let server = Server::start(&[]);
    for option in ["-4", "--json"] {
        let outcome = ping(&["-v", option, "-c", "2", "-i", "0", server.address()]);
        let log: Vec<&str> = outcome.stderr.lines().collect();
        let [.., last] = log[..] else { panic!("{log:?}") };
        assert!(last.starts_with("echo-client: bytes: 128 sent, 128 received; "), "{log:?}");
        if option == "--json" {
            assert!(log.len() == 2 && log[0].contains(": connected to "), "{log:?}");
        } else {
            let address = server.address();
            let start = format!("PING {address}, 64 bytes: connected from 127.0.0.1:");
            assert!(log.len() == 1 && lines(&outcome)[0].starts_with(&start), "{:?}", lines(&outcome));
        }
    }
}

#[test]
fn json_is_one_object_with_all_figures() {
    let server = Server::start(&[]);
    let outcome = ping(&["--json", "-c", "5", "-i", "0", server.address()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let json = json(&outcome);
    assert_eq!(counters(&json), [5, 5, 0, 0, 0]);
    assert_eq!(json["address"], server.address());
    assert_eq!(
        (&json["size"], &json["connects"], &json["surplus_bytes"]),
        (&64.into(), &1.into(), &0.into())
    );
    for key in ["connect_ms", "rtt_ms"] {
        let figures = ["min", "median", "p99", "max"].map(|figure| json[key][figure].as_f64().unwrap());
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{json}");
        assert!(json[key]["avg"].as_f64().unwrap() > 0.0 && json[key]["mdev"].as_f64().unwrap() >= 0.0);
    }
    // JSON has to escape this address.
    let scratch = Scratch::new();
    let address = format!("unix:{}", scratch.path("quote\" backslash\\ line\n").display());
    let _server = Server::run(common::server_command().arg(&address), 1);
    let json = self::json(&ping(&["--json", "-c", "1", &address]));
    assert_eq!(json["received"], 1);
}

#[test]
fn round_trip_time_includes_the_delay_of_the_path() {
    let delay = Duration::from_millis(60);
    let (address, _server) = serve_once(move |stream| {
        echo_each(&stream, |_, message, stream| {
            thread::sleep(delay); // the delay of the path
            let _ = stream.write_all(&message);
        });
    });
    let json = json(&ping(&["--json", "-c", "5", "-i", "0", &address]));
    let figures = ["min", "avg", "median", "p99", "max"].map(|key| json["rtt_ms"][key].as_f64().unwrap());
    assert!(figures.iter().all(|&figure| figure >= 60.0), "{json}");
    assert!(figures[0] < 110.0, "the fastest round trip takes only the delay: {json}");
}

#[test]
fn messages_are_sent_one_interval_apart() {
    let server = Server::start(&[]);
    let json = json(&ping(&["--json", "-c", "4", "-i", "100ms", server.address()]));
    let took = json["time_ms"].as_f64().unwrap();
    assert!(took >= 300.0, "{took}");
    let json = self::json(&ping(&["--json", "-c", "200", "-i", "0", server.address()]));
    assert_eq!(counters(&json)[1], 200);
}

#[test]
fn stdin_is_not_read() {
    let server = Server::start(&[]);
    let (stdin, writer) = pipe();
    File::from(writer).write_all(b"for another reader").unwrap();
    let mut command = client_command();
    command.args(["--ping", "-c", "2", "-i", "0", server.address()]).stdin(stdin.try_clone().unwrap());
    let mut process = Process::spawn(command.stdout(Stdio::null()));
    assert_eq!(process.wait_code(), 0);
    let mut rest = String::new();
    File::from(stdin).read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "for another reader");
}

#[test]
fn wrong_byte_is_counted_and_reported() {
    let (address, _server) = serve_once(|stream| {
        echo_each(&stream, |number, mut message, stream| {
            if number == 2 {
                message[5] ^= 0x80;
            }
            let _ = stream.write_all(&message);
        });
    });
    let outcome = ping(&["-c", "3", "-i", "0", &address]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let lines = lines(&outcome);
    assert_eq!(lines[2], "wrong echo: seq=2 differs at offset 5: sent 0x43, received 0xc3");
    assert!(lines[3].contains("seq=3 time="), "{lines:?}");
    assert!(lines[5].starts_with("3 sent, 2 received, 1 lost (33.333 %), 1 wrong, time "), "{lines:?}");
}

#[test]
fn late_echo_counts_as_lost_and_is_not_taken_for_the_next() {
    let (address, _server) = serve_once(|stream| {
        let mut held = Vec::new();
        echo_each(&stream, |number, message, stream| {
            if number == 2 {
                held = message; // until the client has timed out and sent the next
            } else {
                let _ =
                    stream.write_all(&std::mem::take(&mut held)).and_then(|()| stream.write_all(&message));
            }
        });
    });
    let outcome = ping(&["-c", "3", "-i", "0", "-w", "1", &address]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let lines = lines(&outcome);
    let waited = number(&lines[2], "no echo: seq=2 after ");
    assert!((1000.0..3000.0).contains(&waited), "{lines:?}");
    assert!(number(&lines[3], "late echo: seq=2 time=") >= 1000.0, "{lines:?}");
    assert!(number(&lines[4], "seq=3 time=") < 1000.0, "{lines:?}");
    assert!(lines[6].starts_with("3 sent, 2 received, 1 lost (33.333 %), 1 late, time "), "{lines:?}");
}

#[test]
fn stalled_server_loses_messages_in_bounded_memory() {
    let (address, server) = serve_once(|stream| stream); // the server never reads
    let outcome = ping(&["-c", "4", "-i", "0", "-w", "0.2", "-s", "16M", &address]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let lines = lines(&outcome);
    assert!(lines[1].starts_with("no echo: seq=1 after "), "{lines:?}");
    assert_eq!(lines[2], "lost: seq=2 it was not sent: an earlier message is still on its way");
    assert!(
        lines[6].starts_with("1 sent, 0 received, 4 lost (100 %), 3 not sent, 1 missing, time "),
        "{lines:?}"
    );
    drop(server.join().unwrap());
}

#[test]
fn surplus_bytes_are_reported() {
    let (address, _server) = serve_once(|stream| {
        echo_each(&stream, |number, mut message, stream| {
            message.resize(if number == 1 { 64 } else { 68 + number as usize }, b'!');
            let _ = stream.write_all(&message);
        });
    });
    let outcome = ping(&["-c", "3", "-i", "0.1", &address]);
    let lines = lines(&outcome);
    assert_eq!(outcome.code, 1, "{lines:?}");
    let surplus: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| line.starts_with("surplus bytes ")).collect();
    let expected = [2, 3].map(|number| {
        format!("surplus bytes from {address} after seq={number}") // one line for each message
    });
    assert_eq!(surplus, expected);
    assert!(lines.iter().any(|line| line.contains(", 13 surplus bytes (an error), ")), "{lines:?}");
}

#[test]
fn surplus_bytes_after_the_half_close_are_an_error_too() {
    for output in ["--json", "--ping"] {
        let (address, _server) = serve_once(|mut stream| {
            echo_each(&stream, |_, message, stream| stream.write_all(&message).unwrap());
            stream.write_all(b"surplus!").unwrap();
        });
        let outcome = ping(&["-c", "2", "-i", "0", output, &address]);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
        let lines = lines(&outcome);
        if output == "--json" {
            assert_eq!(self::json(&outcome)["surplus_bytes"], 8, "{lines:?}");
        } else {
            assert_eq!(lines[3], format!("surplus bytes from {address} after seq=2"));
            assert!(lines[5].contains(" 0 lost (0 %), 8 surplus bytes (an error), "), "{lines:?}");
        }
    }
}

#[test]
fn time_ends_with_the_last_echo_and_not_with_the_close() {
    let (address, server) = serve_once(|stream| {
        echo_each(&stream, |_, message, stream| stream.write_all(&message).unwrap());
        stream // stays open
    });
    let outcome = ping(&["-c", "1", "--json", &address]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(json(&outcome)["time_ms"].as_f64().unwrap() < 900.0, "{:?}", lines(&outcome));
    drop(server.join().unwrap());
}

#[test]
fn interval_is_kept_after_a_late_echo() {
    let (address, server) = serve_once(|stream| {
        let (mut arrivals, mut held) = (Vec::new(), Vec::new());
        echo_each(&stream, |number, message, stream| {
            arrivals.push(Instant::now());
            held.extend(message);
            if number > 1 {
                let _ = stream.write_all(&std::mem::take(&mut held));
            }
        });
        arrivals
    });
    // The second message is due after 0.7 s, but is sent after 1.2 s. The third would follow 0.2 s
    // later if the interval were counted from when the second was due.
    let outcome = ping(&["-c", "3", "-i", "0.7", "-w", "1.2", &address]);
    assert_eq!(outcome.code, 1);
    let arrivals = server.join().unwrap();
    assert!(arrivals[2] - arrivals[1] > Duration::from_millis(450), "{arrivals:?}");
}

#[test]
fn half_an_echo_is_reported_once() {
    let (address, _server) = serve_once(|stream| {
        echo_each(&stream, |number, message, stream| {
            let _ = stream.write_all(&message[..if number == 1 { 32 } else { 64 }]);
        });
    });
    let outcome = ping(&["-c", "2", "-i", "0", "-w", "0.7", &address]);
    let lines = lines(&outcome);
    assert!(lines[1].starts_with("no echo: seq=1 after "), "{lines:?}");
    assert!(lines[1].ends_with(" ms, only 32 of 64 bytes"), "{lines:?}");
    assert!(lines[2..].iter().all(|line| !line.contains("seq=1 ")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("2 sent, 0 received, 2 lost (100 %)")), "{lines:?}");
}

#[test]
fn late_echoes_in_pieces_belong_to_their_messages() {
    let (address, _server) = serve_once(|stream| {
        let mut late = Vec::new();
        echo_each(&stream, |number, message, stream| {
            late.extend(message);
            if number == 1 {
                stream.write_all(&late.drain(..32).collect::<Vec<_>>()).unwrap();
            } else if number == 3 {
                let _ = stream.write_all(&late);
            }
        });
    });
    let lines = lines(&ping(&["-c", "3", "-i", "0", "-w", "0.7", &address]));
    let of =
        |text: &str| lines.iter().find(|line| line.starts_with(text)).unwrap_or_else(|| panic!("{lines:?}"));
    assert!(of("no echo: seq=1 ").ends_with(" ms, only 32 of 64 bytes"), "{lines:?}");
    assert!(of("no echo: seq=2 ").ends_with(" ms"), "{lines:?}");
    of("late echo: seq=1 ");
    of("late echo: seq=2 ");
    assert!(lines.iter().all(|line| !line.starts_with("wrong echo")), "{lines:?}");
}

#[test]
fn server_without_an_answer_delays_the_end_only_for_the_timeout() {
    let (address, server) = serve_once(|mut stream| {
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.read(&mut [0]) // the connection is reset, so the client does not wait for a close
    });
    assert_eq!(ping(&["-c", "1", "-w", "0.05", &address]).code, 1);
    assert_eq!(server.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn sigquit_prints_the_statistics_so_far() {
    let server = Server::start(&[]);
    let mut process = start(&["-c", "3", "-i", "0.7", server.address()]);
    let out = Lines::of(process.child.stdout.take().unwrap());
    let err = Lines::of(process.child.stderr.take().unwrap());
    out.next_with("seq=1 time=");
    process.signal(Signal::QUIT);
    err.next_with(&format!("--- {} ping statistics ---", server.address()));
    assert!(err.next().contains(" 0 lost (0 %), time "));
    out.next_with("seq=3 time=");
    out.next_with("3 sent, 3 received, 0 lost (0 %), time ");
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn server_close_is_reported_after_the_summary() {
    let (address, server) = serve_once(|mut stream| {
        let mut message = [0; 64];
        stream.read_exact(&mut message).unwrap();
        stream.write_all(&message).unwrap();
        stream.read_exact(&mut message).unwrap();
    });
    let outcome = ping(&["-c", "9", "-i", "0", &address]);
    server.join().unwrap();
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &[&format!("echo-client: {address} closed the connection")]);
    let lines = lines(&outcome);
    assert_eq!(lines[2], "lost: seq=2 the connection ended");
    // The messages that could not be sent are lost, too.
    let counts = "2 sent, 1 received, 8 lost (88.889 %), 7 not sent, 1 missing, time ";
    assert!(lines[4].starts_with(counts), "{lines:?}");
}

#[test]
fn quiet_prints_only_the_summary() {
    let server = Server::start(&[]);
    let outcome = ping(&["-q", "-c", "3", "-i", "0", server.address()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let lines = lines(&outcome);
    assert!(lines[0].starts_with("--- ") && lines[1].starts_with("3 sent, 3 received, "), "{lines:?}");
}

#[test]
fn second_signal_skips_the_wait_for_the_last_echo_and_prints_the_summary() {
    for (second, arguments, code) in [
        (Signal::INT, &["-q"][..], 1),
        (Signal::INT, &["--json"], 1),
        (Signal::TERM, &["-q"], 143),
        (Signal::HUP, &["-q"], 129),
    ] {
        let (received, receive) = std::sync::mpsc::channel();
        let (address, _server) = serve_once(move |mut stream| {
            stream.read_exact(&mut [0; 64]).unwrap();
            received.send(()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new()); // the server never answers
        });
        let mut process = start(&[arguments, &[&address]].concat());
        receive.recv_timeout(common::PATIENCE).unwrap();
        let began = Instant::now();
        let mut signals = [Signal::INT, second].into_iter().chain(std::iter::repeat(Signal::INT));
        eventually("the client exits", || {
            process.signal(signals.next().unwrap()); // many more than two
            process.child.try_wait().unwrap().is_some()
        });
        let took = began.elapsed();
        let outcome = outcome_of(&mut process);
        let text = lines(&outcome).concat();
        assert!(text.contains(" 1 lost (100 %)") || text.contains(r#""lost": 1"#), "{text}");
        // A signal that comes after the summary ends the program.
        assert!([code, 130].contains(&outcome.code), "{arguments:?}: {}", outcome.code);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[test]
fn signal_ends_the_client_if_the_summary_cannot_be_written() {
    let server = Server::start(&[]);
    let (_reader, stdout) = common::full_pipe();
    let mut command = client_command();
    command.args(["--ping", "--json", "-c", "1", server.address()]).stdin(Stdio::null());
    let mut process = Process::spawn(command.stdout(stdout));
    eventually("the client has closed its connection", || {
        let statistics = server.statistics();
        statistics[..2] == [0, 1]
    });
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 130);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /dev/full")]
fn write_error_of_the_summary_exits_1() {
    let server = Server::start(&[]);
    for arguments in [&["--json", "-c", "1"][..], &["-q", "-c", "1"], &["-c", "1"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = client_command();
        command.arg("--ping").args(arguments).arg(server.address()).stdin(Stdio::null());
        let mut process = Process::spawn(command.stdout(full).stderr(Stdio::piped()));
        let stderr = Lines::of(process.child.stderr.take().unwrap()).rest().join("\n");
        assert_eq!(process.wait_code(), 1, "{arguments:?}: {stderr}");
        assert_one_line(&stderr, &["cannot write standard output: No space left on device"]);
    }
}

#[test]
fn failed_connect_is_reported_in_one_line() {
    let dead = DeadPort::new();
    for arguments in [&["-c", "3"][..], &["--json", "-c", "3"], &[], &["--json"]] {
        let outcome = ping(&[arguments, &[&dead.1.to_string()]].concat());
        assert_eq!(outcome.code, 1);
        let lost = if arguments.contains(&"-c") { 3 } else { 1 };
        if arguments.contains(&"--json") {
            let summary = json(&outcome);
            assert_eq!((counters(&summary), &summary["rtt_ms"]), ([0, 0, lost, 0, 0], &Value::Null));
        } else {
            let (lines, counts) = (lines(&outcome), format!("0 sent, 0 received, {lost} lost (100 %), "));
            assert_eq!(lines[0], "lost: seq=1 not connected");
            assert!(lines[2].starts_with(&counts), "{lines:?}");
        }
        let expected = format!("echo-client: cannot connect to {}: Connection refused\n", dead.1);
        assert_eq!(outcome.stderr, expected);
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: SO_REUSEPORT shares connections")]
fn reconnect_survives_a_restart_and_counts_lost_messages() {
    let held = DeadPort::new();
    let address = held.1.to_string();
    let server = Server::on(&[&address], &["--reuse-port"]);
    let mut process = start(&["-r", "-i", "20ms", &address]);
    let out = Lines::of(process.child.stdout.take().unwrap());
    out.next_with("seq=3 time=");
    server.process.signal(Signal::KILL);
    drop(server);
    out.next_with(" not connected");
    out.next_with(" not connected");
    let _server = Server::on(&[&address], &["--reuse-port"]);
    out.next_with("reconnected to ");
    out.next_with(" time=");
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 1);
    let rest = out.rest();
    let [.., title, counts, connects, rtt] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(*title, format!("--- {address} ping statistics ---"));
    let sent: f64 = counts.split(' ').next().unwrap().parse().unwrap();
    let (received, lost) = (number(counts, "sent, "), number(counts, "received, "));
    let unsent = number(counts, "%), ");
    assert!(counts.contains(" not sent, ") && unsent >= 2.0, "{counts}");
    assert!(received >= 4.0 && sent == received + lost - unsent, "{counts}");
    assert!(connects.starts_with("2 connects, min/avg/max = "), "{connects}");
    assert!(rtt.starts_with("rtt min/avg/median/p99/max/mdev = "), "{rtt}");
}

#[test]
fn count_is_reached_even_if_no_connection_succeeds() {
    let dead = DeadPort::new();
    let outcome = ping(&["-q", "-r", "--json", "-i", "20ms", "-c", "5", &dead.1.to_string()]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let json = json(&outcome);
    assert_eq!((counters(&json), &json["not_sent"]), ([0, 0, 5, 0, 0], &5.into()));
    assert!(json["rtt_ms"].is_null() && json["connect_ms"].is_null());
    assert!(json["time_ms"].as_f64().unwrap() >= 80.0, "one interval apart: {json}");
}

#[test]
fn messages_are_due_between_two_attempts_to_connect() {
    let dead = DeadPort::new();
    // An attempt fails at the start, after 100 to 200 ms, after 200 to 400 ms more, ...
    let outcome = ping(&["-v", "-r", "-i", "10ms", "-c", "30", &dead.1.to_string()]);
    assert_eq!(outcome.code, 1);
    let lines = lines(&outcome);
    assert_eq!(lines.iter().filter(|line| line.ends_with(" not connected")).count(), 30, "{lines:?}");
    let attempts = outcome.stderr.lines().count();
    assert!((1..10).contains(&attempts), "{}", outcome.stderr);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn full_stdout_postpones_messages_while_the_client_reconnects() {
    let (dead, (_reader, writer)) = (DeadPort::new(), full_pipe());
    let mut command = client_command();
    command.args(["--ping", "-r", "-i", "100us", &dead.1.to_string()]).stdout(writer);
    let mut process = Process::spawn(&mut command);
    let err = Lines::of(process.child.stderr.take().unwrap());
    err.next_with("reconnecting"); // signals are caught now
    let mut previous = 0.0;
    eventually("the buffer is full and no more messages are lost", || {
        thread::sleep(common::A_WHILE); // the thing under test: no message is lost
        process.signal(Signal::QUIT);
        let lost = number(&err.next_with(" not sent, "), "received, ");
        std::mem::replace(&mut previous, lost) == lost
    });
    let (_, sleeps) = process.activity();
    eventually("the client sleeps from one message to the next", || process.activity().1 > sleeps + 20);
}

#[test]
fn message_that_is_not_due_is_not_lost_while_the_client_reconnects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        for _ in 0..2 {
            let mut message = [0; 64];
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut message).unwrap();
            stream.write_all(&message).unwrap();
        }
    });
    let outcome = ping(&["-r", "-i", "1", "-c", "2", &address]);
    let lines = lines(&outcome);
    assert_eq!(outcome.code, 0, "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("2 sent, 2 received, 0 lost (0 %), time ")),
        "{lines:?}"
    );
    server.join().unwrap();
}

#[test]
fn without_an_interval_each_failed_attempt_loses_a_message() {
    let dead = DeadPort::new();
    let outcome = ping(&["-v", "-r", "-i", "0", "-c", "2", &dead.1.to_string()]);
    assert_eq!(outcome.code, 1);
    let lines = lines(&outcome);
    assert_eq!(lines[..2], ["lost: seq=1 not connected", "lost: seq=2 not connected"]);
    assert!(lines[3].starts_with("0 sent, 0 received, 2 lost (100 %), 2 not sent, time "), "{lines:?}");
    assert_eq!(outcome.stderr.matches("Connection refused; reconnecting").count(), 2, "{}", outcome.stderr);
}

#[test]
fn without_an_interval_a_connection_that_ends_loses_one_message() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        for _ in 0..2 {
            listener.accept().unwrap().0.read_exact(&mut [0; 64]).unwrap();
        }
    });
    let lines = lines(&ping(&["-r", "-i", "0", "-c", "2", &address]));
    assert!(lines.contains(&"lost: seq=2 the connection ended".into()), "{lines:?}");
    server.join().unwrap();
}

#[test]
fn after_1000_messages_without_an_echo_no_more_are_sent() {
    let (address, server) = serve_once(|mut stream| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes.len()
    });
    let outcome = ping(&["-i", "0", "-w", "100us", "-c", "1001", &address]);
    let lines = lines(&outcome);
    let lost = "lost: seq=1001 it was not sent: too many earlier messages have no echo yet";
    assert_eq!(lines[1001], lost);
    assert_eq!((outcome.code, server.join().unwrap()), (1, 64_000));
}

#[test]
fn summary_has_its_own_row_after_ctrl_c() {
    let server = Server::start(&[]);
    for (signal, end) in [(Signal::INT, "\r\n"), (Signal::TERM, "")] {
        let mut terminal = Terminal::new();
        let mut command = client_command();
        command.args(["--ping", "-i", "1000", server.address()]).stdout(Stdio::piped());
        let mut process = Process::spawn(command.stderr(terminal.stdio()));
        Lines::of(process.child.stdout.take().unwrap()).next_with("seq=1 time=");
        process.signal(signal);
        process.wait();
        assert_eq!(terminal.unseen(), end, "only SIGINT comes with an echoed `^C`");
    }
}

#[test]
fn sigint_prints_the_summary_and_exits_0_if_nothing_was_lost() {
    let server = Server::start(&[]);
    for (interval, signal, code) in
        [("1000", Signal::INT, 0), ("0", Signal::INT, 0), ("0", Signal::TERM, 143)]
    {
        let mut process = start(&["-i", interval, server.address()]);
        let out = Lines::of(process.child.stdout.take().unwrap());
        out.next_with("seq=1 time=");
        process.signal(signal);
        out.next_with("ping statistics");
        let counts = out.next();
        assert!(counts.contains(" 0 lost (0 %)"), "{counts}");
        assert_eq!(process.wait_code(), code);
    }
}

/// A Unix socket that accepts no connection, and what keeps it so.
fn full_backlog(scratch: &Scratch) -> (String, UnixListener, UnixStream) {
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    (format!("unix:{}", path.display()), listener, first)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: a full backlog")]
fn signal_before_the_first_connection_prints_the_summary() {
    let scratch = Scratch::new();
    let (address, ..) = &full_backlog(&scratch);
    for (arguments, signal, code) in [
        (&["-vvv"][..], Signal::INT, 1),
        (&["-vvv", "--json"], Signal::INT, 1),
        (&["-vvv", "-r", "-i", "0"], Signal::INT, 1),
        (&["-vvv"], Signal::TERM, 143),
    ] {
        let mut process = start(&[arguments, &[address]].concat());
        Lines::of(process.child.stderr.take().unwrap()).next_with("turn ");
        process.signal(signal);
        let lines = Lines::of(process.child.stdout.take().unwrap()).rest();
        assert_eq!(process.wait_code(), code, "{arguments:?}");
        if arguments.contains(&"--json") {
            assert!(lines[0].contains(r#""lost": 1, "not_sent": 1, "#), "{lines:?}");
        } else {
            assert_eq!(lines[0], "lost: seq=1 not connected");
            assert!(lines[3].starts_with("0 sent, 0 received, 1 lost (100 %), 1 not sent, "), "{lines:?}");
        }
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: a full backlog")]
fn messages_are_due_during_the_first_attempt_to_connect() {
    let scratch = Scratch::new();
    let (address, ..) = &full_backlog(&scratch);
    let outcome = ping(&["-r", "--json", "-i", "20ms", "-c", "5", address]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let json = json(&outcome);
    assert_eq!((counters(&json), &json["not_sent"]), ([0, 0, 5, 0, 0], &5.into()));
    assert!(json["time_ms"].as_f64().unwrap() >= 100.0, "one interval apart: {json}");
}

#[test]
fn sigint_after_only_lost_messages_prints_the_summary() {
    let dead = DeadPort::new();
    let mut process = start(&["-r", "-i", "5ms", &dead.1.to_string()]);
    let out = Lines::of(process.child.stdout.take().unwrap());
    out.next_with("lost: seq=1 not connected");
    process.signal(Signal::INT);
    out.next_with("ping statistics");
    assert_eq!(process.wait_code(), 1);
}

#[test]
fn sigint_ignored_at_the_start_stays_ignored() {
    let server = Server::start(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" INT; exec "$0" --ping -c 3 -i 0.1 "$1""#]);
    command.args([env!("CARGO_BIN_EXE_echo-client"), server.address()]);
    let mut process = Process::spawn(command.stdout(Stdio::piped()));
    let out = Lines::of(process.child.stdout.take().unwrap());
    out.next_with("seq=1 time=");
    process.signal(Signal::INT);
    out.next_with("seq=3 time=");
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn sigint_waits_a_second_for_the_last_echo() {
    let (received, receive) = std::sync::mpsc::channel();
    let (address, _server) = serve_once(move |mut stream| {
        let mut message = [0; 64];
        stream.read_exact(&mut message).unwrap();
        received.send(()).unwrap();
        let _ = stream.read(&mut message); // the server never answers
    });
    let mut process = start(&["--json", &address]);
    receive.recv_timeout(common::PATIENCE).unwrap();
    let began = Instant::now();
    process.signal(Signal::INT);
    let outcome = outcome_of(&mut process);
    assert!(began.elapsed() >= Duration::from_secs(1));
    let json = json(&outcome);
    assert_eq!((outcome.code, counters(&json), &json["missing"]), (1, [1, 0, 1, 0, 0], &1.into()));
}

#[test]
fn closed_reader_of_stdout_ends_the_client_silently() {
    let server = Server::start(&[]);
    let mut process = start(&["-i", "0", server.address()]);
    drop(process.child.stdout.take());
    let stderr = collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 141);
    assert!(stderr.recv_timeout(common::PATIENCE).unwrap().is_empty());
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn slow_reader_of_stdout_pauses_the_client_in_bounded_memory() {
    let server = Server::start(&[]);
    let mut process = start(&["-i", "0", "-c", "20000", "-w", "1000", server.address()]);
    let mut previous = 0;
    eventually("the pipe is full and the client waits", || {
        thread::sleep(common::A_WHILE); // the thing under test: the client is paused
        let sent = server.statistics()[3];
        std::mem::replace(&mut previous, sent) == sent && sent > 0
    });
    assert!(previous < 20_000 * 64, "the client was not paused");
    assert!(process.resident() < 16 << 10, "{} KiB", process.resident());
    let lines = lines(&outcome_of(&mut process));
    assert_eq!(lines.iter().filter(|line| line.contains("time=")).count(), 20_000);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn client_is_idle_between_messages() {
    let server = Server::start(&[]);
    let process = start(&["-i", "1000", server.address()]);
    eventually("the first message is sent", || server.statistics()[3] == 64);
    process.comes_to_rest();
    drop(process);
}

#[test]
fn client_is_idle_while_it_waits_for_the_server_to_close() {
    let (address, server) = serve_once(|mut stream| {
        let mut message = [0; 64];
        stream.read_exact(&mut message).unwrap();
        stream.write_all(&message).unwrap();
        assert_eq!(stream.read(&mut message).unwrap(), 0); // the client is closing
        stream
    });
    // The limit for the echo is over before the client stops waiting.
    let outcome = ping(&["-vvv", "-i", "0", "-c", "1", "-w", "0.3", &address]);
    server.join().unwrap();
    let turns = outcome.stderr.lines().filter(|line| line.starts_with("turn ")).count();
    assert!((1..100).contains(&turns), "{turns}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn client_is_idle_between_attempts_to_connect_without_an_interval() {
    let dead = DeadPort::new();
    start(&["-q", "-r", "-i", "0", &dead.1.to_string()]).comes_to_rest();
}

#[test]
fn ping_options_are_usage_errors_without_ping() {
    for (arguments, reason) in [
        (&["-s", "64"][..], "option '-s' needs --ping"),
        (&["-i", "1"], "option '-i' needs --ping"),
        (&["-c", "1"], "option '-c' needs --ping"),
        (&["--json"], "option '--json' needs --ping"),
        (&["--ping", "--check"], "option '--check' cannot be used with --ping"),
        (&["--ping", "--progress"], "option '--progress' cannot be used with --ping"),
        (&["--ping", "-c", "0"], "invalid value '0' for -c: must not be zero"),
        (&["--ping", "-s", "0"], "invalid value '0' for -s: must not be zero"),
        (&["--ping", "-s", "65M"], "invalid value '65M' for -s: must be at most 64M"),
        (&["--ping", "-i", "-1"], "invalid value '-1' for -i"),
        (&["--ping", "-w", "0"], "invalid value '0' for -w"),
    ] {
        let outcome = run(client_command().args(arguments), b"");
        assert_eq!((outcome.code, outcome.stdout.len()), (2, 0), "{arguments:?}");
        assert_one_line(&outcome.stderr, &["echo-client: ", reason, "(see --help)"]);
    }
}

#[test]
fn sigint_closes_the_connection_without_a_reset() {
    let server = Server::start(&["-v"]);
    let mut process = start(&["-i", "1000", server.address()]);
    server.err.next_with(" from ");
    eventually("the first message is echoed", || server.statistics()[4] == 64);
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 0);
    let end = server.err.next_with(" ended after ");
    assert!(end.contains(": closed"), "{end}");
}
