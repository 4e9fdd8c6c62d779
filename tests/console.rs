//! `echo-server --console`: each line of the operator is a command, and gets a reply.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::process::{ChildStdin, Stdio};

use common::{
    Lines, Process, Scratch, Server, Terminal, connect_unix, eventually, ping, run, server_command,
};
use rustix::process::{Signal, kill_process};

fn start(arguments: &[&str]) -> (Server, ChildStdin) {
    let mut command = server_command();
    command.arg("--console").args(arguments).stdin(Stdio::piped());
    let addresses = arguments.iter().filter(|argument| argument.contains(':')).count();
    let mut server = Server::run(&mut command, addresses);
    let stdin = server.process.child.stdin.take().unwrap();
    (server, stdin)
}

#[test]
fn every_command_gets_a_reply() {
    let (server, mut operator) = start(&["127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"12345");
    operator.write_all(b"help\nstats\n").unwrap(); // one write with two commands
    for command in ["help", "stats", "list", "say", "close", "quit"] {
        let line = server.out.next();
        assert!(line.starts_with(command) && line.len() <= 80, "{line}");
    }
    let stats = server.out.next();
    assert!(
        stats.starts_with(
            "connections: 1 open, 1 accepted, 0 refused; bytes: 5 in, 5 out, 0 buffered; turns:"
        )
    );

    operator.write_all(b"say hello there\n").unwrap();
    assert_eq!(server.out.next(), "sent to 1 connection");
    let mut received = [0; 12];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello there\n");

    operator.write_all(b"dance\nclose 99\nsay\nsay \nclose\nclose 1 2\nlist all\n").unwrap();
    for reply in [
        "error: unknown command 'dance' (see help)",
        "error: no connection '99' (see list)",
        "error: usage: say TEXT",
        "error: usage: say TEXT",
        "error: usage: close ID (see list)",
        "error: usage: close ID (see list)",
        "error: list takes no argument",
    ] {
        assert_eq!(server.out.next(), reply);
    }
}

#[test]
fn list_has_a_header_and_aligned_columns_sorted_by_number() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let (server, mut operator) = start(&["127.0.0.1:0", &format!("unix:{}", path.display())]);
    let mut peers = Vec::new();
    for number in 1..=12 {
        let mut peer = server.connect();
        ping(&mut peer, &vec![b'x'; number * number]);
        peers.push(peer);
    }
    drop(peers.remove(0)); // its slot is reused
    eventually("the connection is closed", || server.open_connections() == 11);
    let mut local = connect_unix(&path);
    ping(&mut local, b"hello");

    operator.write_all(b"list\n").unwrap();
    let lines: Vec<String> =
        std::iter::from_fn(|| Some(server.out.next()).filter(|line| line != "end of list")).collect();
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "PEER", "IN", "OUT", "BUFFERED", "AGE", "IDLE", "STATE"]);
    let numbers: Vec<u32> = rows[1..].iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(numbers, (2..=13).collect::<Vec<_>>());
    let peer = peers[0].local_addr().unwrap().to_string();
    assert_eq!(rows[1][..5], ["2", &peer, "4", "4", "0"]);
    let unnamed = format!("unix:pid={}", std::process::id());
    assert_eq!(rows[12][..5], ["13", &unnamed, "5", "5", "0"]);
    for row in &rows[1..] {
        let seconds = |text: &str| text.strip_suffix('s').unwrap().parse::<f64>().unwrap();
        assert!(seconds(row[6]) <= seconds(row[5]) + 0.1, "{row:?}");
    }
    for (name, index) in [("PEER", 1), ("STATE", 7)] {
        let column = lines[0].find(name).unwrap();
        assert!(lines[1..].iter().zip(&rows[1..]).all(|(line, row)| line[column..].starts_with(row[index])));
    }
    let end_of_idle = lines[0].find("IDLE").unwrap() + 4;
    assert!(lines[1..].iter().all(|line| line[..end_of_idle].ends_with('s')), "{lines:#?}");
}

