//! The errors of both programs for wrong arguments and for addresses that do not work.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::fs::{self, File};
use std::process::{Command, Stdio};

use common::{
    DeadPort, Outcome, Process, Scratch, Server, assert_one_line, client_command, has_ipv6, run,
    server_command,
};

fn server(arguments: &[&str]) -> Outcome {
    run(server_command().args(arguments), b"")
}

fn client(arguments: &[&str]) -> Outcome {
    run(client_command().args(arguments), b"")
}

#[test]
fn help_and_version_go_to_stdout() {
    for run in [server, client] {
        for flag in ["-h", "--help", "-V", "--version"] {
            let outcome = run(&[flag]);
            assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
            assert!(!outcome.stdout.is_empty());
        }
    }
    assert!(String::from_utf8(server(&["-V"]).stdout).unwrap().starts_with("echo-server 0."));
    assert!(String::from_utf8(client(&["-V"]).stdout).unwrap().starts_with("echo-client 0."));
    let help = String::from_utf8(server(&["-h"]).stdout).unwrap();
    for option in ["--max-connections", "--idle-timeout", "--buffer", "--backlog", "--reuse-port", "--grace"]
    {
        assert!(help.contains(option), "{option}");
    }
    assert!(help.lines().all(|line| line.len() <= 80));
}

#[test]
fn help_is_at_most_79_columns_wide_and_ends_with_examples() {
    for (name, run) in [("echo-server", server as fn(&[&str]) -> Outcome), ("echo-client", client)] {
        let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
        assert!(help.lines().all(|line| line.chars().count() <= 79), "{help}");
        let (_, examples) = help.split_once("\nExamples:\n").unwrap();
        assert!(examples.lines().all(|line| line.starts_with(&format!("  {name}"))), "{help}");
    }
}

#[test]
fn timeline_cannot_be_a_file_that_is_a_standard_stream() {
    let scratch = Scratch::new();
    let (path, link) = (scratch.path("file"), scratch.path("link"));
    fs::write(&path, "text").unwrap();
    fs::hard_link(&path, &link).unwrap();
    for program in [server_command as fn() -> Command, client_command] {
        for stream in 0..3 {
            let file = || File::options().append(true).read(true).open(&path).unwrap();
            let mut command = program();
            command.arg("--timeline").arg(&link);
            match stream {
                0 => command.stdin(file()).stdout(Stdio::null()),
                1 => command.stdout(file()),
                _ => command.stdout(Stdio::null()).stderr(file()),
            };
            assert_eq!(Process::spawn(&mut command).wait_code(), 2);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("text"), "the file was truncated: {text}");
        }
    }
    let text = fs::read_to_string(&path).unwrap(); // the messages of the third runs
    let reason = format!(
        "invalid value '{}' for --timeline: it is this program's standard input, output or error (see --help)",
        link.display()
    );
    assert_eq!(text, format!("textecho-server: {reason}\necho-client: {reason}\n"));
    // Any other file is replaced.
    let (other, dead) = (scratch.path("other"), DeadPort::new());
    fs::write(&other, "text").unwrap();
    let mut command = client_command();
    command.arg("--timeline").arg(&other).arg(dead.1.to_string()).stdin(File::open(&path).unwrap());
    assert_eq!(Process::spawn(&mut command).wait_code(), 1);
    assert!(fs::read_to_string(&other).unwrap().starts_with('['));
}

