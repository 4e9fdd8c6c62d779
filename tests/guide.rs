//! The guide: each link has a target, and each quoted line is in its file.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const GUIDE: &str = "src/guide";

/// The pages of the guide, by their file names.
fn pages() -> Vec<(String, String)> {
    let mut pages: Vec<_> = fs::read_dir(GUIDE)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .filter(|(name, _)| name != "links.md")
        .collect();
    pages.sort();
    pages
}

/// The link definitions of a page: label and target.
fn definitions(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "))
}

/// The rustdoc target of a link whose target on a code host is `target`.
fn in_rustdoc(label: &str, target: &str) -> String {
    let label = label.trim_matches('`');
    let name = target.rsplit('/').next().unwrap();
    let stem = name.trim_end_matches(".md").trim_end_matches(".rs");
    if target == "README.md" {
        "crate::guide".to_owned()
    } else if target == "steps.md" {
        "crate::guide::steps".to_owned()
    } else if name.ends_with(".md") && target.starts_with("../docs/") {
        format!("crate::docs::{stem}")
    } else if name.ends_with(".md") {
        format!("crate::guide::ch{stem}")
    } else if target.starts_with("../../examples/steps/") {
        format!("crate::guide::steps::step_{stem}")
    } else if !label.contains('/') {
        format!("crate::{}", label.trim_end_matches("()"))
    } else if let Some(file) = target.strip_prefix("../bin/echo-server/") {
        format!("../../../src/echo_server/{file}.html")
    } else {
        format!("../../../src/echo_reactor/{}.html", target.strip_prefix("../").unwrap())
    }
}

/// Whether the item that is the label of a link is in the file. A link to a whole page or file has
/// no such item.
fn has_item(file: &str, label: &str, target: &str) -> bool {
    let item = label.trim_matches('`').rsplit("::").next().unwrap();
    let forms = ["fn ", "struct ", "enum ", "trait "].map(|keyword| format!("{keyword}{item}"));
    let is_there = || forms.iter().any(|form| file.contains(form)) || file.contains(&format!("{item},\n"));
    label.contains('/') || label.ends_with(".rs`") || target.ends_with(".md") || is_there()
}

#[test]
fn links_lead_to_files_and_have_a_target_in_rustdoc() {
    let mut links = BTreeMap::new();
    for (name, page) in pages() {
        for (label, target) in definitions(&page) {
            if !target.starts_with("https://") {
                let file = fs::read_to_string(Path::new(GUIDE).join(target));
                let file = file.unwrap_or_else(|error| panic!("{name}: {label}: {target}: {error}"));
                assert!(has_item(&file, label, target), "{name}: {label} is not in {target}");
                let earlier = links.insert(label.to_owned(), in_rustdoc(label, target));
                let same = earlier.is_none_or(|earlier| earlier == links[label]);
                assert!(same, "{name}: {label} leads to something else in another page");
                let is_used = page.matches(&format!("[{label}]")).count() > 1;
                assert!(is_used, "{name}: {label} is not used");
            }
        }
        let inline = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for target in inline {
            assert!(target.starts_with("https://"), "{name}: define {target} at the end of the page");
        }
    }
    let text: String = links.iter().map(|(label, target)| format!("[{label}]: {target}\n")).collect();
    if std::env::var_os("UPDATE").is_some() {
        fs::write("src/guide/links.md", &text).unwrap();
    }
    let written = fs::read_to_string("src/guide/links.md").unwrap();
    assert_eq!(written, text, "UPDATE=1 cargo test --test guide writes the file again");
}

/// The quoted blocks of a page: language, first line (which names a file), and the rest.
fn blocks(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            blocks.push((language, lines.by_ref().take_while(|line| *line != "```").collect()));
        }
    }
    blocks
}

/// Whether the lines are in the file, one after the other.
fn occurs(lines: &[&str], file: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let all: Vec<&str> = text.lines().map(str::trim).collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    all.windows(lines.len()).any(|window| window == lines)
}

fn assert_occurs(page: &str, quote: &[&str], file: &str) {
    for piece in quote.split(|line| line.trim().trim_start_matches("// ") == "…") {
        assert!(piece.is_empty() || occurs(piece, file), "{page}: not in {file}:\n{}", piece.join("\n"));
    }
}

#[test]
fn quoted_lines_are_in_their_files() {
    let mut count = 0;
    for (name, page) in pages() {
        for (language, lines) in blocks(&page) {
            match language {
                "rust,ignore" => {
                    let file = lines[0].strip_prefix("// ").expect("the first line names the file");
                    assert_occurs(&name, &lines[1..], file);
                }
                "diff" => {
                    let (old, new) = (lines[0].strip_prefix("--- "), lines[1].strip_prefix("+++ "));
                    for (file, other) in [(old.unwrap(), '+'), (new.unwrap(), '-')] {
                        let quote = lines[2..].iter().filter(|line| !line.starts_with(other));
                        let quote: Vec<_> = quote.map(|line| line.get(1..).unwrap_or("")).collect();
                        assert_occurs(&name, &quote, file);
                    }
                }
                "console" => {
                    let step =
                        lines[0].strip_prefix("$ strace step_").expect("the first line names the step");
                    let file = format!("{GUIDE}/strace/{step}.txt");
                    let shown = format!("{}\n", lines[1..].join("\n"));
                    assert_eq!(shown, fs::read_to_string(&file).unwrap(), "{name}: {file} has changed");
                }
                _ => continue,
            }
            count += 1;
        }
    }
    assert!(count >= 20, "{count} quotations");
}

#[test]
fn chapters_with_an_exercise_have_all_their_parts() {
    let pages = pages();
    for (name, page) in &pages[2..12] {
        let exercise = name.trim_end_matches(".md");
        let command = format!("\ncargo test --test exercises ex{exercise} -- --ignored\n");
        assert!(page.contains(&command), "{name}: {command}");
        for part in ["## Guess first", "> **In asyncio.**", "## The real one", "## Exercise"] {
            assert!(page.contains(part), "{name}: {part}");
        }
    }
}

#[test]
fn pages_are_narrow_enough_to_read() {
    for (name, page) in pages() {
        let mut block = None; // its language
        for line in page.lines() {
            if let Some(language) = line.strip_prefix("```") {
                block = if block.is_none() { Some(language) } else { None };
            }
            let limit = match block {
                Some("text") => 90,
                Some(_) => 110, // as in the source
                None if line.trim_start_matches("> ").starts_with(['|', '[']) => continue, // a table, a link
                None => 100,
            };
            assert!(line.chars().count() <= limit, "{name}: {line}");
        }
    }
}