#[test]
fn close_is_graceful_and_a_second_close_aborts() {
    let (server, mut operator) = start(&["-v", "127.0.0.1:0"]);
    let (mut first, mut second) = (server.connect(), server.connect());
    ping(&mut first, b"1");
    ping(&mut second, b"2");
    operator.write_all(b"close 2\n").unwrap();
    assert_eq!(server.out.next(), "closing 2");
    assert_eq!(second.read(&mut [0]).unwrap(), 0, "the connection ends without a reset");
    drop(second);
    server.err.next_with(": closed by the operator; bytes: 1 in, 1 out");

    operator.write_all(b"close 1\n").unwrap();
    assert_eq!(server.out.next(), "closing 1");
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    // Bytes that the peer still sends are discarded and not counted.
    first.write_all(b"too late").unwrap();
    eventually("the connection is listed as closing", || {
        operator.write_all(b"list\n").unwrap();
        server.out.next_with("ID ");
        let row = server.out.next();
        assert_eq!(row.split_whitespace().nth(2), Some("1"), "{row}");
        let columns: Vec<_> = row.split_whitespace().collect();
        columns[7] == "closing" && columns[6] != "0.0s" // the idle time counts from the close
    });
    server.out.next_with("end of list");
    operator.write_all(b"say hello\n").unwrap(); // not reported as slow: its connection is closing
    assert_eq!(server.out.next(), "sent to 0 connections");
    operator.write_all(b"close 1\n").unwrap(); // the server still waits for the peer's EOF
    assert_eq!(server.out.next(), "aborted 1");
    server.err.next_with(": aborted by the operator; bytes: 1 in, 1 out");
    operator.write_all(b"close 1\n").unwrap();
    assert_eq!(server.out.next(), "error: no connection '1' (see list)");
}

