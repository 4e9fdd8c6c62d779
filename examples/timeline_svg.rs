//! Draws a timeline (`--timeline FILE`) as a picture: the loop on top, and each connection below it.
//!
//! `cargo run --example timeline_svg -- FILE > picture.svg`
//!
//! Look at what one sees: the loop is asleep most of the time, a connection is touched for microseconds in its
//! life, and while a peer is behind, it is not read from.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a picture

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 150.0;
const ROW: f64 = 26.0;
const BAR: f64 = 14.0;

const STYLE: &str = "text { font: 12px sans-serif; fill: #555 } .sleep { fill: #e8eaf0 } .turn { fill: #4a6fa5 } \
                     .life { fill: #dbe7d5 } .behind { fill: #f2b36b } .call { fill: #3d7a3a } .grid { stroke: #eee }";

#[derive(Default)]
struct Picture {
    /// Where the time is: in microseconds.
    start: f64,
    end: f64,
    bars: Vec<(f64, f64, usize, &'static str)>,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: timeline_svg FILE");
        return ExitCode::from(2);
    };
    match draw(Path::new(&path)) {
        Ok(svg) => {
            print!("{svg}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("timeline_svg: cannot draw {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn draw(timeline: &Path) -> Result<String, Box<dyn Error>> {
    let events: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(timeline)?)?;
    Ok(Picture::of(&events).svg()?)
}

impl Picture {
    fn of(events: &[Value]) -> Self {
        let mut picture = Picture { start: f64::MAX, names: vec!["the loop".into()], ..Picture::default() };
        let mut rows: BTreeMap<String, usize> = BTreeMap::new();
        let mut open: BTreeMap<(u64, String), f64> = BTreeMap::new();
        for event in events {
            let (Some(at), Some(name)) = (event["ts"].as_f64(), event["name"].as_str()) else { continue };
            let track = event["tid"].as_u64().unwrap_or(0);
            let end = at + event["dur"].as_f64().unwrap_or(0.0);
            // The sleep before anything happened is of no interest.
            if name != "sleep" || !rows.is_empty() {
                picture.start = picture.start.min(at);
            }
            picture.end = picture.end.max(if name == "sleep" { at } else { end });
            match (event["ph"].as_str().unwrap_or_default(), name) {
                ("X", "sleep") => picture.bars.push((at, end, 0, "sleep")),
                ("X", "turn") => picture.bars.push((at, end, 0, "turn")),
                ("X", _) => {
                    let id = format!("connection {}", event["args"]["id"].as_str().unwrap_or_default());
                    if let Some(&row) = rows.get(&id) {
                        picture.bars.push((at, end, row, "call"));
                    }
                }
                ("B", _) => {
                    open.insert((track, name.into()), at);
                    if name.starts_with("connection") {
                        rows.insert(name.into(), picture.names.len());
                        picture.names.push(name.into());
                    }
                }
                ("E", _) => {
                    let Some(began) = open.remove(&(track, name.into())) else { continue };
                    let kind = if name.starts_with("connection") { "life" } else { "behind" };
                    let owner = open.keys().find(|(of, name)| *of == track && name.starts_with("connection"));
                    let owner =
                        if kind == "life" { Some(name) } else { owner.map(|(_, name)| name.as_str()) };
                    if let Some(&row) = owner.and_then(|owner| rows.get(owner)) {
                        picture.bars.push((began, at, row, kind));
                    }
                }
                _ => {}
            }
        }
        picture
    }

    fn svg(&self) -> Result<String, std::fmt::Error> {
        let height = ROW * (self.names.len() as f64 + 1.5);
        let scale = (WIDTH - LEFT - 10.0) / (self.end - self.start).max(1.0);
        let x = |at: f64| LEFT + (at - self.start).max(0.0) * scale;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\">\n<style>{STYLE}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
        );
        let step = 10_f64.powf(((self.end - self.start) / 4.0).log10().floor());
        for number in 0..=((self.end - self.start) / step) as u32 {
            let at = x(self.start + f64::from(number) * step);
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{:.1}\"/>",
                height - ROW
            )?;
            let label = f64::from(number) * step / 1000.0;
            writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label} ms</text>",
                height - 8.0
            )?;
        }
        for (row, name) in self.names.iter().enumerate() {
            writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{name}</text>", ROW * (row as f64 + 0.8))?;
        }
        // What is short is drawn last, and at least wide enough to be seen.
        for layer in [["sleep", "life"], ["behind", "behind"], ["turn", "call"]] {
            for &(began, ended, row, kind) in self.bars.iter().filter(|bar| layer.contains(&bar.3)) {
                let (from, to) = (x(began), x(ended.min(self.end)));
                let width = (to - from).max(0.6);
                let y = ROW * row as f64 + (ROW - BAR) / 2.0;
                writeln!(
                    svg,
                    "<rect class=\"{kind}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>"
                )?;
            }
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}
