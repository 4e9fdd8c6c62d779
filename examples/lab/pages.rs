//! The files of the page, and the chapters of the guide.
//!
//! Invariant: a page can read no other file. The files of the page are part of the program, and the
//! name of a chapter has only letters.

use std::fs;

const PAGES: [(&str, &str, &str); 7] = [
    ("/", "text/html", include_str!("page.html")),
    ("/page.css", "text/css", include_str!("page.css")),
    ("/page.js", "text/javascript", include_str!("page.js")),
    ("/connections.js", "text/javascript", include_str!("connections.js")),
    ("/elements.js", "text/javascript", include_str!("elements.js")),
    ("/guide.css", "text/css", include_str!("guide.css")),
    ("/guide.js", "text/javascript", include_str!("guide.js")),
];

/// Finds a file of the page, or a chapter of the guide: `/guide/edge` is `05_edge.md`. The number
/// of the chapter does not matter.
pub fn find(path: &str) -> Option<(&'static str, String)> {
    if let Some((_, kind, text)) = PAGES.iter().find(|(name, ..)| *name == path) {
        return Some((kind, (*text).into()));
    }
    let (name, raw) =
        path.strip_prefix("/guide/").map(|name| (name.trim_end_matches(".md"), name.ends_with(".md")))?;
    if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_lowercase()) {
        return None;
    }
    if !raw {
        return Some(("text/html", include_str!("guide.html").into()));
    }
    let ending = format!("_{name}.md");
    let mut entries = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide")).ok()?.flatten();
    let entry = entries.find(|entry| entry.file_name().to_string_lossy().ends_with(&ending))?;
    Some(("text/markdown", fs::read_to_string(entry.path()).ok()?))
}