#[test]
fn close_aborts_a_connection_that_closes_since_quit() {
    let (mut server, mut operator) = start(&["-v", "127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"1");
    operator.write_all(b"quit\nclose 1\n").unwrap();
    assert_eq!(server.out.next(), "aborted 1");
    server.err.next_with(": aborted by the operator; bytes: 1 in, 1 out");
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn connection_that_the_operator_has_only_closed_is_aborted_at_shutdown() {
    let (mut server, mut operator) = start(&["-v", "-g", "0", "127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"1");
    operator.write_all(b"close 1\nquit\n").unwrap();
    assert_eq!(server.process.wait_code(), 0);
    server.err.next_with(": aborted at shutdown; bytes: 1 in, 1 out");
}

#[test]
fn say_sends_its_bytes_unchanged() {
    let (server, mut operator) = start(&["127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    let text = b"  \xff\0\x1b[2J \xc3\xa4\t\r";
    operator.write_all(&[b"say ", &text[..], b"\n"].concat()).unwrap();
    assert_eq!(server.out.next(), "sent to 1 connection");
    let mut received = vec![0; text.len() + 1];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, [&text[..], b"\n"].concat());
}

#[test]
fn blanks_before_a_command_are_skipped_and_a_tab_ends_it() {
    let (mut server, mut operator) = start(&["127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    operator.write_all(b" \n\t\n say one\n\tsay\t two \n say \n \t close\t7\n\tdance\n").unwrap();
    for reply in [
        "sent to 1 connection",
        "sent to 1 connection",
        "error: usage: say TEXT",
        "error: no connection '7' (see list)",
        "error: unknown command 'dance' (see help)",
    ] {
        assert_eq!(server.out.next(), reply);
    }
    let mut received = [0; 10];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"one\n two \n");
    operator.write_all(b"\tquit\n").unwrap();
    drop(stream);
    assert_eq!(server.process.wait_code(), 0);
}

#[test]
fn line_that_is_too_long_is_rejected_as_a_whole() {
    const LIMIT: usize = 64 * 1024;
    let (server, mut operator) = start(&["127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    // The longest allowed line, which is sent to the peer. The end of the test checks that nothing
    // else is.
    let longest = vec![b'a'; LIMIT - b"say \n".len()];
    operator.write_all(&[b"say ", &longest[..], b"\n"].concat()).unwrap();
    assert_eq!(server.out.next(), "sent to 1 connection");
    for length in [LIMIT, LIMIT + 1, 2 * LIMIT, 2 * LIMIT + 1, 5 * LIMIT - 1] {
        // If the line were cut at one of these lengths, its rest would be a command.
        let mut line = b"say ".to_vec();
        while line.len() < length {
            line.extend_from_slice(b"quit\r");
        }
        operator.write_all(&line[..length]).unwrap();
        operator.write_all(b"\ndance\n").unwrap();
        assert_eq!(server.out.next(), "error: the line is longer than 65536 bytes");
        assert_eq!(server.out.next(), "error: unknown command 'dance' (see help)");
    }
    operator.write_all(b"say end\n").unwrap();
    let mut received = vec![0; longest.len() + 5];
    stream.read_exact(&mut received).unwrap();
    assert!(received.ends_with(b"a\nend\n"));
}

#[test]
fn last_line_needs_no_newline() {
    let (mut server, mut operator) = start(&["127.0.0.1:0"]);
    operator.write_all(b"stats\nquit").unwrap();
    assert!(server.out.next().starts_with("connections: 0 open"));
    drop(operator);
    assert_eq!(server.process.wait_code(), 0);
    assert_eq!(server.out.rest(), [""; 0]);
    assert!(server.err.rest().is_empty());
}

#[test]
fn say_skips_peers_that_are_behind() {
    let (server, mut operator) = start(&["127.0.0.1:0"]);
    let mut stalled = server.connect();
    common::send_until_stalled(&mut stalled, b"x");
    let (mut one, mut two) = (server.connect(), server.connect());
    ping(&mut one, b"x");
    ping(&mut two, b"x");
    let buffered = server.statistics()[5];
    // More than the default of `-b`, after which the server stops reading, and at most one read
    // more.
    assert!((64 * 1024 + 1..=320 * 1024).contains(&buffered), "{buffered}");
    for _ in 0..100 {
        operator.write_all(b"say more and more\n").unwrap();
        assert_eq!(server.out.next(), "sent to 2 connections, skipped 1 slow reader");
    }
    assert_eq!(server.statistics()[5], buffered);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn end_of_stdin_is_announced_on_a_terminal() {
    let mut terminal = Terminal::new();
    let mut command = server_command();
    command.args(["--console", "127.0.0.1:0"]);
    command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    let mut process = Process::spawn(&mut command);
    terminal.see("listening on ");
    terminal.type_in("stats\n");
    terminal.see("connections: 0 open");
    terminal.type_in("\x04"); // Ctrl-D
    terminal.see("end of standard input; the server keeps running without a console");
    process.comes_to_rest();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 0);
    terminal.unseen();

    // Nothing is announced if the server ends as well.
    for input in ["quit\n", "quit"] {
        let outcome = run(server_command().args(["-v", "--console", "127.0.0.1:0"]), input.as_bytes());
        assert_eq!(outcome.code, 0);
        assert!(!outcome.stderr.contains("end of standard input"), "{}", outcome.stderr);
    }
}

#[test]
fn half_typed_command_survives_replies_and_log_lines() {
    let mut terminal = Terminal::with_window(60, 12);
    let mut command = server_command();
    command.args(["-v", "--console", "127.0.0.1:0"]);
    command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    let mut process = Process::spawn(&mut command);
    terminal.see_row("> ");
    let listening = terminal.rows()[0].clone();
    let address = listening.strip_prefix("listening on ").unwrap().to_owned();
    terminal.type_in("stats\nsay half"); // the reply comes while the next command is typed
    terminal.see("connections: 0 open");
    terminal.see_row("> say half");
    let mut peers = Vec::new();
    for number in 1..=30 {
        let mut peer = common::connect(&address);
        ping(&mut peer, b"x");
        terminal.see(&format!("connection {number} from "));
        terminal.see_row("> say half");
        peers.push(peer);
    }
    terminal.type_in("\x7f\x7fllo\n");
    terminal.see("sent to 30 connections");
    terminal.see_row("> ");
    let mut received = [0; 6];
    peers[0].read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hallo\n");
    drop(peers);
    terminal.type_in("quit\n");
    assert_eq!(process.wait_code(), 0);
    terminal.see("bytes: 30 in, 210 out");
    let lines = terminal.lines();
    let shown = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!((shown("> say hallo"), shown("connection "), shown("> quit")), (1, 60, 1), "{lines:#?}");
}

#[test]
fn log_lines_after_ctrl_c_begin_in_the_first_column_if_there_is_no_prompt() {
    for (ends_console, has_terminal) in [(true, true), (false, false)] {
        let mut terminal = Terminal::new();
        let mut command = server_command();
        command.args(["-v", "--console", "127.0.0.1:0"]).stdin(terminal.stdio()).stderr(terminal.stdio());
        command.stdout(if has_terminal { terminal.stdio() } else { Stdio::piped() });
        let mut process = Process::spawn(&mut command);
        if has_terminal {
            terminal.see_row("> ");
        } else {
            Lines::of(process.child.stdout.take().unwrap()).next();
        }
        if ends_console {
            terminal.type_in("\x04"); // ^D
            terminal.see("keeps running without a console");
        }
        terminal.type_in("\x03"); // ^C
        terminal.see("^C");
        process.signal(Signal::INT);
        assert_eq!(process.wait_code(), 0);
        terminal.see("echo-server: connections: 0 open");
        let rows = terminal.rows();
        let at = rows.iter().position(|row| row == "^C").unwrap_or_else(|| panic!("{rows:#?}"));
        assert_eq!(rows[at + 1], "echo-server: shutting down; 0 connections open", "{rows:#?}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn half_typed_command_does_not_reach_the_shell() {
    let mut terminal = Terminal::new();
    let mut shell = terminal.shell();
    terminal.see("$ ");
    terminal.type_in(&format!("{} --console 127.0.0.1:0\n", env!("CARGO_BIN_EXE_echo-server")));
    terminal.see("listening on ");
    terminal.see_row("> ");
    terminal.type_in("echo half-typed");
    terminal.see_row("> echo half-typed");
    terminal.type_in("\x1a"); // Ctrl-Z
    terminal.see("Stopped");
    terminal.type_in("fg\n");
    terminal.see_row("> ");
    terminal.type_in("echo half-typed");
    terminal.see_row("> echo half-typed");
    terminal.unseen();
    kill_process(terminal.foreground(), Signal::TERM).unwrap();
    terminal.see("$ ");
    terminal.type_in("\necho the shell is \'\'empty\n");
    terminal.see("the shell is empty");
    assert!(!terminal.lines().contains(&"half-typed".to_owned()), "{:#?}", terminal.lines());
    terminal.type_in("exit\n");
    assert_eq!(shell.wait_code(), 0);
}

#[test]
fn quit_shuts_down_as_sigterm_does() {
    let (mut server, mut operator) = start(&["127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    operator.write_all(b"quit\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    drop(stream);
    assert_eq!(server.process.wait_code(), 0);
    let warning = "echo-server: warning: shutting down; 1 connection open; waiting for at most 5s; \
                   a second quit ends the server at once";
    assert_eq!((server.out.rest(), server.err.rest()), (vec![], vec![warning.to_owned()]));
}

#[test]
fn second_quit_ends_the_server_at_once_and_is_no_signal() {
    let (mut server, mut operator) = start(&["-g", "60", "127.0.0.1:0"]);
    let mut stream = server.connect();
    ping(&mut stream, b"x");
    operator.write_all(b"quit\nquit\n").unwrap();
    assert_eq!(server.process.wait().code(), Some(0));
    assert_eq!(server.err.rest()[1..], ["echo-server: warning: 1 connection had not finished"]);
}

#[test]
fn quit_after_a_signal_ends_the_server_at_once_and_a_signal_after_quit_is_its_status() {
    for (signal_is_first, code) in [(true, 0), (false, 128 + 15)] {
        let (mut server, mut operator) = start(&["-v", "-g", "60", "127.0.0.1:0"]);
        let mut stream = server.connect();
        ping(&mut stream, b"x");
        let mut quit = || operator.write_all(b"quit\n").unwrap();
        if signal_is_first {
            server.process.signal(Signal::TERM);
        } else {
            quit();
        }
        server.err.next_with("shutting down");
        if signal_is_first {
            quit();
        } else {
            server.process.signal(Signal::TERM);
        }
        assert_eq!(server.process.wait_code(), code);
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn end_of_stdin_ends_only_the_console() {
    let (server, operator) = start(&["127.0.0.1:0"]);
    drop(operator);
    ping(&mut server.connect(), b"x");
    server.process.comes_to_rest(); // the server does not spin
    ping(&mut server.connect(), b"x");
}
