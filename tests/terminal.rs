//! `echo-client` on a terminal: half-typed text stays while lines are inserted above it.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use common::{Process, Server, Terminal, client_command, eventually, serve_once};
use rustix::process::Signal;

fn client_with(terminal: &Terminal, arguments: &[&str]) -> Process {
    spawn_on(terminal, client_command().args(arguments))
}

fn client(terminal: &Terminal, address: &str) -> Process {
    client_with(terminal, &[address])
}

fn spawn_on(terminal: &Terminal, command: &mut Command) -> Process {
    Process::spawn(command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio()))
}

/// A server that sends what the test passes to it. When the sender is dropped, it echoes what the
/// client sent, and returns it.
fn scripted_server() -> (String, Sender<Vec<u8>>, JoinHandle<String>) {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    let (address, server) = serve_once(move |mut stream: TcpStream| {
        for bytes in receiver {
            stream.write_all(&bytes).unwrap();
        }
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        stream.write_all(got.as_bytes()).unwrap();
        got
    });
    (address, sender, server)
}

/// A client that shows its prompt on `terminal`, connected to a scripted server.
fn client_at_prompt(mut terminal: Terminal) -> (Terminal, Process, Sender<Vec<u8>>, JoinHandle<String>) {
    let (address, sender, server) = scripted_server();
    let process = client(&terminal, &address);
    terminal.see_row("> ");
    (terminal, process, sender, server)
}

/// Types Ctrl-D and waits for the client to exit.
#[track_caller]
fn end(mut terminal: Terminal, mut process: Process) {
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
}

// ---- lines are inserted above the prompt

#[test]
fn echo_is_inserted_above_the_prompt() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, server.address());
    let connected = format!("echo-client: connected to {}", server.address());
    terminal.see_row("> ");
    assert_eq!(terminal.rows(), [&connected, ">"]);
    for line in ["hello", "and again"] {
        terminal.type_in(&format!("{line}\n"));
        terminal.see(&format!("< {line}"));
        terminal.see_row("> ");
    }
    assert_eq!(terminal.rows(), [&connected, "> hello", "< hello", "> and again", "< and again", ">"]);
    terminal.unseen();
    terminal.type_in("\x04"); // ^D
    assert_eq!(process.wait_code(), 0);
    assert_eq!(terminal.unseen(), "\r\n", "the shell's prompt gets a line of its own");
}

#[test]
fn prompt_is_shown_once_if_the_terminal_does_not_echo() {
    let server = Server::start(&[]);
    for (term, shown) in
        [("xterm", &["< one", "< two", ">"][..]), ("dumb", &[">", "< one", ">", "< two", ">"])]
    {
        let mut terminal = Terminal::new();
        terminal.set_echo_off();
        let mut process = spawn_on(&terminal, client_command().env("TERM", term).arg(server.address()));
        terminal.see_row("> ");
        for line in ["one", "two"] {
            terminal.type_in(&format!("{line}\n"));
            terminal.see(&format!("< {line}"));
            terminal.see_row("> ");
        }
        assert_eq!(terminal.rows()[1..], *shown);
        terminal.type_in("\x04");
        assert_eq!(process.wait_code(), 0);
    }
}

#[test]
fn server_lines_are_shown_while_nobody_types() {
    let (address, lines, server) = scripted_server();
    let mut terminal = Terminal::new();
    let process = client(&terminal, &address);
    terminal.see_row("> ");
    lines.send(b"first\n\n\tsecond\n".to_vec()).unwrap();
    terminal.see("second");
    terminal.see_row("> ");
    assert_eq!(terminal.rows()[1..], ["< first", "<", "<       second", ">"]);
    drop(lines);
    end(terminal, process);
    server.join().unwrap();
}

#[test]
fn line_received_in_pieces_has_one_marker() {
    let (address, lines, server) = scripted_server();
    let mut terminal = Terminal::new();
    let process = client(&terminal, &address);
    terminal.see_row("> ");
    terminal.type_in("half");
    terminal.see_row("> half");
    // The second piece starts in the middle of a character.
    for piece in [&b"he\xe2\x82"[..], b"\xacllo\nno newline"] {
        lines.send(piece.to_vec()).unwrap();
        terminal.see(if piece.starts_with(b"he") { "he" } else { "newline" });
        terminal.see_row("> half");
    }
    assert_eq!(terminal.rows()[1..], ["< he", "  €llo", "< no newline", "> half"]);
    // An incomplete character at the end is shown.
    lines.send(b"\xe2\x82".to_vec()).unwrap();
    drop(lines);
    terminal.type_in("\n");
    terminal.see_row("> ");
    end_and_see(&mut terminal, process, "M-bM-^B");
    server.join().unwrap();
}

#[track_caller]
fn end_and_see(terminal: &mut Terminal, mut process: Process, text: &str) {
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
    terminal.see(text);
}