#[test]
fn usage_error_is_one_line_and_exits_2() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--foo"], &["unknown option '--foo'"]),
        (&["-x"], &["unknown option '-x'"]),
        (&["localhost:nonsense"], &["bad address 'localhost:nonsense'", "known service"]),
        (&["7777"], &["bad address '7777'", "expected HOST:PORT or :7777"]),
        (&["[::1]"], &["bad address '[::1]'", "the port is missing; type [::1]:7777"]),
        (&["http://localhost:7777/"], &["it is a URL; expected only HOST:PORT, such as 'localhost:7777'"]),
        (&["*:7777"], &["bad address '*:7777'", "for every interface, type :7777"]),
        (&["[fe80::1]:7"], &["bad address '[fe80::1]:7'", "needs an interface, such as fe80::1%eth0"]),
        (&["--spin", "1e9h"], &["invalid value '1e9h' for --spin: expected a duration"]),
        (&["--spin", "999999h"], &["invalid value '999999h' for --spin: must be at most 277777 hours"]),
        (&["-4", "-6", "127.0.0.1:1"], &["it is not an IPv6 address"]),
        (&["-6", "-4", "[::1]:1"], &["it is not an IPv4 address"]),
        (&["-4", "unix:/x"], &["option '-4' cannot be used with a Unix socket"]),
        (&["UNIX-CONNECT:/x"], &["bad address 'UNIX-CONNECT:/x'", "the address is unix:/x"]),
        (&["-6", "127.0.0.1:1"], &["bad address '127.0.0.1:1'", "it is not an IPv6 address"]),
        (&["127.0.0.1:99999"], &["bad address '127.0.0.1:99999'", "65535"]),
        (&["::1:7777"], &["bad address '::1:7777'", "[::1]:7777"]),
        (&["unix:"], &["bad address 'unix:'", "empty"]),
        (&["two\nlines"], &["bad address 'two\\nlines'", "control characters"]),
        (&["--two\u{9b}lines"], &["unknown option '--two\\u{9b}lines'"]),
        (&["--verbose=x"], &["option '--verbose' takes no value"]),
        (&["--help=x"], &["option '--help' takes no value"]),
        (&["--version="], &["option '--version' takes no value"]),
        (&["--timeline="], &["invalid value '' for --timeline: the name is empty"]),
        (&["--timeline", "-"], &["invalid value '-' for --timeline: expected a file; type ./- if it is one"]),
        (
            &["--timeline", "/dev/stdout"],
            &["invalid value '/dev/stdout' for --timeline: expected a file that nothing else writes to"],
        ),
        (
            &["--timeline", ":7"],
            &["invalid value ':7' for --timeline: expected a file; type ./:7 if it is one"],
        ),
        (&["localhost/7777"], &["for a Unix socket, the address is unix:localhost/7777"]),
    ];
    for (arguments, parts) in cases {
        for (name, run) in [("echo-server", server as fn(&[&str]) -> Outcome), ("echo-client", client)] {
            let outcome = run(arguments);
            assert_eq!((outcome.code, outcome.stdout.len()), (2, 0), "{arguments:?}");
            assert_one_line(&outcome.stderr, parts);
            assert_one_line(&outcome.stderr, &[&format!("{name}: "), "(see --help)"]);
        }
    }
}

#[test]
fn non_utf8_argument_is_escaped_in_the_error() {
    use std::os::unix::ffi::OsStrExt;
    for (argument, expected) in [
        (&b"a\xff:1"[..], "bad address 'a\\xff:1': it is not UTF-8"),
        (b"--timeline\xff", "unknown option "),
        (b"--spin=\xff", "invalid value '\\xff' for --spin: it is not UTF-8"),
    ] {
        for command in [&mut server_command(), &mut client_command()] {
            let outcome = run(command.arg(std::ffi::OsStr::from_bytes(argument)), b"");
            assert_eq!(outcome.code, 2);
            assert_one_line(&outcome.stderr, &[expected]);
        }
    }
}

