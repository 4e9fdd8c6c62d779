//! Runs an echo server turn by turn: each Enter runs one turn, and an observer describes it.
//!
//! Run `cargo run --example step_by_step`, and in another terminal `echo-client`.
//!
//! Look at `on_step`: the loop waits while `on_step` runs, and `on_step` may inspect the whole
//! reactor.

use std::io;

use echo_reactor::observe::{DispatchEnd, Observer, Phase, PollEnd, TurnEnd};
use echo_reactor::{Id, ListenOptions, Protocol, Reactor, Ready, Transport, create_server};

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &mut Transport, data: &[u8]) {
        transport.write(data);
    }
}

struct Narrator;

impl Observer for Narrator {
    fn on_poll(&mut self, poll: &PollEnd) {
        println!("The poll took {:.1?} and reported {} events.", poll.ended - poll.began, poll.events);
    }

    fn on_event(&mut self, id: Option<Id>, ready: Ready) {
        println!("  event for {id:?}: {ready:?}");
    }

    fn on_dispatch(&mut self, call: &DispatchEnd) {
        println!("  {} was called ({:?}) and answered {:?}", call.id, call.ready, call.next);
    }

    fn on_step(&mut self, phase: Phase, reactor: &Reactor) {
        if phase == Phase::Timeout {
            println!("Queued: {:?}. Timers: {}.", reactor.queue(), reactor.timers().count());
            for slot in reactor.slots() {
                println!("  {}: {}", slot.id, slot.type_name.unwrap_or("vacant"));
            }
        }
    }

    fn on_turn_end(&mut self, turn: &TurnEnd) {
        println!("Turn {} took {:.1?}. Press Enter.", turn.number, turn.ended - turn.began);
    }
}

fn main() -> io::Result<()> {
    let mut reactor = Reactor::new()?;
    create_server(&mut reactor, &["127.0.0.1:7777".parse()?], &ListenOptions::default(), || Echo)?;
    reactor.add_observer(Narrator);
    println!("listening on 127.0.0.1:7777. Press Enter to run a turn, which may sleep.");
    while io::stdin().read_line(&mut String::new())? > 0 {
        reactor.turn(None)?;
    }
    Ok(())
}