#[test]
fn lines_typed_at_once_share_one_prompt() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    terminal.type_in("before the connection\nbegin");
    let process = client(&terminal, server.address());
    terminal.see("< before the connection");
    terminal.see_row("> begin");
    let pasted: String = (0..20).map(|number| format!("{number}\n")).collect();
    terminal.type_in(&pasted);
    terminal.see("< 19");
    terminal.see_row("> ");
    let lines = terminal.lines();
    assert!(!lines.iter().any(|line| line.contains("> >")), "{lines:#?}");
    end(terminal, process);
}

#[test]
fn quiet_client_shows_the_prompt_and_no_message() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = client_with(&terminal, &["-q", server.address()]);
    terminal.see_row("> ");
    assert_eq!(terminal.rows(), [">"]);
    end(terminal, process);
}

// ---- half-typed text

/// While lines are inserted above it, half-typed text stays on the screen, can be edited, and is
/// sent.
#[track_caller]
fn assert_half_typed_survives(terminal: &mut Terminal, typed: &str, lines: &[String]) {
    let (address, sender, server) = scripted_server();
    let mut process = client(terminal, &address);
    terminal.see_row("> ");
    terminal.type_in(typed);
    terminal.see_row(&format!("> {typed}"));
    for (number, line) in lines.iter().enumerate() {
        sender.send(format!("{line}\n").into_bytes()).unwrap();
        if number % 10 == 0 {
            terminal.see(&line[line.len() - 4..]); // so that some lines arrive separately and others together
            terminal.see_row(&format!("> {typed}"));
        }
    }
    drop(sender);
    terminal.see(lines.last().map(|line| &line[line.len() - 4..]).unwrap());
    terminal.see_row(&format!("> {typed}"));
    let shown: Vec<String> =
        terminal.lines().into_iter().filter_map(|line| line.strip_prefix("< ").map(str::to_owned)).collect();
    // If a wide character does not fit at the end of a row, that column stays empty.
    let without_spaces = |lines: &[String]| lines.concat().replace([' ', '\t'], "");
    assert_eq!(without_spaces(&shown), without_spaces(lines), "each line is shown once, whole, in order");
    // Erases with Backspace, then types more.
    let edited: String = typed.chars().take(typed.chars().count() - 1).chain("!".chars()).collect();
    terminal.type_in("\x7f!");
    terminal.see_row(&format!("> {edited}"));
    terminal.type_in("\n\x04");
    assert_eq!(server.join().unwrap(), format!("{edited}\n"));
    assert_eq!(process.wait_code(), 0);
}

fn lines(count: usize, text: &str) -> Vec<String> {
    (0..count).map(|number| format!("{text}{number:04}")).collect()
}

#[test]
fn half_typed_text_survives_a_hundred_lines_from_the_top_of_the_screen() {
    assert_half_typed_survives(&mut Terminal::new(), "half typed", &lines(100, "line "));
}

#[test]
fn half_typed_text_survives_a_hundred_lines_at_the_bottom_of_the_screen() {
    let mut terminal = Terminal::with_window(40, 12);
    rustix::io::write(&terminal.line, "what was there before\n".repeat(50).as_bytes()).unwrap();
    assert_half_typed_survives(&mut terminal, "half typed", &lines(100, "line "));
}

#[test]
fn half_typed_text_survives_wide_characters() {
    let mut terminal = Terminal::with_window(21, 7);
    // Characters of width 2 in a window of odd width: none is split.
    assert_half_typed_survives(&mut terminal, "漢字かx", &lines(100, "漢字かな交じり文、🎉한국어 "));
}

#[test]
fn half_typed_text_survives_lines_wider_than_the_window() {
    let widths =
        (0..100).map(|width| format!("{}{}{width:04}", "x".repeat(width * 2), "\tx".repeat(width / 4)));
    assert_half_typed_survives(&mut Terminal::with_window(40, 12), "half", &widths.collect::<Vec<_>>());
}

#[test]
fn half_typed_text_survives_a_line_longer_than_the_screen() {
    let line = (0..1000).map(|number| format!("{number} ")).collect::<String>() + "last";
    let (whole_row, whole_screen) = ("y".repeat(40 - 2), "x".repeat(11 * 40 - 2));
    let mut terminal = Terminal::with_window(40, 12);
    let (address, sender, server) = scripted_server();
    let process = client(&terminal, &address);
    terminal.see_row("> ");
    terminal.type_in("half");
    terminal.see_row("> half");
    sender.send(format!("{whole_row}\n{whole_screen}\n{line}\n").into_bytes()).unwrap();
    drop(sender);
    terminal.see("last");
    terminal.see_row("> half");
    let lines = terminal.lines();
    let expected = format!("<{whole_row}<{whole_screen}<{}", line.replace(' ', ""));
    assert_eq!(lines[1..lines.len() - 1].concat().replace(' ', ""), expected);
    assert!(!lines.iter().any(String::is_empty), "{lines:#?}");
    terminal.type_in("\n");
    end(terminal, process);
    assert_eq!(server.join().unwrap(), "half\n");
}

