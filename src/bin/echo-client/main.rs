//! `echo-client`: sends stdin to a server, and writes what comes back on stdout. Parse, wire up, run,
//! exit status.
//!
//! Read next: `client.rs`, the protocol.

mod client;
mod display;
mod options;
mod ping;
mod progress;
mod screen;
mod transfer;
mod window;

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::rc::Rc;

use echo_reactor::cli::{
    self, ErrorText, Exit, cannot, discard_input, init_logging, is_in_background, report, route_stderr,
    write_stdout,
};
use echo_reactor::{Framing, Input, Mailbox, Output, Reactor};

use client::{Client, Plan};
use display::Display;
use options::Options;
use progress::{ByteCounts, Progress};
use screen::Screen;
use transfer::Transfer;

const NAME: &str = "echo-client";

/// Chunks of stdin under way to the connection.
const MAILBOX: usize = 4;

/// How to end, and what is printed on stderr with it.
type Verdict = (Exit, Option<String>);

/// How the program ends. What is decided first stands.
#[derive(Clone, Default)]
pub(crate) struct Ending(Rc<Cell<Option<Verdict>>>);

impl Ending {
    /// Decides how to end, unless it is decided.
    pub fn set(&self, exit: Exit, complaint: Option<String>) {
        let decided = self.0.take();
        self.0.set(decided.or(Some((exit, complaint))));
    }

    fn is_success(&self) -> bool {
        let decided = self.0.take();
        let success = matches!(decided, Some((cli::DONE, _)));
        self.0.set(decided);
        success
    }
}

fn main() -> ExitCode {
    cli::main(NAME, options::parse, |options| {
        init_logging(NAME, options.verbosity);
        let ending = Ending::default();
        if let Err(error) = run(options, &ending) {
            ending.set(cli::FAILURE, Some(error.to_string()));
        }
        let (exit, complaint) = ending.0.take().unwrap_or((cli::DONE, None));
        if let Some(complaint) = complaint {
            report(NAME, complaint);
        }
        exit
    })
}

fn run(mut options: Options, ending: &Ending) -> io::Result<()> {
    if cli::stdout_was_closed() && !options.check {
        return Err(cannot("write standard output")(io::Error::from_raw_os_error(libc::EBADF)));
    }
    // Before the signals are caught: it may take long, and Ctrl-C has to end that, too.
    let addresses = match options.address.to_connect() {
        Err(error) if !options.reconnect => return Err(error),
        result => result,
    };
    let mut reactor = Reactor::new().map_err(cannot("start the event loop"))?;
    reactor.set_spin(options.spin);
    cli::add_observers(&mut reactor, options.timeline.as_ref())?;
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let interactive = on_terminal && !options.raw;
    catch_signals(&mut reactor, ending, interactive).map_err(cannot("catch signals"))?;
    let stdout = {
        let ending = ending.clone();
        Output::open(&mut reactor, &io::stdout(), move |reactor, error| {
            stdout_failed(&ending, &error);
            reactor.stop();
        })
        .map_err(cannot("open standard output"))?
    };
    if let Some(ping) = options.ping.take() {
        ping::start(&mut reactor, options, ping, stdout, ending.clone(), addresses)?;
        return reactor.run().map_err(cannot("wait for events"));
    }
    let stdin = Mailbox::new(&mut reactor, MAILBOX);
    let input = Input::open(&mut reactor, &io::stdin(), Framing::Bytes, stdin)
        .map_err(cannot("open standard input"))?;

    let progress = Progress::new(&reactor, options.progress);
    let (check, began) = (options.check, reactor.now());
    let screen = Rc::new(RefCell::new(Screen::new()));
    let display = Display::new(stdout, interactive.then(|| screen.clone()), !check);
    if interactive {
        let display = display.clone();
        cli::on_signal(&mut reactor, libc::SIGCONT, move |reactor| display.resume(reactor))
            .map_err(cannot("catch signals"))?;
    }
    if io::stderr().is_terminal() && (interactive || options.progress) {
        route_stderr(Some(Box::new(move |text| screen.borrow_mut().message(text))));
    }
    let transfer = Transfer::new(stdin, display, check || options.reconnect, progress.clone());
    let plan = Plan { options, ending: ending.clone() };
    Client::connect(&mut reactor, Rc::new(plan), Box::new(transfer), 0, addresses);
    let result = reactor.run().map_err(cannot("wait for events"));
    route_stderr(None);
    // What is half typed is not meant for the shell. What was typed after Ctrl-D is.
    if on_terminal && reactor.get(input).is_ok() && !is_in_background(&io::stdin()) {
        discard_input(&io::stdin());
    }
    result?;
    let ByteCounts { sent, received } = progress.counts();
    log::info!("bytes: {sent} sent, {received} received; {:.3} s", began.elapsed().as_secs_f64());
    progress.finish();
    if check && ending.is_success() {
        report(NAME, format_args!("{received} bytes came back as they were sent"));
    }
    Ok(())
}

fn catch_signals(reactor: &mut Reactor, ending: &Ending, interactive: bool) -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let ending = ending.clone();
        cli::on_signal(reactor, signal, move |reactor| {
            if interactive {
                write_stdout("\n");
            }
            ending.set(Exit::Signal(signal), None);
            reactor.stop();
        })?;
    }
    Ok(())
}

fn stdout_failed(ending: &Ending, error: &io::Error) {
    if error.kind() == io::ErrorKind::BrokenPipe {
        ending.set(Exit::Signal(libc::SIGPIPE), None);
    } else {
        ending.set(cli::FAILURE, Some(format!("cannot write standard output: {}", ErrorText(error))));
    }
}
