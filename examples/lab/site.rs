//! The loop that serves the page: HTTP with an `async fn` per connection, and the peers.
//!
//! Invariant: only the page itself may command the loop. A request must name this host (`Host`). If
//! a browser sends it for another page, its `Origin` shows that, and the request is refused. A page
//! that reads too slowly misses samples. A page that reads nothing for a while is disconnected.
//!
//! Read next: `pages.rs`, the files that are served; `page.js`, the code in the browser.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use echo_reactor::{Address, Either, ListenOptions, Reactor, Reader, Writer, race, start_server};
use serde_json::{Value, json};

use crate::gate::Pace;
use crate::http::{self, Refused, Request};
use crate::lab::Lab;
use crate::log::Entry;
use crate::observed::Observed;
use crate::pages;
use crate::peers::Peers;
use crate::scenarios;
use crate::watcher::INTERVAL;

const MOST_CONNECTIONS: usize = 256;
/// The time within which a request must arrive, and a page must read.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time without a free descriptor.
const SHORTAGE: Duration = Duration::from_secs(15);

const PHASES: [&str; 5] = ["timeout", "poll", "events", "queue", "timers"];

pub struct Site {
    lab: Arc<Lab>,
    observed: Observed,
    peers: RefCell<Peers>,
    /// The scenario that is set up, and the number of its first log entry.
    scenario: Cell<(&'static str, u64)>,
    /// Whether a scenario is being set up.
    is_setting_up: Cell<bool>,
    /// Open files that use up the descriptors.
    files: RefCell<Vec<File>>,
    port: Cell<u16>,
    /// The number and the text of the state that the pages show.
    state: RefCell<(u64, String)>,
    /// The pages that wait for the next state.
    waiting: RefCell<Vec<Waker>>,
}

/// Serves the page on `address`. Returns the address with its port.
pub fn serve(
    reactor: &mut Reactor,
    address: &Address,
    lab: Arc<Lab>,
    observed: Observed,
) -> io::Result<Address> {
    let peers = RefCell::new(Peers::new(lab.clone(), observed.address.clone()));
    let site = Rc::new(Site {
        lab,
        observed,
        peers,
        scenario: Cell::new(("", 0)),
        is_setting_up: Cell::new(false),
        files: RefCell::default(),
        port: Cell::new(0),
        state: RefCell::default(),
        waiting: RefCell::default(),
    });
    let mut options = ListenOptions::default();
    options.max_connections = Some(MOST_CONNECTIONS);
    let handler = {
        let site = site.clone();
        move |reader, writer| {
            let conversation = converse(site.clone(), reader, writer);
            async { conversation.await.or(Ok(())) } // a page may disconnect at any time
        }
    };
    let listener = start_server(reactor, std::slice::from_ref(address), &options, handler)?;
    let own = listener.addresses(reactor)?.remove(0);
    if let Address::Tcp(address) = own {
        site.port.set(address.port());
    }
    site.refresh(reactor);
    Ok(own)
}

/// Answers the requests of one connection.
async fn converse(site: Rc<Site>, mut reader: Reader, mut writer: Writer) -> io::Result<()> {
    let (handle, mut pending) = (reader.handle(), Vec::new());
    loop {
        let Ok(request) = handle.timeout(TIMEOUT, http::read(&mut reader, &mut pending)).await else {
            return Ok(());
        };
        let request = match request {
            Ok(Some(Ok(request))) => request,
            Ok(Some(Err(why))) => return refuse(&mut writer, &why, false).await,
            Ok(None) | Err(_) => return Ok(()),
        };
        if let Err(why) = site.check(&request) {
            return refuse(&mut writer, &why, false).await;
        }
        if request.method == "GET" && ["/events", "/state"].contains(&request.path.as_str()) {
            let site = site.clone();
            handle.call(move |reactor| site.compose(reactor)).await; // the stream begins with the current state
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let keep_alive = request.keep_alive;
        match (request.method.as_str(), path) {
            ("GET", "/events") => return site.stream(&mut reader, &mut writer).await,
            ("GET", "/state") => {
                let text = format!("{{{}}}", site.state.borrow().1);
                http::answer(&mut writer, "200 OK", "application/json", text.as_bytes(), keep_alive).await?;
            }
            ("GET", "/scenarios") => {
                let text = scenarios::to_json().to_string();
                http::answer(&mut writer, "200 OK", "application/json", text.as_bytes(), keep_alive).await?;
            }
            ("GET", path) => match pages::find(path) {
                Some((kind, text)) => {
                    http::answer(&mut writer, "200 OK", kind, text.as_bytes(), keep_alive).await?;
                }
                None => {
                    refuse(
                        &mut writer,
                        &Refused("404 Not Found", "There is no such page.".into()),
                        keep_alive,
                    )
                    .await?
                }
            },
            ("POST", "/do") => match command(&site, &handle, &request.body).await {
                Ok(()) => http::answer(&mut writer, "200 OK", "application/json", b"{}", keep_alive).await?,
                Err(why) => refuse(&mut writer, &Refused("409 Conflict", why), keep_alive).await?,
            },
            _ => {
                let why = Refused("405 Method Not Allowed", "The method does not fit the path.".into());
                refuse(&mut writer, &why, keep_alive).await?;
            }
        }
        if !keep_alive {
            return Ok(());
        }
    }
}

async fn refuse(writer: &mut Writer, why: &Refused, keep_alive: bool) -> io::Result<()> {
    let Refused(status, text) = why;
    http::answer(
        writer,
        status,
        "application/json",
        json!({ "error": text }).to_string().as_bytes(),
        keep_alive,
    )
    .await
}

/// Executes a command, such as `{"do": "line", "peer": "A"}`.
async fn command(site: &Rc<Site>, handle: &echo_reactor::LoopHandle, body: &[u8]) -> Result<(), String> {
    let command: Value =
        serde_json::from_slice(body).map_err(|error| format!("The command is not JSON: {error}."))?;
    let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
    let (action, peer) = (text("do"), text("peer"));
    if action == "scenario" {
        let scenario = scenarios::find(&text("name")).ok_or("There is no such scenario.")?;
        if site.is_setting_up.replace(true) {
            return Err("Another scenario is being set up.".into());
        }
        let played = site.play(handle, scenario).await;
        site.is_setting_up.set(false);
        return played;
    }
    let rate = command["rate"].as_f64().unwrap_or(1.0).clamp(0.1, 1000.0);
    let (clone, chosen) = (site.clone(), action.clone());
    let acted = handle.call(move |reactor| clone.act(reactor, &chosen, &peer, rate)).await;
    acted.map_err(|why| format!("Cannot do that: {why}."))
}

impl Site {
    /// Refuses a request that does not come from the page itself, such as one from another page in
    /// the same browser.
    fn check(&self, request: &Request) -> Result<(), Refused> {
        let own = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", self.port.get()));
        let Some(host) = &request.host else {
            return Err(Refused("400 Bad Request", "The Host header is missing.".into()));
        };
        if !own.contains(host) {
            return Err(Refused("403 Forbidden", "The Host header does not name this server.".into()));
        }
        match request.origin.as_deref().map(|origin| origin.strip_prefix("http://")) {
            None => Ok(()),
            Some(Some(origin)) if own.iter().any(|own| own == origin) => Ok(()),
            Some(_) => Err(Refused("403 Forbidden", "The request comes from another page.".into())),
        }
    }

    /// Sends each new state. Skips the states that come while the page reads an earlier one.
    async fn stream(&self, reader: &mut Reader, writer: &mut Writer) -> io::Result<()> {
        let (handle, mut seen) = (reader.handle(), 0);
        writer
            .write_all(http::head("200 OK", "text/event-stream", "Connection: close\r\n").as_bytes())
            .await?;
        loop {
            let text = match race(self.next_state(seen), reader.read(&mut [0])).await {
                Either::First((number, text)) => {
                    seen = number;
                    text
                }
                Either::Second(_) => return Ok(()), // the page is gone
            };
            let clock = self.lab.millis(Instant::now());
            let message = format!("data: {{\"clock\":{clock},{text}}}\n\n");
            let written = handle.timeout(TIMEOUT, async {
                writer.write_all(message.as_bytes()).await?;
                writer.flush().await
            });
            match written.await {
                Ok(written) => written?,
                Err(_) => {
                    writer.abort();
                    return Ok(());
                }
            }
        }
    }

    async fn next_state(&self, seen: u64) -> (u64, String) {
        poll_fn(|context| {
            let state = self.state.borrow();
            if state.0 != seen {
                return Poll::Ready(state.clone());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Composes the state, and wakes the pages if it is new. Repeats this about twenty times a
    /// second.
    fn refresh(self: &Rc<Self>, reactor: &mut Reactor) {
        self.compose(reactor);
        let site = self.clone();
        reactor.call_later(INTERVAL, move |reactor| site.refresh(reactor));
    }

    fn compose(&self, reactor: &mut Reactor) {
        let (pace, waiting) = self.lab.gate.look();
        let (pace, rate) = match pace {
            Pace::Run => ("run", 0.0),
            Pace::Slow(delay) => ("slow", 1.0 / delay.as_secs_f64()),
            Pace::Turn => ("turn", 0.0),
            Pace::Held => ("held", 0.0),
        };
        let peers = self.peers.borrow().to_json(reactor);
        let rest = json!({
            "pace": pace, "rate": rate, "waiting": waiting, "phase": PHASES[self.lab.phase()], "peers": peers,
            "scenario": self.scenario.get().0, "logFrom": self.scenario.get().1, "short": !self.files.borrow().is_empty(),
        });
        let text = format!("\"site\":{rest},\"loop\":{}", self.lab.sample());
        let mut state = self.state.borrow_mut();
        if state.1 != text {
            *state = (state.0 + 1, text);
            drop(state);
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Resets the observed loop, and sets up a scenario.
    async fn play(
        self: &Rc<Self>,
        handle: &echo_reactor::LoopHandle,
        scenario: &'static scenarios::Scenario,
    ) -> Result<(), String> {
        self.files.borrow_mut().clear();
        // Connections that wait in the backlog are accepted after the first reset. The next reset
        // removes them.
        for _ in 0..3 {
            let done = Arc::new(AtomicBool::new(false));
            let flag = done.clone();
            self.observed.reset(scenario.large_buffers, move || flag.store(true, Ordering::Release));
            while !done.load(Ordering::Acquire) {
                handle.sleep(Duration::from_millis(1)).await;
            }
            // Another page may have let the loop run.
            for _ in 0..100 {
                if self.lab.gate.look().1 {
                    break;
                }
                handle.sleep(Duration::from_millis(1)).await;
            }
            let site = self.clone();
            handle.call(move |reactor| site.peers.borrow_mut().clear(reactor)).await;
        }
        let first = self.lab.log().next();
        self.lab.note("The page has reset the loop, with a call from its own thread.", "timers");
        self.scenario.set((scenario.name, first));
        for &(action, peer) in scenario.setup {
            let site = self.clone();
            handle.call(move |reactor| site.act(reactor, action, peer, 1.0)).await?;
        }
        Ok(())
    }

    fn act(
        self: &Rc<Self>,
        reactor: &mut Reactor,
        action: &str,
        peer: &str,
        rate: f64,
    ) -> Result<(), String> {
        let letter = match peer {
            "" => self.peers.borrow().free_letter(),
            name => name.chars().next().filter(|letter| ('A'..='H').contains(letter)),
        };
        let gate = &self.lab.gate;
        match action {
            "run" => gate.set(Pace::Run),
            "hold" => gate.set(Pace::Held),
            "turn" => gate.set(Pace::Turn),
            "call" => gate.one_call(),
            "slow" => gate.set(Pace::Slow(Duration::from_secs_f64(1.0 / rate))),
            "timer" => {
                self.say("The page has asked for a timer of 3 s, with a call from its own thread.", "timers");
                self.observed.set_timer(Duration::from_secs(3));
            }
            "block" => {
                self.say("The page has queued a closure that sleeps for 2 s.", "blocking");
                self.observed.block(Duration::from_secs(2));
            }
            "thread" => {
                self.say("Another thread has queued a closure.", "timers");
                self.observed.call_from_a_thread();
            }
            "two-threads" => {
                self.say("Two other threads have queued a closure each.", "timers");
                self.observed.call_from_a_thread();
                self.observed.call_from_a_thread();
            }
            "use-up" => self.use_up_descriptors(reactor),
            "free" => {
                self.files.borrow_mut().clear();
                self.lab.note("The descriptors were freed.", "hostile");
            }
            "server-half-close" | "server-close" => {
                let port = self.peers.borrow().port(letter.ok_or("there is no such peer")?)?;
                if action == "server-close" {
                    self.observed.close(port)
                } else {
                    self.observed.half_close(port)
                }
            }
            "remove-others" => {
                let letter = letter.ok_or("there is no such peer")?;
                let mut peers = self.peers.borrow_mut();
                peers.act(reactor, letter, action)?;
                peers.act(reactor, 'B', "line")?;
            }
            _ => {
                let letter = letter.ok_or("there are eight peers already")?;
                self.peers.borrow_mut().act(reactor, letter, action)?;
            }
        }
        Ok(())
    }

    /// Logs what the page does, in grey as the acts of the peers.
    fn say(&self, text: &str, chapter: &'static str) {
        self.lab.log().push(Entry::Peer(text.into(), chapter));
    }

    /// Opens files until the process has no descriptor left, and closes them after a while.
    fn use_up_descriptors(self: &Rc<Self>, reactor: &mut Reactor) {
        let mut files = self.files.borrow_mut();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        self.lab.note("The process has no descriptor left.", "hostile");
        let (site, began) = (self.clone(), Instant::now());
        reactor.call_at(began + SHORTAGE, move |_| site.files.borrow_mut().clear());
    }
}