#[test]
fn half_typed_text_survives_a_resize() {
    let (mut terminal, process, sender, server) = client_at_prompt(Terminal::new());
    terminal.type_in("half typed");
    terminal.see_row("> half typed");
    let sizes = [(40, 12), (13, 3), (200, 50), (80, 24)];
    for (number, (columns, rows)) in sizes.into_iter().enumerate() {
        terminal.resize(columns, rows);
        sender
            .send(format!("a line that is wider than some of the windows {number}\n").into_bytes())
            .unwrap();
        terminal.see(&number.to_string());
        terminal.see_row("> half typed");
    }
    drop(sender);
    terminal.type_in("\x7f!\n");
    end(terminal, process);
    assert_eq!(server.join().unwrap(), "half type!\n");
}

#[test]
fn echo_follows_a_line_that_ctrl_d_has_sent() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = client(&terminal, server.address());
    terminal.see_row("> ");
    terminal.type_in("one\x04"); // ^D sends the half-typed line
    terminal.see("< one");
    terminal.see_row("> ");
    terminal.type_in("two\n");
    terminal.see("  two");
    terminal.see_row("> ");
    assert_eq!(terminal.rows()[1..], ["> one", "< one", "> two", "  two", ">"]);
    end(terminal, process);
}

#[test]
fn verbose_client_logs_its_own_address_on_a_terminal_too() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = client_with(&terminal, &["-v", server.address()]);
    terminal.see_row("> ");
    let rows = terminal.rows();
    let start = format!("echo-client: connected to {} from 127.0.0.1:", server.address());
    assert!(rows.len() == 2 && rows[0].starts_with(&start) && rows[0].ends_with(" ms"), "{rows:#?}");
    end(terminal, process);
}

#[test]
fn half_typed_text_of_several_rows_is_cut_until_ctrl_r_shows_it_again() {
    let (mut terminal, process, sender, server) = client_at_prompt(Terminal::with_window(20, 12));
    terminal.type_in("one two three four five six seven");
    terminal.see_row(" five six seven");
    sender.send(b"a line\n".to_vec()).unwrap();
    drop(sender);
    terminal.see("a line");
    terminal.see_row(" five six seven");
    let rows = terminal.rows();
    assert_eq!(rows[rows.len() - 3..], ["> one two three four", "< a line", " five six seven"]);
    terminal.type_in("\x12"); // ^R: the kernel shows all of it again
    terminal.see_row("ive six seven");
    let rows = terminal.rows();
    assert_eq!(rows[rows.len() - 2..], ["one two three four f", "ive six seven"]);
    terminal.type_in("\n");
    end(terminal, process);
    assert_eq!(server.join().unwrap(), "one two three four five six seven\n");
}

#[test]
fn erased_text_leaves_the_prompt_even_after_a_line_was_inserted() {
    let (mut terminal, process, sender, server) = client_at_prompt(Terminal::new());
    terminal.type_in("\tx");
    terminal.see_row(">       x");
    terminal.type_in("\x7f\x7f");
    terminal.see_row("> ");
    terminal.type_in("half typed");
    terminal.see_row("> half typed");
    sender.send(b"a line\n".to_vec()).unwrap();
    terminal.see("a line");
    terminal.type_in("\x15"); // ^U
    terminal.see_row("> ");
    sender.send(b"another\n".to_vec()).unwrap();
    terminal.see("another");
    terminal.see_row("> ");
    terminal.type_in("\tx");
    terminal.see_row(">       x");
    terminal.type_in("\x7f\x7f");
    terminal.see_row("> ");
    drop(sender);
    end(terminal, process);
    assert_eq!(server.join().unwrap(), "");
}

#[test]
fn messages_and_progress_are_inserted_above_the_prompt() {
    let mut terminal = Terminal::new();
    let (address, server) = serve_once(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        stream.write_all(b"hello\n").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    let mut process = client_with(&terminal, &["--reconnect", "--progress", "-v", &address]);
    terminal.see_row("> ");
    terminal.type_in("hello\nhalf typed");
    terminal.see("6 B sent, 6 B echoed");
    terminal.see_row("> half typed");
    terminal.type_in("\nmore");
    server.join().unwrap(); // the server ends
    terminal.see("reconnecting");
    terminal.see("reconnecting");
    terminal.see_row("> more");
    let lines = terminal.lines();
    for text in ["< hello", "6 B sent, 6 B echoed", "> half typed", "echo-client: warning: "] {
        assert!(lines.iter().any(|line| line.starts_with(text)), "{text} is not at the start in {lines:#?}");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 143);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn messages_wait_while_the_terminal_is_stopped() {
    let (sender, end) = mpsc::channel();
    let (address, server) = serve_once(move |mut stream| {
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(b"x\n").unwrap();
        end.recv().unwrap();
    });
    let mut terminal = Terminal::new();
    let mut process = client_with(&terminal, &["--reconnect", &address]);
    terminal.see_row("> ");
    terminal.type_in("\x13x\n"); // ^S
    process.comes_to_rest(); // the echo cannot be written
    sender.send(()).unwrap();
    server.join().unwrap();
    process.comes_to_rest();
    terminal.type_in("\x11half typed"); // ^Q
    terminal.see("< x");
    terminal.see("closed the connection; reconnecting");
    terminal.see_row("> half typed");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 143);
}

#[test]
fn check_has_a_prompt_and_shows_no_echo() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut process = client_with(&terminal, &["--check", server.address()]);
    terminal.see_row("> ");
    terminal.type_in("hello\n");
    terminal.see("hello");
    terminal.see_row("> ");
    terminal.type_in("\x04");
    assert_eq!(process.wait_code(), 0);
    terminal.see("6 bytes came back");
    let lines = terminal.lines();
    assert_eq!(lines[1..], ["> hello", ">", "echo-client: 6 bytes came back unchanged"]);
}

