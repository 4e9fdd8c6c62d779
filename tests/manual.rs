//! The manual pages and the completions list the options that `--help` lists, and the programs
//! accept them.
//!
//! An option is written `-v` here, or `-b=` if it takes a value.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Output};

use common::{client_command, run, server_command};

type Options = BTreeSet<String>;

const PROGRAMS: [&str; 2] = ["echo-server", "echo-client"];

fn command(program: &str) -> Command {
    if program == "echo-server" { server_command() } else { client_command() }
}

fn path(program: &str, file: &str) -> String {
    format!("src/bin/{program}/{file}")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words among `words` that are options.
fn options(words: impl IntoIterator<Item = impl Into<String>>, take_a_value: bool) -> Options {
    let words = words.into_iter().map(Into::into);
    let options = words.filter(|word| word.starts_with('-') && word.len() > 1);
    options.map(|option| if take_a_value { option + "=" } else { option }).collect()
}

/// ` -b, --buffer SIZE description`; a line that is indented further continues the description.
fn in_help(text: &str) -> Options {
    let entries = text.lines().map(|line| (line, line.trim_start()));
    entries
        .filter(|(line, entry)| entry.starts_with('-') && line.len() - entry.len() < 8)
        .flat_map(|(_, entry)| {
            let (names, _description) = entry.split_once("  ").unwrap_or((entry, ""));
            let words = names.split([' ', ',']).filter(|word| !word.is_empty());
            options(words.clone(), words.clone().any(|word| !word.starts_with('-')))
        })
        .collect()
}

fn help(program: &str) -> Options {
    in_help(&String::from_utf8(run(command(program).arg("--help"), b"").stdout).unwrap())
}

/// `.It Fl b , Fl \-buffer Ar SIZE`
fn in_manual(text: &str) -> Options {
    let items = text.lines().filter_map(|line| line.strip_prefix(".It Fl "));
    items
        .flat_map(|item| {
            let item = item.replace('\\', "");
            let names =
                item.split(" Fl ").map(|part| format!("-{}", part.split(' ').next().unwrap_or_default()));
            options(names, item.contains(" Ar "))
        })
        .collect()
}

/// `local flags='-v --verbose'`, `local with_value='-b --buffer'`
fn in_bash(text: &str) -> Options {
    let list = |name| {
        let (_, rest) = text.split_once(name).unwrap_or_default();
        rest.split('\'').next().unwrap_or_default().split(' ')
    };
    &options(list("local flags='"), false) | &options(list("local with_value='"), true)
}

/// `'(-b --buffer)'{-b+,--buffer=}'[description]:size'`
fn in_zsh(text: &str) -> Options {
    let specifications = text.lines().filter_map(|line| line.split_once('['));
    specifications
        .flat_map(|(names, rest)| {
            let excluded = names.find(")").map_or(0, |end| end + 1);
            let words = names[excluded..].split(|c: char| c != '-' && !c.is_ascii_alphanumeric());
            options(words, rest.contains("]:"))
        })
        .collect()
}

/// `complete -c echo-server -s b -l buffer -x -d 'description'`
fn in_fish(text: &str) -> Options {
    let commands = text.lines().filter_map(|line| line.strip_prefix("complete ")?.split_once(" -d "));
    commands
        .flat_map(|(arguments, _description)| {
            let words: Vec<&str> = arguments.split(' ').collect();
            let names = words.windows(2).filter_map(|pair| match pair {
                ["-s", name] => Some(format!("-{name}")),
                ["-l", name] => Some(format!("--{name}")),
                _ => None,
            });
            options(names, words.iter().any(|word| ["-x", "-r"].contains(word)))
        })
        .collect()
}

/// Returns what the tool prints. If it is not installed, prints a note and returns `None`.
fn tool(name: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(name).args(arguments).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80").output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: {name} is not installed");
            None
        }
        output => Some(output.unwrap()),
    }
}

#[track_caller]
fn assert_silent(output: &Output, what: &str) {
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success() && text.is_empty(), "{what}: {}", String::from_utf8_lossy(&text));
}

#[test]
fn help_manual_and_completions_list_the_same_options() {
    for program in PROGRAMS {
        let help = help(program);
        assert!(help.contains("--help") && help.contains("--timeline="), "{help:?}");
        for (file, parse) in [
            (format!("{program}.1"), in_manual as fn(&str) -> Options),
            (format!("completions/{program}.bash"), in_bash),
            (format!("completions/_{program}"), in_zsh),
            (format!("completions/{program}.fish"), in_fish),
        ] {
            let path = path(program, &file);
            let found = parse(&read(&path));
            let (missing, unknown) = (&help - &found, &found - &help);
            assert!(
                missing.is_empty() && unknown.is_empty(),
                "{path} lacks {missing:?}; --help lacks {unknown:?}"
            );
        }
    }
}

#[test]
fn programs_accept_each_option_of_the_help() {
    for program in PROGRAMS {
        for option in help(program) {
            if let Some(option) = option.strip_suffix('=') {
                let outcome = run(command(program).arg(option), b"");
                assert!(outcome.stderr.contains("needs a value"), "{program} {option}: {}", outcome.stderr);
            } else {
                let outcome = run(command(program).args([&option, "--help"]), b"");
                assert_eq!(outcome.code, 0, "{program} {option}: {}", outcome.stderr);
            }
        }
    }
}

#[test]
fn manual_pages_have_no_warnings() {
    for program in PROGRAMS {
        let path = path(program, &format!("{program}.1"));
        if let Some(output) = tool("mandoc", &["-T", "lint", "-W", "warning", &path]) {
            assert_silent(&output, "mandoc");
        }
        // Other programs of this name do not know the option.
        let is_man_db = |output: &Output| output.stdout.starts_with(b"man 2.");
        if tool("man", &["--version"]).as_ref().is_some_and(is_man_db) {
            let output = tool("man", &["--warnings", "-l", &path]).unwrap();
            let warnings = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && warnings.is_empty(), "man {path}: {warnings}");
            let text = String::from_utf8_lossy(&output.stdout);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "{path} has a line of {widest:?} columns");
        }
    }
}

#[test]
fn shells_accept_their_completions() {
    for program in PROGRAMS {
        for (shell, file) in [
            ("bash", format!("{program}.bash")),
            ("zsh", format!("_{program}")),
            ("fish", format!("{program}.fish")),
        ] {
            if let Some(output) = tool(shell, &["-n", &path(program, &format!("completions/{file}"))]) {
                assert_silent(&output, shell);
            }
        }
    }
}
