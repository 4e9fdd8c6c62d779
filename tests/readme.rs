//! What the README shows is what there is.

#![allow(missing_docs)] // a test says what it means by its name

use std::fs;

/// The file without its header.
fn program(example: &str) -> String {
    let text = fs::read_to_string(format!("examples/{example}.rs")).unwrap();
    let lines: Vec<&str> =
        text.lines().skip_while(|line| line.starts_with("//!") || line.is_empty()).collect();
    lines.join("\n")
}

#[test]
fn the_three_servers_of_the_documentation_are_the_examples() {
    let page = fs::read_to_string("src/docs/styles.md").unwrap();
    for example in ["protocol_server", "stream_server", "sock_server"] {
        assert!(page.contains(&program(example)), "{example} has changed: show it in src/docs/styles.md");
    }
}