// ---- the server's bytes are shown as text

/// Requests that a terminal would answer as if somebody typed, and some that change its state.
const REQUESTS: &str = "\x1b[c\x1b[>c\x1b[6n\x1b[5n\x1b[?6n\x1b]0;title\x07\x1b]10;?\x1b\\\x1bP$qm\x1b\\\
    \x1b[21t\x1b[2J\x1b[H\x1b[?25l\x1b[?1049h\x1b[31m\x1b(0\x05\x0e\x1bc\u{9b}6n\u{9d}0;title\u{9c}";

#[test]
fn control_characters_are_shown_as_cat_v_shows_them() {
    let (mut terminal, process, sender, server) = client_at_prompt(Terminal::new());
    terminal.type_in("half typed");
    terminal.see_row("> half typed");
    let bytes = (0..=255).collect::<Vec<u8>>();
    for bytes in [&bytes, REQUESTS.as_bytes(), "\n€ ü 漢\n".as_bytes()] {
        sender.send(bytes.to_vec()).unwrap();
    }
    terminal.see("漢");
    terminal.see_row("> half typed");
    drop(sender);
    let cat = common::run(Command::new("cat").arg("-v"), &[&bytes, REQUESTS.as_bytes()].concat());
    let cat = String::from_utf8(cat.stdout).unwrap();
    let shown = terminal.lines();
    let shown: Vec<&str> = shown.iter().map(|line| line.get(2..).unwrap_or_default()).collect();
    assert_eq!(shown[1..shown.len() - 2].concat(), cat.replace(['\n', '\t'], ""), "a tab is shown as spaces");
    assert_eq!(terminal.rows().last().unwrap(), "> half typed");
    terminal.type_in("\n");
    end(terminal, process);
    assert_eq!(server.join().unwrap(), "half typed\n", "the terminal has typed nothing");
}

#[test]
fn only_the_clients_own_escape_sequences_reach_the_terminal() {
    let (mut terminal, process, sender, server) = client_at_prompt(Terminal::new());
    sender.send([&(0..=255).collect::<Vec<u8>>(), REQUESTS.as_bytes(), b"last\n"].concat()).unwrap();
    drop(sender);
    terminal.type_in("\n");
    let mut shown = String::new();
    eventually("the last line and the prompt are shown", || {
        shown += &terminal.unseen();
        shown.contains("last") && shown.contains('\n')
    });
    let allowed = |c: char| matches!(c, '7' | '8' | 'D' | 'E' | '[');
    for sequence in shown.split('\x1b').skip(1) {
        assert!(sequence.starts_with(allowed), "ESC {sequence:?}");
        if let Some(rest) = sequence.strip_prefix('[') {
            let end = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            assert!(end.starts_with(['@', 'A', 'B', 'C', 'L']), "ESC [{rest:?}");
        }
    }
    let controls = shown.chars().filter(|c| c.is_control() && !['\x1b', '\r', '\n'].contains(c));
    assert_eq!(controls.collect::<String>(), "");
    // The kernel could add its echo after any newline. Only one newline is typed.
    assert_eq!(shown.matches('\n').count(), 1, "{shown:?}");
    end(terminal, process);
    server.join().unwrap();
}

#[test]
fn raw_shows_bytes_unchanged() {
    let (address, sender, server) = scripted_server();
    let mut terminal = Terminal::new();
    let process = client_with(&terminal, &["--raw", &address]);
    sender.send(b"\x1b[31mred\x07\n".to_vec()).unwrap();
    terminal.see("\x1b[31mred\x07\r\n");
    terminal.type_in("hello\n");
    drop(sender);
    end(terminal, process);
    assert_eq!(server.join().unwrap(), "hello\n");
}

