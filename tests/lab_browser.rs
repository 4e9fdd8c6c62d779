//! The laboratory's page in a real browser shows the state of the observed loop.
//!
//! It needs `chromium` (a Debian package), so it runs only on request:
//! `cargo test --test lab_browser -- --ignored`. With `LAB_PICTURES=FOLDER` it keeps a picture of
//! each scenario.

#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

mod common;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use common::{Lab, PATIENCE, Process, Scratch};
use serde_json::{Value, json};

/// A browser, driven over the DevTools protocol through two pipes: messages end with a zero byte.
struct Browser {
    _process: Process,
    commands: ChildStdin,
    messages: Receiver<Value>,
    next: u64,
    session: Value,
    _profile: Scratch,
}

impl Browser {
    fn start() -> Self {
        let profile = Scratch::new();
        // The browser reads commands from descriptor 3 and writes messages to 4.
        let script = "exec chromium --remote-debugging-pipe --headless --no-sandbox --disable-gpu --disable-quic \
                      --no-first-run --disable-background-networking --disable-component-update --disable-sync \
                      --hide-scrollbars --user-data-dir=\"$0\" about:blank 3<&0 4>&1 0</dev/null 1>/dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(profile.path("profile"));
        let mut process =
            Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let commands = process.child.stdin.take().unwrap();
        let mut output = BufReader::new(process.child.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                message.pop();
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            _process: process,
            commands,
            messages,
            next: 0,
            session: Value::Null,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        browser.call("Page.enable", json!({}));
        browser.call("Runtime.enable", json!({}));
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        loop {
            let answer = self.messages.recv_timeout(PATIENCE).expect("the browser answers");
            let name = answer["method"].as_str().unwrap_or_default();
            assert_ne!(name, "Runtime.exceptionThrown", "{answer}");
            if answer["id"] == self.next {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Returns the value of an expression in the page.
    fn eval(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn shows(&mut self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.eval(expression) != true {
            if Instant::now() > deadline {
                panic!("the page does not show: {what}\n{}", self.text("body"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn click(&mut self, selector: &str) {
        let clicked = self.eval(&format!("document.querySelector({selector:?}).click() ?? true"));
        assert_eq!(clicked, true, "{selector}");
    }

    fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "text": key }));
        }
    }

    fn resize(&mut self, (width, height): (u32, u32)) {
        let mobile = width < 700;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Saves pictures if `LAB_PICTURES` is set: at two sizes, light and dark.
    fn picture(&mut self, name: &str) {
        let Some(folder) = env::var_os("LAB_PICTURES") else { return };
        for size in [(1280, 800), (390, 844)] {
            self.resize(size);
            for scheme in ["light", "dark"] {
                let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
                self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
                thread::sleep(Duration::from_millis(250)); // transitions end
                let whole = json!({ "format": "png", "captureBeyondViewport": size.0 < 700 });
                let data = self.call("Page.captureScreenshot", whole)["data"].clone();
                let path = Path::new(&folder).join(format!("{name}-{}-{scheme}.png", size.0));
                fs::write(path, from_base64(data.as_str().unwrap())).unwrap();
            }
        }
        self.resize((1280, 800));
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextets: Vec<u32> = text
        .bytes()
        .filter_map(|byte| alphabet.iter().position(|&one| one == byte))
        .map(|at| at as u32)
        .collect();
    let decode = |four: &[u32]| {
        let bits = four.iter().fold(0, |bits, sextet| bits << 6 | sextet) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    sextets.chunks(4).flat_map(decode).collect()
}

struct Session {
    lab: Lab,
    browser: Browser,
    name: Cell<&'static str>,
}

impl Session {
    fn start() -> Self {
        let (lab, mut browser) = (Lab::start(), Browser::start());
        browser.resize((1280, 800));
        browser.call("Page.navigate", json!({ "url": format!("http://{}/", lab.host) }));
        browser.shows("the scenarios", "document.querySelectorAll('#list button').length > 10");
        browser.shows("the state", "document.querySelectorAll('#slots li').length > 0");
        Session { lab, browser, name: Cell::new("") }
    }

    fn play(&mut self, name: &'static str) {
        self.select(name);
        self.matches();
    }

    fn select(&mut self, name: &'static str) {
        self.name.set(name);
        self.browser.click(&format!("[data-scenario={name}]"));
        let shown = format!(
            "document.querySelector('[data-scenario={name}]').getAttribute('aria-current') === 'true'"
        );
        self.browser.shows("the scenario", &shown);
        self.browser.shows(
            "that the loop is held",
            "document.getElementById('status')?.innerText.startsWith('Held where turn ')",
        );
    }

    /// Runs one call by pressing its key. Returns the state after the call.
    fn step(&mut self) -> Value {
        let before = self.lab.state();
        self.browser.press("c");
        let place = |state: &Value| {
            json!([
                state["loop"]["turn"],
                state["loop"]["phase"],
                state["loop"]["calls"],
                state["loop"]["events"]
            ])
        };
        let what = format!("{}: the loop has made a step after {before:#}", self.name.get());
        let after = self
            .lab
            .state_with(&what, |state| state["site"]["waiting"] == true && place(state) != place(&before));
        self.matches();
        after
    }

    /// Runs one turn by pressing its key.
    fn turn(&mut self) {
        let before = self.lab.state()["loop"]["turn"].as_u64().unwrap();
        self.browser.press("t");
        self.lab.state_with("the loop has made a turn", |state| {
            state["site"]["waiting"] == true
                && state["loop"]["phase"] == "timeout"
                && state["loop"]["turn"].as_u64().unwrap() > before
        });
        self.matches();
    }

    fn run(&mut self) {
        if self.lab.state()["site"]["pace"] != "run" {
            self.browser.click("#run");
        }
    }

    fn then(&mut self, text: &str) {
        let find = format!(
            "[...document.querySelectorAll('#look button')].find((button) => button.innerText === {text:?})"
        );
        assert_eq!(self.browser.eval(&format!("{find}.click() ?? true")), true, "{text}");
    }

    /// Asserts that the page shows the state of the loop: its slots, connections and peers.
    #[track_caller]
    fn matches(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (state, shown) = (self.lab.state(), self.shown());
            let expected = expected(&state);
            if shown == expected {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{}: {shown:#}\nbut the state is {expected:#}",
                self.name.get()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn shown(&mut self) -> Value {
        self.browser.eval(
            "({ slots: [...document.querySelectorAll('#slots li')].map((slot) => slot.querySelector('.id')?.innerText ?? 'vacant'), \
                halves: [...document.querySelectorAll('.pair:not(.gone)')].map((pair) => [pair.dataset.name, \
                    ...['.server .id', '.read .pill', '.write .pill'].map((part) => pair.querySelector(part).innerText)]), \
                phase: document.querySelector('#phases [aria-current]')?.innerText.split('\\n')[0] ?? '', \
                events: document.querySelectorAll('#events li:not(.none)').length, \
                timers: document.querySelectorAll('#timers li:not(.none)').length })",
        )
    }
}

/// Returns the part of the state that the page has to show.
fn expected(state: &Value) -> Value {
    let slots = state["loop"]["slots"].as_array().unwrap();
    let ids: Vec<&Value> =
        slots.iter().map(|slot| if slot["type"].is_null() { &Value::Null } else { &slot["id"] }).collect();
    let mut ids: Vec<Value> =
        ids.into_iter().map(|id| if id.is_null() { json!("vacant") } else { id.clone() }).collect();
    let peers = state["site"]["peers"].as_array().unwrap();
    let halves: Vec<Value> = peers
        .iter()
        .filter_map(|peer| {
            let slot = slots.iter().find(|slot| slot["connection"]["peer"] == peer["name"])?;
            let connection = &slot["connection"];
            Some(json!([peer["name"], slot["id"], connection["read"], connection["write"]]))
        })
        .collect();
    let phase =
        if state["site"]["waiting"] == true { state["loop"]["phase"].as_str().unwrap() } else { "asleep" };
    let phase = match phase {
        "timeout" => "1 time to sleep",
        "poll" | "asleep" => "2 poll",
        "events" => "3 events",
        "timers" => "5 timers",
        _ => "4 queue",
    };
    // The page shows two vacant slots after the last one in use, and how many follow.
    let in_use = ids.iter().rposition(|id| id != "vacant").map_or(0, |last| last + 1);
    ids.truncate(in_use + 3);
    let count = |list: &str| state["loop"][list].as_array().unwrap().len();
    // The events of a poll that is under way are not known yet.
    let is_under_way = state["site"]["waiting"] == false && state["loop"]["phase"] == "timeout";
    let events = if is_under_way { 0 } else { count("events") };
    json!({ "slots": ids, "halves": halves, "phase": phase, "events": events, "timers": count("timers") })
}

#[test]
#[ignore = "needs chromium"]
fn page_shows_the_state_of_the_loop_in_each_scenario() {
    let mut session = Session::start();
    session.browser.picture("start");

    session.play("echo");
    for _ in 0..6 {
        session.step();
    }
    session.browser.shows(
        "the echo",
        "document.getElementById('log')?.innerText.includes('It read 13 bytes and sent 13 bytes.')",
    );
    session.browser.picture("echo");

    session.play("end");
    for _ in 0..6 {
        session.step();
    }
    let log = session.browser.text("#log");
    assert!(log.contains("read-closed") && log.contains("The peer has ended its side."), "{log}");
    session.browser.picture("end");

    session.play("stall");
    session.run();
    session.browser.shows(
        "the stall",
        "document.querySelector('.pair[data-name=A] .read .pill')?.innerText === 'paused'",
    );
    session.then("B sends a line");
    session.browser.shows(
        "B's second echo",
        "document.querySelector('.pair[data-name=B] .peer .facts')?.innerText.includes('read 26 B')",
    );
    session.matches();
    session.browser.picture("stall");
    session.then("A reads again");
    session.browser.shows(
        "that A has read all",
        "document.querySelector('.pair[data-name=A] .peer .facts')?.innerText.includes('read 1024 KiB')",
    );
    session.matches();

    session.play("flood");
    session.run();
    session.browser.shows(
        "B's echo",
        "document.querySelector('.pair[data-name=B] .peer .facts')?.innerText.includes('read 13 B')",
    );
    session.browser.click("[data-do=turn]");
    session.browser.shows(
        "the next turn",
        "document.getElementById('status')?.innerText.startsWith('Held where turn ')",
    );
    for _ in 0..4 {
        session.step();
    }
    session.browser.shows(
        "a budget that is used up",
        "document.getElementById('log')?.innerText.includes('Its budget is used up')",
    );
    session.browser.picture("flood");

    session.play("stale");
    for _ in 0..2 {
        session.turn();
    }
    session.then("A and B send");
    for _ in 0..3 {
        session.step();
    }
    session.browser.shows(
        "the stale event",
        "document.querySelector('#log .stale')?.innerText.includes('the id is stale')",
    );
    session.browser.picture("stale");
    let old = Lab::log(&session.lab.state());
    let id = old.split("The event for ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let (slot, _) = id.split_once('.').unwrap();
    session.then("C connects");
    session.run();
    session.browser.shows(
        "C in B's slot",
        &format!("document.querySelector('.pair[data-name=C] .server .id')?.innerText.startsWith('{slot}.') === true"),
    );
    session.matches();

    // No other client can connect meanwhile, but the page has its connection.
    session.select("exhausted");
    session.browser.click("#run");
    session.browser.shows("the shortage", "document.querySelectorAll('#timers li:not(.none)').length === 1");
    session.browser.picture("exhausted");
    let log = session.browser.text("#log");
    assert!(log.contains("EMFILE: no descriptor is left. The listener tries again in a second."), "{log}");
    session.then("Free the descriptors");
    session.browser.shows("both connections", "document.querySelectorAll('.pair:not(.gone)').length === 2");

    session.play("block");
    session.run();
    session.browser.shows(
        "the blocked loop",
        "document.getElementById('status')?.innerText.startsWith('A call has held the loop')",
    );
    session.browser.picture("block");
    session.browser.shows(
        "the slow call",
        "document.querySelector('#log .slow')?.innerText.includes('blocked the loop for 2')",
    );
    session.matches();

    session.play("timer");
    session.run();
    session.browser.shows("the timer", "document.querySelectorAll('#timers li:not(.none)').length === 1");
    session.browser.picture("timer");
    session.browser.shows(
        "the timer's closure",
        "document.getElementById('log')?.innerText.includes(\"A timer's closure was called.\")",
    );
    session.matches();

    session.play("thread");
    session.step();
    session
        .browser
        .shows("the wake-up", "document.getElementById('events')?.innerText.includes('another thread')");
    session.step();
    session.browser.picture("thread");

    session.play("peer-half-close");
    session.run();
    session.browser.shows(
        "the stall",
        "document.querySelector('.pair[data-name=A] .read .pill')?.innerText === 'paused'",
    );
    session.matches();
    session.browser.picture("peer-half-close");
    session.then("A reads again");
    session.browser.shows(
        "the graceful end",
        "document.querySelector('.pair[data-name=A] .peer .name')?.innerText.includes('closed')",
    );
    session.matches();

    session.play("server-half-close");
    session.run();
    session.browser.shows(
        "the echo",
        "document.querySelector('.pair[data-name=A] .peer .facts')?.innerText.includes('read 13 B')",
    );
    session.then("The server ends its side");
    session.browser.shows(
        "the write half",
        "document.querySelector('.pair[data-name=A] .write .pill')?.innerText === 'shutdown'",
    );
    session.browser.shows(
        "the open read half",
        "document.querySelector('.pair[data-name=A] .read .pill')?.innerText === 'open'",
    );
    session.matches();
    session.browser.picture("server-half-close");

    session.play("linger");
    session.run();
    session.browser.shows(
        "the stall",
        "document.querySelector('.pair[data-name=A] .read .pill')?.innerText === 'paused'",
    );
    session.then("The server closes");
    session.browser.shows(
        "discarding",
        "document.querySelector('.pair[data-name=A] .read .pill')?.innerText === 'discarding'",
    );
    session.matches();
    session.browser.picture("linger");

    session.play("full-speed");
    session.run();
    session.browser.shows(
        "the rate",
        "/The loop runs: [0-9,]+ turns/.test(document.getElementById('status').innerText)",
    );
    session.browser.picture("full-speed");
    session.browser.press(" ");
    session
        .browser
        .shows("that it is held", "document.getElementById('status')?.innerText.startsWith('Held')");
    session.step();
    session.step();

    session.browser.click("#log a");
}

#[test]
#[ignore = "needs chromium"]
fn keys_command_the_loop_and_a_lost_laboratory_is_named() {
    let mut session = Session::start();
    let status = |text: &str| format!("document.getElementById('status').innerText.includes('{text}')");
    // A scenario was chosen with a click: Space runs the loop, and does not choose it again.
    session.play("stall");
    assert_eq!(session.browser.eval("document.querySelector('button.main').id"), "run", "as the text says");
    session.browser.press(" ");
    session.browser.shows("that it runs", "document.getElementById('run').innerText.startsWith('Hold')");
    session.browser.press(" ");
    session.browser.shows("that it is held", "document.getElementById('run').innerText.startsWith('Run')");
    session.browser.eval("document.getElementById('rate').focus()"); // its keys are digits
    session.browser.press("c");
    session.browser.press("t");
    session.browser.press("s");
    session.browser.shows("slow motion", "document.getElementById('slow').ariaPressed === 'true'");

    (0..6).for_each(|_| session.lab.command(r#"{"do":"connect"}"#));
    session.browser.shows(
        "why a ninth peer cannot connect",
        "document.getElementById('connect').title.includes('eight')",
    );

    let address = session.lab.host.clone();
    drop(session.lab);
    session.browser.shows("that the laboratory does not answer", &status("does not answer"));
    assert_eq!(session.browser.eval("document.getElementById('main').inert"), true);
    session.lab = Lab::start_at(&address);
    session.browser.shows("the new loop", &status("sleeps in its poll"));
    assert_eq!(session.browser.eval("document.getElementById('main').inert"), false);
}
