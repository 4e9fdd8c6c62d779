//! The README and the documentation match the programs, the examples and the tests.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use common::{Scratch, Server};

/// The file without its header.
fn program(example: &str) -> String {
    let text = fs::read_to_string(format!("examples/{example}.rs")).unwrap();
    let lines: Vec<&str> =
        text.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
    lines.join("\n")
}

#[test]
fn servers_of_the_documentation_are_the_examples() {
    let page = fs::read_to_string("src/docs/styles.md").unwrap();
    for example in ["protocol_server", "stream_server", "sock_server"] {
        assert!(page.contains(&program(example)), "{example} has changed: show it in src/docs/styles.md");
    }
}

/// The commands of the README, each with the output that it shows.
fn commands() -> Vec<(String, String)> {
    let readme = fs::read_to_string("README.md").unwrap();
    let blocks = readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut commands = Vec::<(String, String)>::new();
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    commands
}

/// Figures and ports differ from run to run.
fn without_figures(text: &str) -> String {
    text.split(|c: char| c.is_ascii_digit()).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("#")
}

#[test]
fn commands_of_the_readme_print_what_it_shows() {
    let scratch = Scratch::new();
    let server = Server::start(&[]);
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_echo-server")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), env::var("PATH").unwrap());
    let mut count = 0;
    for (command, expected) in commands() {
        if command.starts_with("cargo ") {
            continue; // .ci/run has those
        }
        // The README's server has the default port, which may be in use here.
        let text = command.replace("echo-client ", &format!("echo-client {} ", server.address()));
        let run = Command::new("bash")
            .args(["-c", &format!("{text} 2>&1")])
            .env("PATH", &path)
            .env_remove("RUST_LOG")
            .current_dir(scratch.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let output = String::from_utf8(run.stdout).unwrap();
        assert_eq!(without_figures(&output), without_figures(&expected), "{command}\n{output}");
        assert!(run.status.success(), "{command}: {:?}", run.status);
        count += 1;
    }
    assert!(count >= 5, "{count} commands");
}

#[test]
fn index_of_the_tests_has_one_line_for_each_file() {
    let page = fs::read_to_string("tests/README.md").unwrap();
    let mut listed: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once(".rs`: "))
        .map(|(name, _)| name.to_owned())
        .collect();
    let mut files: Vec<_> = fs::read_dir("tests")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    // A folder with a `main.rs` is a test, too.
    let folders = fs::read_dir("tests").unwrap().map(|entry| entry.unwrap());
    files.extend(
        folders
            .filter(|entry| entry.path().join("main.rs").exists())
            .map(|entry| format!("{}/main", entry.file_name().to_str().unwrap())),
    );
    listed.sort();
    files.sort();
    assert_eq!(listed, files, "tests/README.md has one line for each file in tests/");
}

#[test]
fn each_example_has_a_line_in_the_index() {
    let index = fs::read_to_string("examples/README.md").unwrap();
    assert!(index.lines().count() <= 80, "the index is too long");
    for folder in ["", "bench/", "steps/", "systemd/"] {
        for entry in fs::read_dir(format!("examples/{folder}")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let example = name.strip_suffix(".rs").unwrap_or(&name);
            if ["README.md", "bench", "steps", "systemd", "timeline.svg"].contains(&example) {
                continue;
            }
            let cell = format!("| `{folder}{example}` | ");
            assert!(index.contains(&cell), "examples/README.md has no line for {folder}{name}");
        }
    }
}