#[test]
fn dumb_terminal_gets_no_escape_sequences() {
    for name in [Some("dumb"), Some(""), None] {
        let (address, sender, server) = scripted_server();
        let mut terminal = Terminal::new();
        let mut command = client_command();
        match name {
            Some(name) => command.env("TERM", name),
            None => command.env_remove("TERM"),
        };
        let mut process = spawn_on(&terminal, command.arg(&address));
        terminal.see_row("> ");
        terminal.type_in("half");
        terminal.see_row("> half");
        sender.send(b"one\ntwo\x1b\n".to_vec()).unwrap();
        terminal.see_row("> ");
        terminal.type_in(" typed\n");
        terminal.see("typed");
        process.comes_to_rest(); // the client has read the line
        sender.send(b"three\n".to_vec()).unwrap();
        terminal.see_row("> ");
        let expected = ["> half", "< one", "< two^[", ">  typed", "< three", ">"];
        assert_eq!(terminal.rows()[1..7], expected, "{name:?}");
        drop(sender);
        terminal.type_in("\x04");
        assert_eq!(process.wait_code(), 0);
        assert_eq!(server.join().unwrap(), "half typed\n");
        let shown = terminal.unseen() + &terminal.lines().concat();
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
}

// ---- the shell around the client

fn client_line(arguments: &str) -> String {
    format!("{} {arguments}\n", env!("CARGO_BIN_EXE_echo-client"))
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn prompt_is_shown_again_after_a_stop() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut shell = terminal.shell();
    terminal.see("$ ");
    terminal.type_in(&client_line(server.address()));
    terminal.see("connected");
    terminal.see_row("> ");
    terminal.type_in("half typed");
    terminal.see_row("> half typed");
    terminal.type_in("\x1a"); // ^Z, which discards half-typed text
    terminal.see("Stopped");
    terminal.see("$ ");
    terminal.type_in("fg\n");
    terminal.see_row("> ");
    terminal.type_in("hello\n");
    terminal.see("< hello");
    terminal.see_row("> ");
    terminal.type_in("\x04");
    terminal.see("$ ");
    terminal.type_in("exit\n");
    assert_eq!(shell.wait_code(), 0);
}

#[test]
fn stop_that_no_shell_notices_leaves_one_prompt() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = client(&terminal, server.address());
    terminal.see_row("> ");
    let redrawn = "\x1b8"; // the cursor is restored
    // The text that is typed during the stop, the text that appears then, and the cursor's row.
    let steps = [
        ("hello\nhalf typed", "< hello", "> half typed"),
        ("", redrawn, "> half typed"),
        ("\x7f!", redrawn, "> half type!"),
        ("\nhalf typed\x7f\x15again\n", "< again", "> "),
        ("", redrawn, "> "),
        ("x", redrawn, "> x"),
    ];
    for (typed, shown, row) in steps {
        terminal.unseen_so_far();
        process.signal(Signal::STOP);
        terminal.type_in(typed);
        process.signal(Signal::CONT);
        terminal.see(shown);
        terminal.see_row(row);
    }
    terminal.type_in("\n");
    terminal.see("< x");
    terminal.see_row("> ");
    let typed = ["> hello", "< hello", "> half type!", "again", "< half type!", "< again", "> x", "< x", ">"];
    assert_eq!(terminal.rows()[1..], typed);
    end(terminal, process);
}

#[test]
fn message_after_a_stop_during_which_the_server_has_ended_has_its_own_row() {
    for name in ["xterm", "dumb"] {
        let (sender, end) = mpsc::channel();
        let (address, server) = serve_once(move |stream| {
            end.recv().unwrap();
            drop(stream);
        });
        let mut terminal = Terminal::with_window(100, 12);
        let mut process = spawn_on(&terminal, client_command().arg(&address).env("TERM", name));
        terminal.see_row("> ");
        process.signal(Signal::STOP);
        sender.send(()).unwrap();
        server.join().unwrap();
        process.signal(Signal::CONT); // one turn sees both
        assert_eq!(process.wait_code(), 1);
        terminal.see("closed the connection before the end of the input");
        let rows = terminal.rows();
        assert!(rows.last().unwrap().starts_with("echo-client: "), "{name}: {rows:#?}");
    }
}

#[test]
fn dumb_terminal_shows_the_prompt_again_after_a_stop() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = spawn_on(&terminal, client_command().arg(server.address()).env("TERM", "dumb"));
    terminal.see_row("> ");
    process.signal(Signal::STOP);
    process.signal(Signal::CONT);
    terminal.see_row("> > "); // a shell would have moved the cursor to an empty row
    end(terminal, process);
}