#[test]
fn invalid_value_is_reported_with_its_option() {
    for (option, value) in [
        ("--max-connections", "0"),
        ("--max-connections", "-1"),
        ("--max-connections", "many"),
        ("--buffer", "0"),
        ("--buffer", "64KB"),
        ("--buffer", "99999999999999999999"),
        ("--idle-timeout", "0"),
        ("--idle-timeout", "nan"),
        ("--idle-timeout", "inf"),
        ("--idle-timeout", "-1"),
        ("--idle-timeout", "1e300"),
        ("--grace", "soon"),
        ("--backlog", "0"),
        ("--backlog", "70000"),
        ("--max-connections", "1048577"),
        ("-c", "0"),
        ("-i", "0"),
        ("-b", "1025M"),
        ("-g", "x"),
    ] {
        let outcome = server(&[option, value]);
        assert_eq!(outcome.code, 2, "{option} {value}");
        assert_one_line(&outcome.stderr, &[&format!("'{value}' for {option}: "), "(see --help)"]);
    }
    for (option, value) in
        [("--timeout", "0"), ("-w", "0"), ("--connect-timeout", "0"), ("--connect-timeout", "x")]
    {
        let outcome = client(&[option, value]);
        assert_eq!(outcome.code, 2, "{option} {value}");
        assert_one_line(&outcome.stderr, &[&format!("'{value}' for {option}: "), "(see --help)"]);
    }
    for (option, value, limit) in [
        ("-c", "1048577", "1048576"),
        ("-b", "1025M", "1G"),
        ("-b", "99999999999999999999", "1G"),
        ("--backlog", "65536", "65535"),
    ] {
        let reason = format!("invalid value '{value}' for {option}: must be at most {limit} (see --help)");
        assert_one_line(&server(&[option, value]).stderr, &[&reason]);
    }
    for value in ["many", "-1", ""] {
        let reason = format!("invalid value '{value}' for -c: expected a whole number (see --help)");
        assert_one_line(&server(&["-c", value]).stderr, &[&reason]);
    }
    let outcome = server(&["--buffer"]);
    assert_eq!(outcome.code, 2);
    assert_one_line(&outcome.stderr, &["option '--buffer' needs a value"]);
}

#[test]
fn every_option_syntax_is_accepted() {
    // The options are parsed before the bad address ends the program.
    for arguments in [
        &["--buffer", "4K", "bad:"][..],
        &["--buffer=4K", "bad:"],
        &["-b", "4K", "bad:"],
        &["-b4K", "bad:"],
        &["-vvv", "-q", "-c1", "bad:"],
        &["--", "bad:"],
        &["-g0", "--idle-timeout=250ms", "bad:"],
    ] {
        assert_one_line(&server(arguments).stderr, &["bad address 'bad:'"]);
    }
    let outcome = server(&["--", "--help:"]);
    assert_one_line(&outcome.stderr, &["bad address '--help:'"]);
}

#[test]
fn client_takes_one_address_in_one_or_two_arguments() {
    for (arguments, reason) in [
        (&["127.0.0.1:1", "127.0.0.1:2"][..], "unexpected argument '127.0.0.1:2'"),
        (&["127.0.0.1", "1", "2"], "unexpected argument '2'"),
        (&["localhost:", "7"], "bad address 'localhost:': the port after the colon is missing"),
        (&["localhost", ""], "bad address 'localhost ': the port is empty"),
        (&["", "7"], "bad address ' 7': the host is empty"),
        (
            &["--source", "::1:5555"],
            "invalid value '::1:5555' for --source: an IPv6 address needs brackets: [::1]:5555",
        ),
        (&["-", ":1"], "bad address '- :1': '-' is not a host"),
        (&["unix", "/x"], "bad address 'unix /x': 'unix' is not a host; for a Unix socket, the address is"),
        (&["run/x", "7"], "bad address 'run/x 7': for a Unix socket, the address is unix:run/x:7"),
        (&["--check", "--raw"], "option '--raw' cannot be used with --check: no echo is shown"),
        (&["localhost", "nosuch"], "bad address 'localhost nosuch': 'nosuch' is neither a port number"),
        (&["127.0.0.1:0"], "bad address '127.0.0.1:0': nobody can connect to port 0"),
        (&["localhost", "0"], "bad address 'localhost:0': nobody can connect to port 0"),
        (&["--source", "nowhere", "localhost"], "invalid value 'nowhere' for --source"),
        (&["-4", "--source", "::1"], "option '--source' needs an IPv4 address"),
        (&["--source", "127.0.0.1", "[::1]:1"], "'[::1]:1': it is not an IPv4 address, as --source is"),
        (&["--source", "127.0.0.1", "unix:/x"], "option '--source' cannot be used with a Unix socket"),
    ] {
        let outcome = client(arguments);
        assert_eq!((outcome.code, outcome.stdout.len()), (2, 0), "{arguments:?}");
        assert_one_line(&outcome.stderr, &["echo-client: ", reason, "(see --help)"]);
    }
}

