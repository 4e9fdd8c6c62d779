//! `--step`: runs one turn of the loop for each Enter, and describes in sentences what the turn
//! did.
//!
//! Invariant: between two turns the server does nothing, so data from its peers waits in the
//! kernel. A signal is handled without Enter. After the end of stdin, and while the server shuts
//! down, the loop runs without stopping.
//!
//! Read next: `src/reactor/mod.rs`, what a turn is; `src/reactor/observe.rs`, what an observer
//! receives.

use std::io::{self, ErrorKind, IsTerminal};
use std::time::{Duration, Instant};

use echo_reactor::cli::{cannot, counted, end_echoed_row, is_pending, wait_until_readable, write_stdout};
use echo_reactor::observe::{CallbackEnd, DispatchEnd, IoStats, Observer, Origin, PollEnd, TurnEnd};
use echo_reactor::timeline::short_name;
use echo_reactor::{Descriptor, Direction, Id, Next, Reactor};

use crate::shutdown::Shutdown;

/// Runs turns until standard input or the service ends.
pub fn run(reactor: &mut Reactor, shutdown: &Shutdown) -> io::Result<()> {
    reactor.add_observer(Narrator { turn: reactor.turn_count(), is_in_turn: false });
    let stdin = Descriptor::open(&io::stdin(), Direction::Read).map_err(cannot("open standard input"))?;
    if io::stdin().is_terminal() {
        write_stdout(
            "press Enter for one turn of the loop, which sleeps until something happens; \
             press Ctrl-D to run without stopping\n",
        );
    }
    while shutdown.is_serving() {
        match wait_for_enter(&stdin).map_err(cannot("read standard input"))? {
            Wait::Enter => reactor.turn(None).map_err(cannot("wait for events"))?,
            Wait::Signal => reactor.turn(Some(Duration::ZERO)).map_err(cannot("wait for events"))?,
            Wait::Eof => {
                write_stdout("end of standard input: the loop runs without stopping\n");
                break;
            }
        }
    }
    Ok(())
}

/// The reason why the wait for Enter ended.
enum Wait {
    Enter,
    /// A signal came, or another process was faster to read the line.
    Signal,
    Eof,
}

/// Reads a line. It reads only when there is input, so that the kernel does not stop a background
/// job.
fn wait_for_enter(stdin: &Descriptor) -> io::Result<Wait> {
    let mut byte = [0];
    loop {
        match wait_until_readable(stdin).and_then(|()| stdin.read(&mut byte)) {
            Ok(0) => return Ok(Wait::Eof),
            Ok(_) if byte == [b'\n'] => return Ok(Wait::Enter),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return Ok(Wait::Signal);
            }
            Err(error) => return Err(error),
        }
    }
}

struct Narrator {
    turn: u64,
    /// Not set when the program ends, which removes every source.
    is_in_turn: bool,
}

impl Observer for Narrator {
    fn on_poll(&mut self, poll: &PollEnd) {
        if is_pending(libc::SIGINT) {
            end_echoed_row();
        }
        self.turn += 1;
        self.is_in_turn = true;
        let slept = poll.ended - poll.began;
        let events = counted(poll.events, "event");
        write_stdout(match poll.timeout {
            Some(Duration::ZERO) => {
                format!("turn {}: the loop did not sleep; the kernel reported {events}.\n", self.turn)
            }
            _ => {
                format!("turn {}: the loop slept for {slept:.1?}; the kernel reported {events}.\n", self.turn)
            }
        });
    }

    fn on_dispatch(&mut self, dispatch: &DispatchEnd) {
        let DispatchEnd { id, ready, next, began, ended, .. } = dispatch;
        let name = short_name(dispatch.type_name);
        let moved = dispatch.stats.map_or_else(String::new, |(before, after)| {
            let (received, sent) = after.moved_since(&before);
            let received = counted(received, "byte");
            format!(", received {received}, sent {sent}, has {} buffered", after.buffered)
        });
        let next = match next {
            Next::Wait => "waits for the next event",
            Next::Again => "has more to do, so it is queued",
            Next::Done => "has finished",
        };
        let took = *ended - *began;
        write_stdout(format_args!(
            "  {name} {id} was called ({ready:?}){moved}, took {took:.1?}, and {next}.\n"
        ));
    }

    fn on_callback(&mut self, callback: &CallbackEnd) {
        let what = if callback.origin == Origin::Timer { "A timer's callback" } else { "A queued callback" };
        write_stdout(format_args!(
            "  {what} was called, and took {:.1?}.\n",
            callback.ended - callback.began
        ));
    }

    fn on_added(&mut self, id: Id, type_name: &'static str, _: Option<IoStats>, _: Instant) {
        write_stdout(format_args!("  {} {id} was added.\n", short_name(type_name)));
    }

    fn on_removed(&mut self, id: Id, _: Instant) {
        if self.is_in_turn {
            write_stdout(format_args!("  The source {id} was removed.\n"));
        }
    }

    fn on_turn_end(&mut self, turn: &TurnEnd) {
        self.is_in_turn = false;
        write_stdout(format_args!("  The turn took {:.1?}.\n", turn.ended - turn.began));
    }
}