#[test]
fn prompt_is_shown_before_the_first_connection() {
    let dead = common::DeadPort::new();
    let mut terminal = Terminal::new();
    let mut process = client_with(&terminal, &["--reconnect", &dead.1.to_string()]);
    terminal.see("reconnecting");
    terminal.see_row("> ");
    terminal.type_in("hello");
    terminal.see_row("> hello");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 143);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn ctrl_c_leaves_no_empty_row() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut shell = terminal.shell();
    terminal.see("$ ");
    terminal.type_in(&client_line(server.address()));
    terminal.see_row("> ");
    terminal.type_in("\x03");
    terminal.see("$ ");
    terminal.type_in("exit\n");
    assert_eq!(shell.wait_code(), 130);
    terminal.see("exit");
    let rows = terminal.rows();
    let at = rows.iter().position(|row| row.starts_with("> ^C")).unwrap();
    assert_eq!(rows[at + 1], "$ exit", "{rows:#?}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn background_job_shows_no_prompt() {
    let (address, sender, server) = scripted_server();
    let mut terminal = Terminal::new();
    let _shell = terminal.shell();
    terminal.see("$ ");
    terminal.type_in(&client_line(&format!("{address} &")));
    sender.send(b"welcome\n".to_vec()).unwrap();
    terminal.see("< welcome");
    terminal.unseen();
    assert!(!terminal.lines().iter().any(|line| line.contains("> ")), "{:#?}", terminal.lines());
    terminal.type_in("kill -KILL %1\n");
    drop(sender);
    let _ = server.join(); // the killed client may have caused a reset
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn half_typed_text_does_not_reach_the_shell() {
    let mut terminal = Terminal::new();
    let mut shell = terminal.shell();
    terminal.see("$ ");
    for raw in ["", "--raw "] {
        let (sender, end) = mpsc::channel();
        let (address, server) = serve_once(move |mut stream| {
            stream.write_all(b"welcome\n").unwrap();
            end.recv().unwrap();
        });
        terminal.type_in(&client_line(&format!("{raw}{address}")));
        terminal.see("welcome");
        terminal.type_in("echo half-typed");
        terminal.see("echo half-typed");
        sender.send(()).unwrap();
        server.join().unwrap(); // this ends the client
        terminal.see("closed the connection");
        terminal.see("$ ");
        terminal.type_in("\necho the shell is \'\'empty\n");
        terminal.see("the shell is empty");
        assert!(!terminal.lines().contains(&"half-typed".to_owned()), "{:#?}", terminal.lines());
    }
    terminal.type_in("exit\n");
    assert_eq!(shell.wait_code(), 0);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn text_typed_after_ctrl_d_reaches_the_shell() {
    let (address, server) = serve_once(|mut stream| {
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        stream.write_all(got.as_bytes()).unwrap();
        got
    });
    let mut terminal = Terminal::new();
    let mut shell = terminal.shell();
    terminal.see("$ ");
    terminal.type_in(&client_line(&address));
    terminal.see_row("> ");
    terminal.type_in("hello\n\x04exit 7\n");
    assert_eq!(shell.wait_code(), 7);
    assert_eq!(server.join().unwrap(), "hello\n");
}

#[test]
fn terminal_modes_never_change() {
    let modes = |terminal: &Terminal| common::debug(rustix::termios::tcgetattr(&terminal.line).unwrap());
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let before = modes(&terminal);
    let mut process = client(&terminal, server.address());
    terminal.see_row("> ");
    terminal.type_in("hello\nhalf typed");
    terminal.see("< hello");
    terminal.see_row("> half typed");
    assert_eq!(modes(&terminal), before);
    process.signal(Signal::KILL);
    process.wait();
    assert_eq!(modes(&terminal), before);
}

#[test]
fn server_close_ends_the_client_while_nobody_types() {
    let (address, server) = serve_once(drop);
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, &address);
    assert_eq!(process.wait_code(), 1);
    terminal.see(&format!("echo-client: {address} closed the connection before the end of the input"));
    terminal.unseen();
    let last = terminal.lines().pop().unwrap();
    assert!(last.starts_with("echo-client: "), "the message is not on its own line: {last:?}");
    server.join().unwrap();
}

#[test]
fn ctrl_c_ends_the_client_by_sigint() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut process = client(&terminal, server.address());
    terminal.see_row("> ");
    terminal.unseen();
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 130);
    assert_eq!(terminal.unseen(), "", "the shell moves the cursor to a new row");
}

#[test]
fn last_line_has_its_own_row_after_ctrl_c() {
    let server = Server::start(&[]);
    for (option, line) in [
        ("--check", "echo-client: interrupted: 0 of 0 bytes sent came back unchanged"),
        ("--progress", "0 B sent, 0 B echoed, 0 B/s on average"),
    ] {
        let mut terminal = Terminal::new();
        let mut process = client_with(&terminal, &[option, server.address()]);
        terminal.see_row("> ");
        terminal.type_in("half");
        terminal.see("half");
        process.signal(Signal::INT);
        assert_eq!(process.wait_code(), 130);
        terminal.see(line);
        let rows = terminal.rows();
        assert!(rows.ends_with(&["> half".into(), line.into()]), "{rows:?}");
    }
}

#[test]
fn no_prompt_follows_the_signals_of_timeout() {
    let (mut terminal, mut process, _sender, _server) = client_at_prompt(Terminal::new());
    terminal.unseen();
    for signal in [Signal::STOP, Signal::TERM, Signal::CONT] {
        process.signal(signal); // timeout(1) sends the last two
    }
    assert_eq!(process.wait_code(), 143);
    assert_eq!(terminal.unseen(), "\r\n");
}

#[test]
fn last_line_of_a_client_without_a_prompt_has_its_own_row_after_ctrl_c() {
    let server = Server::start(&[]);
    // Only SIGINT comes with an echoed `^C`, and only a line that follows needs a row of its own.
    for (option, signal, end) in [
        ("-v", Signal::INT, "\r\necho-client: bytes: 0 sent"),
        ("-v", Signal::TERM, "echo-client: bytes: 0 sent"),
        ("--progress", Signal::INT, "\r\n0 B sent, 0 B echoed, 0 B/s on average\r\n"),
        ("-4", Signal::INT, ""),
    ] {
        let mut terminal = Terminal::new();
        let mut command = client_command();
        command.args([option, server.address()]).stdin(terminal.stdio()).stdout(Stdio::null());
        let mut process = Process::spawn(command.stderr(terminal.stdio()));
        eventually("the client is connected", || server.open_connections() == 1);
        match option {
            "-v" => terminal.see(" ms\r\n"),
            "--progress" => terminal.see("0 B/s"),
            _ => {}
        }
        terminal.type_in("\x03");
        terminal.see("^C");
        process.signal(signal);
        assert_eq!(process.wait_code(), 128 + signal.as_raw());
        let shown = terminal.unseen();
        assert!(shown.starts_with(end) && (!end.is_empty() || shown.is_empty()), "{option}: {shown:?}");
        eventually("the connection is closed", || server.open_connections() == 0);
    }
}

