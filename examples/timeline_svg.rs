//! Draws a timeline (`--timeline FILE`) as a picture: the loop in the first row, and a row for each
//! connection.
//!
//! Run `cargo run --example timeline_svg -- FILE > picture.svg`.
//!
//! Look at the picture: the loop sleeps most of the time, and a connection is called only for a few
//! microseconds at a time. The server does not read from a peer that is behind.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a picture

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

/// The meaning of each colour.
const LEGEND: [(&str, &str); 5] = [
    ("sleep", "the loop sleeps"),
    ("turn", "it runs a turn"),
    ("life", "connected"),
    ("call", "it is called"),
    ("behind", "the peer is behind"),
];

#[derive(Default)]
struct Picture {
    /// The start and the end of the picture in microseconds.
    start: f64,
    end: f64,
    /// Start, end, row and class of each bar.
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

/// An event of the timeline that has a duration.
struct Span<'a> {
    name: &'a str,
    track: u64,
    began: f64,
    ended: f64,
    /// The id of the source that was called.
    id: Option<&'a str>,
}

impl<'a> Span<'a> {
    fn of(event: &'a Value) -> Option<Self> {
        let (began, duration) = (event["ts"].as_f64()?, event["dur"].as_f64()?);
        let (name, track) = (event["name"].as_str()?, event["tid"].as_u64()?);
        Some(Span { name, track, began, ended: began + duration, id: event["args"]["id"].as_str() })
    }
}

impl Picture {
    fn of(events: &[Value]) -> Self {
        let mut picture = Picture { start: f64::MAX, names: vec!["the loop".into()], ..Picture::default() };
        let mut spans: Vec<Span> = events.iter().filter_map(Span::of).collect();
        spans.sort_by(|a, b| a.began.total_cmp(&b.began));
        // Each connection has a row. The rows are in the order of the connections.
        let lives: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("connection ")).collect();
        picture.names.extend(lives.iter().map(|life| life.name.into()));
        for span in &spans {
            // Leave out the sleep before the first connection.
            let is_idle = span.name == "sleep" && lives.first().is_none_or(|life| span.began < life.began);
            if !is_idle {
                picture.start = picture.start.min(span.began);
            }
            picture.end = picture.end.max(if span.name == "sleep" { span.began } else { span.ended });
            let is_life = |life: &&Span| match span.name {
                "the peer is behind" => {
                    life.track == span.track && life.began <= span.began && span.began <= life.ended
                }
                name => name == life.name || life.name.strip_prefix("connection ") == span.id,
            };
            let row = lives.iter().position(is_life).map(|index| index + 1);
            match (span.name, row) {
                ("sleep", _) => picture.bars.push((span.began, span.ended, 0, "sleep")),
                ("turn", _) => picture.bars.push((span.began, span.ended, 0, "turn")),
                (name, Some(row)) => {
                    let kind = match name {
                        "the peer is behind" => "behind",
                        _ if span.id.is_some() => "call",
                        _ => "life",
                    };
                    picture.bars.push((span.began, span.ended, row, kind));
                }
                _ => {}
            }
        }
        picture
    }

    fn svg(&self) -> Result<String, std::fmt::Error> {
        let height = ROW * (self.names.len() as f64 + 2.5);
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
                height - 2.0 * ROW
            )?;
            let label = f64::from(number) * step / 1000.0;
            writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label} ms</text>",
                height - ROW - 8.0
            )?;
        }
        for (row, name) in self.names.iter().enumerate() {
            writeln!(svg, "<text x=\"8\" y=\"{:.1}\">{name}</text>", ROW * (row as f64 + 0.8))?;
        }
        // Draw short bars last, and make them wide enough to be visible.
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
        // The legend is the last row.
        let (mut at, y) = (LEFT, height - ROW);
        for (kind, text) in LEGEND {
            writeln!(
                svg,
                "<rect class=\"{kind}\" x=\"{at}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{BAR}\"/>"
            )?;
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", at + BAR + 6.0, y + BAR - 2.0)?;
            at += BAR + 30.0 + 6.5 * text.len() as f64;
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}
