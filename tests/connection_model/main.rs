//! A model of the connection is explored completely, and a real connection takes each of its steps.
//!
//! A breadth-first search takes every event in every state. The states are some hundreds, so the
//! search ends, and what it shows holds for sequences of events of any length. `model.rs` predicts
//! the states and the callbacks, and `world.rs` compares them with a connection on real sockets.

#![cfg(target_os = "linux")] // the model has the errors that Linux reports after a reset
#![allow(clippy::pedantic, missing_docs)] // lints for the library; a test's name is its documentation

#[path = "../common/mod.rs"]
mod common;
mod events;
mod model;
mod world;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::hash::Hash;
use std::net::TcpListener;
use std::panic::{self, AssertUnwindSafe};

use echo_reactor::Reactor;

use events::{ACTIONS, Action, Callback, Event, Kind, Write};
use model::Model;
use world::World;

/// Calls `visit` after every event in every state. States with equal keys are one state.
fn explore<K: Eq + Hash>(kind: Kind, mut visit: impl FnMut(&[Event]) -> K) -> usize {
    let mut known = HashSet::new();
    let mut queue = VecDeque::from([Vec::new()]);
    while let Some(path) = queue.pop_front() {
        for event in after(kind, &path).events() {
            let path = [path.as_slice(), &[event]].concat();
            if known.insert(visit(&path)) {
                queue.push_back(path);
            }
        }
    }
    known.len()
}

fn after(kind: Kind, path: &[Event]) -> Model {
    let mut model = Model::new(kind);
    path.iter().for_each(|&event| model.take(event));
    model
}

/// Takes all events with a real connection as well. The key has the model's state and the readiness
/// that the connection remembers, which the model does not know.
fn real_connection_takes_every_step(kind: Kind) {
    let (mut reactor, listener) = (Reactor::new().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let count = explore(kind, |path| {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(kind, &mut reactor, &listener);
            path.iter().for_each(|&event| world.take(event));
            let model = after(kind, path);
            world.assert_is(&model.state, &model.callbacks);
            (model.state, world.ready())
        }));
        result.unwrap_or_else(|_| panic!("after {path:?} on a {kind:?} socket"))
    });
    assert!(count > 500, "only {count} states");
}

#[test]
fn unix_connection_takes_every_step_of_the_model() {
    real_connection_takes_every_step(Kind::Unix);
}

#[test]
fn tcp_connection_takes_every_step_of_the_model() {
    real_connection_takes_every_step(Kind::Tcp);
}

/// Each of these ends every connection, whatever happened before.
const ENDINGS: [&[Event]; 6] = [
    &[Event::Do(Action::Abort)],
    &[Event::Do(Action::Remove)],
    &[Event::Do(Action::Close), Event::TimePasses],
    &[Event::Do(Action::Close), Event::PeerEnds, Event::PeerReads, Event::Turn],
    &[Event::PeerCloses, Event::Do(Action::Resume), Event::Do(Action::WriteEof), Event::Turn],
    &[Event::Do(Action::Resume), Event::Do(Action::SetIdleTimeout), Event::TimePasses],
];

#[test]
fn connection_in_any_state_can_end_in_each_way() {
    for kind in [Kind::Tcp, Kind::Unix] {
        explore(kind, |path| {
            let model = after(kind, path);
            for ending in ENDINGS {
                let mut model = model.clone();
                for event in ending {
                    if model.events().contains(event) {
                        model.take(*event);
                    }
                }
                assert!(model.state.lost.is_some(), "{ending:?} does not end it: {:?}", model.state);
            }
            model.state
        });
    }
}

#[test]
fn callbacks_come_in_the_documented_order() {
    for kind in [Kind::Tcp, Kind::Unix] {
        explore(kind, |path| {
            let model = after(kind, path);
            let calls = &model.callbacks;
            let position = |callback| calls.iter().position(|&call| call == callback);
            assert!(matches!(calls.first(), None | Some(Callback::Made | Callback::Lost(_))), "{calls:?}");
            let lost = calls.iter().position(|call| matches!(call, Callback::Lost(_)));
            assert!(lost.is_none_or(|at| at + 1 == calls.len()), "a callback after the end: {calls:?}");
            for once in [Callback::Made, Callback::Eof] {
                assert!(calls.iter().filter(|&&call| call == once).count() <= 1, "twice: {calls:?}");
            }
            if let Some(at) = position(Callback::Eof) {
                assert!(!calls[at..].contains(&Callback::Data), "data after the end of file: {calls:?}");
            }
            let mut writing = calls
                .iter()
                .filter(|&&call| matches!(call, Callback::PauseWriting | Callback::ResumeWriting));
            while let Some(call) = writing.next() {
                assert_eq!(*call, Callback::PauseWriting, "{calls:?}");
                writing.next();
            }
            model.state
        });
    }
}

/// Returns the arrows of the diagram: from, label, to.
fn diagram() -> BTreeSet<(String, String, String)> {
    let file = include_str!("../../src/transport/duplex/mod.rs");
    let (mut arrows, mut half) = (BTreeSet::new(), "");
    for line in file.lines().filter(|line| line.starts_with("//!") && line.contains('▶')) {
        let mut line = line.trim_start_matches("//!").trim();
        for name in ["ReadState", "WriteState"] {
            if let Some(rest) = line.strip_prefix(name) {
                (half, line) = (name, rest.trim());
            }
        }
        let (left, right) = line.split_once('▶').unwrap();
        let mut left = left.split('─').map(str::trim).filter(|part| !part.is_empty());
        let (states, labels) = (left.next().unwrap(), left.next().unwrap());
        let to = right.split_whitespace().next().unwrap();
        for from in states.split(", ") {
            arrows
                .extend(labels.split(", ").map(|label| (format!("{half} {from}"), label.into(), to.into())));
        }
    }
    arrows
}

#[test]
fn diagram_of_the_halves_has_exactly_the_transitions_of_the_model() {
    let mut transitions = BTreeSet::new();
    for kind in [Kind::Tcp, Kind::Unix] {
        explore(kind, |path| {
            let model = after(kind, path);
            transitions.extend(model.transitions);
            model.state
        });
    }
    assert_eq!(transitions, diagram(), "left: the model, right: src/transport/duplex/mod.rs");
}

/// A method that has an arrow in the current state has its effect there.
#[test]
fn no_method_is_ignored_where_the_diagram_has_an_arrow_for_it() {
    let arrows = diagram();
    for kind in [Kind::Tcp, Kind::Unix] {
        explore(kind, |path| {
            let model = after(kind, path);
            for action in ACTIONS {
                let label = match action {
                    Action::Pause if model.state.write != Write::Broken => "pause",
                    Action::Resume => "resume",
                    Action::WriteEof => "write_eof",
                    Action::Close => "close",
                    _ => continue,
                };
                let mut next = model.clone();
                next.take(Event::Do(action));
                let halves = [
                    format!("ReadState {:?}", model.state.read),
                    format!("WriteState {:?}", model.state.write),
                ];
                let is_due = |arrow: &&(String, String, String)| {
                    model.state.lost.is_none() && arrow.1 == label && halves.contains(&arrow.0)
                };
                for arrow in arrows.iter().filter(is_due) {
                    let taken = &next.transitions[model.transitions.len()..];
                    assert!(taken.contains(arrow), "{label} is ignored: {:?}", model.state);
                }
            }
            model.state
        });
    }
}