#[test]
fn hang_up_of_the_terminal_ends_the_client_as_sighup_does() {
    let server = Server::start(&[]);
    for option in ["-4", "--ping"] {
        let (master, line) = common::pseudo_terminal();
        let mut command = client_command();
        command.args([option, server.address()]).stdin(line.try_clone().unwrap()).stderr(Stdio::null());
        let mut process = Process::spawn(command.stdout(line));
        eventually("the client is connected", || server.open_connections() == 1);
        drop(master);
        assert_eq!(process.wait_code(), 129, "{option}");
        eventually("the connection is closed", || server.open_connections() == 0);
    }
}

#[test]
fn write_on_a_terminal_that_has_just_hung_up_ends_the_client_as_sighup_does() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (master, line) = common::pseudo_terminal();
    let (stdin, _open) = common::pipe();
    let mut command = client_command();
    command.arg(listener.local_addr().unwrap().to_string()).stdin(stdin).stdout(line);
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    let (mut stream, _) = listener.accept().unwrap();
    process.comes_to_rest();
    process.signal(Signal::STOP); // so that the client sees both in one turn, the data first
    stream.write_all(b"hello").unwrap();
    drop(master);
    process.signal(Signal::CONT);
    let stderr = common::collect(process.child.stderr.take().unwrap());
    assert_eq!(process.wait_code(), 129);
    assert!(stderr.recv_timeout(common::PATIENCE).unwrap().is_empty());
}

// ---- stdin, stdout or stderr is not a terminal

#[test]
fn message_begins_in_a_row_of_its_own_after_an_unfinished_row_of_the_echo() {
    let server = Server::start(&[]);
    for (option, input, expected) in [
        ("-v", "abc", ["abc", "echo-client: bytes: 3 sent"]),
        ("-v", "abc\n", ["abc", "echo-client: bytes: 4 sent"]),
        ("--progress", "abc", ["abc", "3 B sent"]),
    ] {
        let mut terminal = Terminal::new();
        let mut command = client_command();
        command.args([option, server.address()]).stdin(Stdio::piped()).stdout(terminal.stdio());
        let mut process = Process::spawn(command.stderr(terminal.stdio()));
        process.child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert_eq!(process.wait_code(), 0);
        terminal.see(expected[1]);
        let rows = terminal.rows();
        let last = &rows[rows.len() - 2..];
        assert!(last.iter().zip(expected).all(|(row, start)| row.starts_with(start)), "{rows:#?}");
    }
}

#[test]
fn row_that_ctrl_c_has_ended_is_not_ended_again() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut command = client_command();
    command.args(["-v", server.address()]).stdin(Stdio::piped()).stdout(terminal.stdio());
    let mut process = Process::spawn(command.stderr(terminal.stdio()));
    process.child.stdin.as_mut().unwrap().write_all(b"abc").unwrap();
    terminal.see("abc");
    terminal.type_in("\x03"); // ^C
    terminal.see("^C");
    process.signal(Signal::INT);
    assert_eq!(process.wait_code(), 130);
    terminal.see("bytes: 3 sent");
    let rows = terminal.rows();
    let at = rows.iter().position(|row| row == "abc^C").unwrap_or_else(|| panic!("{rows:#?}"));
    assert!(rows[at + 1].starts_with("echo-client: bytes: 3 sent"), "{rows:#?}");
}

#[test]
fn stdout_that_is_not_a_terminal_gets_only_the_bytes() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut process = Process::spawn(
        client_command()
            .arg(server.address())
            .stdin(terminal.stdio())
            .stdout(Stdio::piped())
            .stderr(terminal.stdio()),
    );
    let stdout = common::collect(process.child.stdout.take().unwrap());
    terminal.type_in("hello\n\x04");
    assert_eq!(process.wait_code(), 0);
    assert_eq!(stdout.recv_timeout(common::PATIENCE).unwrap(), b"hello\n");
    assert_eq!(terminal.unseen(), "hello\r\n", "no prompt, no greeting");
}

#[test]
fn stderr_that_is_not_a_terminal_gets_plain_lines() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut command = client_command();
    command.arg(server.address()).stdin(terminal.stdio()).stdout(terminal.stdio());
    let mut process = Process::spawn(command.stderr(Stdio::piped()));
    let stderr = common::collect(process.child.stderr.take().unwrap());
    terminal.see_row("> ");
    end(terminal, process);
    let stderr = String::from_utf8(stderr.recv_timeout(common::PATIENCE).unwrap()).unwrap();
    assert_eq!(stderr, format!("echo-client: connected to {}\n", server.address()));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn trace_log_on_a_terminal_does_not_keep_the_loop_awake() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let process = client_with(&terminal, &["-vvv", server.address()]);
    terminal.see("> ");
    process.comes_to_rest();
    end(terminal, process);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: /proc")]