#[test]
fn name_without_an_address_of_the_family_of_the_source_is_an_error() {
    for (option, value, reason) in
        [("-6", "-6", "IPv6 address"), ("--source", "::1", "IPv6 address, as --source is")]
    {
        let outcome = client(&[option, value, "127.1:1"]); // the resolver takes this for an IPv4 address
        assert_eq!(outcome.code, 1);
        assert_eq!(outcome.stderr, format!("echo-client: cannot resolve 127.1: it has no {reason}\n"));
    }
}

#[test]
fn server_takes_two_arguments_as_two_addresses() {
    for (host, expected) in [("localhost", "localhost:7777"), ("127.0.0.1", "127.0.0.1:7777")] {
        let outcome = server(&[host, "7777"]);
        assert_eq!((outcome.code, outcome.stdout.len()), (2, 0));
        let reason = format!("bad address '{host} 7777': these are two addresses; type {expected}");
        assert_one_line(&outcome.stderr, &[&reason]);
    }
    assert_one_line(&server(&["[::1]:1", "7777"]).stderr, &["bad address '7777': it is only a port"]);
}

#[test]
fn last_verbosity_option_wins() {
    for (options, expected) in [(&["-v", "-q"][..], false), (&["-q", "-v"], true)] {
        let server = Server::start(options);
        server.process.signal(rustix::process::Signal::TERM);
        assert_eq!(!server.err.rest().is_empty(), expected, "{options:?}");
    }
}

#[test]
fn missing_descriptors_are_reported_with_the_remedy() {
    for program in [server_command(), client_command()] {
        let path = program.get_args().last().unwrap_or(program.get_program());
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit -n 5; exec "$0" 127.0.0.1:1"#])
            .arg(path);
        let outcome = run(&mut shell, b"");
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &[": cannot ", ": Too many open files, see 'ulimit -n'\n"]);
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux: the text of EADDRNOTAVAIL")]
fn listen_error_names_the_address_and_the_reason() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let scratch = Scratch::new();
    let file = format!("unix:{}", scratch.file("file", b"precious").display());
    for (address, reason) in [
        (taken.as_str(), "Address already in use"),
        ("unix:/nonexistent/socket", "No such file or directory"),
        ("192.0.2.1:7777", "Cannot assign requested address"),
        (&file, "the file exists and is not a socket"),
    ] {
        let outcome = server(&[address]);
        assert_eq!((outcome.code, outcome.stdout.len()), (1, 0), "{address}");
        let expected = format!("echo-server: cannot listen on {address}: {reason}\n");
        assert_eq!(outcome.stderr, expected);
    }
}

#[test]
fn connect_error_lists_every_address_tried() {
    let dead = DeadPort::new();
    let outcome = client(&[&dead.1.to_string()]);
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stderr, format!("echo-client: cannot connect to {}: Connection refused\n", dead.1));
    let outcome = client(&[&format!(":{}", dead.1.port())]);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &[&format!("127.0.0.1:{}: ", dead.1.port())]);
    if has_ipv6() {
        assert_one_line(&outcome.stderr, &[&format!("; [::1]:{}: ", dead.1.port())]);
    }
    let outcome = client(&["unix:/nonexistent/socket"]);
    assert_one_line(&outcome.stderr, &["unix:/nonexistent/socket: No such file or directory"]);
}

#[test]
fn unknown_host_is_named_in_the_error() {
    for run in [server, client] {
        let outcome = run(&["no.such.host.invalid:7777"]);
        assert_eq!(outcome.code, 1);
        assert_one_line(&outcome.stderr, &["cannot resolve no.such.host.invalid: "]);
        let outcome = run(&["no.such.sock"]);
        assert_eq!(outcome.code, 1);
        assert_one_line(
            &outcome.stderr,
            &["cannot resolve no.such.sock: ", "; a Unix socket is unix:no.such.sock"],
        );
    }
    let outcome = client(&["--ping", "--json", "-c", "2", "no.such.host.invalid"]);
    assert_eq!(outcome.code, 1);
    assert_one_line(&outcome.stderr, &["cannot resolve no.such.host.invalid: "]);
    assert_one_line(str::from_utf8(&outcome.stdout).unwrap(), &[r#""lost": 2, "not_sent": 2, "#]);
}