fn progress_does_not_keep_an_idle_client_awake() {
    let server = Server::start(&[]);
    let mut terminal = Terminal::new();
    let mut command = client_command();
    command.args(["--progress", server.address()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn(command.stderr(terminal.stdio()));
    let mut stdin = process.child.stdin.take().unwrap();
    terminal.see("0 B sent, 0 B echoed");
    process.comes_to_rest();
    for text in ["5 B sent, 5 B echoed", "10 B sent, 10 B echoed"] {
        stdin.write_all(b"12345").unwrap();
        terminal.see(text);
        process.comes_to_rest();
    }
    drop(stdin);
    assert_eq!(process.wait_code(), 0);
}

#[test]
fn progress_is_not_redrawn_if_the_terminal_is_stdin_or_stdout_too() {
    let server = Server::start(&[]);
    for is_stdin in [true, false] {
        let mut terminal = Terminal::new();
        let mut command = client_command();
        command.args(["--progress", server.address()]).stderr(terminal.stdio());
        if is_stdin {
            command.stdin(terminal.stdio()).stdout(Stdio::null());
            terminal.type_in("\x04");
        } else {
            command.stdout(terminal.stdio());
        }
        assert_eq!(Process::spawn(&mut command).wait_code(), 0);
        assert!(!terminal.unseen().contains("\x1b[K"), "a row is cleared");
        let line = "0 B sent, 0 B echoed, 0 B/s";
        assert_eq!(terminal.rows(), [line.to_owned(), format!("{line} on average")]);
    }
}

#[test]
fn messages_are_inserted_above_the_progress_line() {
    let mut terminal = Terminal::new();
    let (address, server) = serve_once(|mut stream| {
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
    let mut command = client_command();
    command.args(["--progress", "--reconnect", &address]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut process = Process::spawn(command.stderr(terminal.stdio()));
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(b"12345").unwrap();
    terminal.see("5 B sent, 5 B echoed");
    stdin.write_all(b"6").unwrap();
    server.join().unwrap();
    terminal.see("reconnecting");
    terminal.unseen();
    let rows = terminal.rows();
    assert!(rows[0].starts_with("echo-client: warning: "), "{rows:#?}");
    assert!(rows.last().unwrap().contains(" echoed, "), "{rows:#?}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_code(), 143);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn background_job_runs_until_somebody_types() {
    let (address, server) = serve_once(|mut stream| {
        stream.write_all(b"hello\n").unwrap();
        stream
    });
    let scratch = common::Scratch::new();
    let out = scratch.path("out");
    let terminal = Terminal::new();
    // A shell with job control on this terminal. A background job that reads the terminal is
    // stopped.
    let script =
        format!("set -m; {} {address} >{} & wait %1", env!("CARGO_BIN_EXE_echo-client"), out.display(),);
    let mut command = std::process::Command::new("setsid");
    command.args(["--wait", "--ctty", "bash", "-c", &script]);
    let mut shell =
        Process::spawn(command.stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio()));
    eventually("the server's message is written", || {
        std::fs::read(&out).is_ok_and(|text| text == b"hello\n")
    });
    drop(server.join().unwrap()); // this ends the client
    assert_eq!(shell.wait_code(), 1);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn background_job_that_terminal_input_has_stopped_can_be_terminated() {
    let (address, server) = serve_once(|mut stream| stream.read_to_end(&mut Vec::new()));
    let mut terminal = Terminal::new();
    let mut shell = terminal.shell();
    terminal.see("$ ");
    terminal.type_in(&client_line(&format!("-v {address} &")));
    terminal.see("connected to");
    // While the shell waits, only the job can read the next line: the kernel stops it.
    terminal.type_in("sleep 1\n");
    terminal.type_in("jobs\n");
    terminal.see("Stopped");
    terminal.type_in("kill -TERM %1; kill -CONT %1; wait %1; echo status $?\n");
    terminal.see("status 143");
    terminal.type_in("exit\n");
    assert_eq!(shell.wait_code(), 0);
    let _ = server.join().unwrap(); // a program that ends by a signal may leave a reset
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: setsid(1)")]
fn background_job_that_ignores_sigttin_gets_the_end_of_file() {
    let (address, server) = serve_once(|mut stream| stream.read_to_end(&mut Vec::new()).unwrap());
    let mut terminal = Terminal::new();
    let client = env!("CARGO_BIN_EXE_echo-client");
    // The kernel cannot stop such a job, so a read of the terminal fails with EIO.
    let script = format!("set -m; trap '' TTIN; {client} {address} & wait %1");
    let mut command = Command::new("setsid");
    let mut shell = spawn_on(&terminal, command.args(["--wait", "--ctty", "bash", "-c", &script]));
    terminal.type_in("not for the job\n");
    assert_eq!(server.join().unwrap(), 0);
    assert_eq!(shell.wait_code(), 0);
}
