//! The scenarios: what is set up, what to look at, and what to do next.
//!
//! Invariant: a scenario begins with the loop held where a turn begins, and with nothing but the
//! listener in its slab. The effects of its actions are already in the kernel, so nothing changes
//! until the reader steps.
//!
//! Read next: `site.rs`, which runs the scenarios.

use serde_json::{Value, json};

/// An action, and the letter of its peer (`""` for none).
pub type Action = (&'static str, &'static str);

pub struct Scenario {
    pub name: &'static str,
    title: &'static str,
    /// What to look at, step by step.
    look: &'static [&'static str],
    chapter: &'static str,
    /// The actions that set up the scenario.
    pub setup: &'static [Action],
    /// What the reader can do next: the text of a button, and its action.
    then: &'static [(&'static str, Action)],
    /// Whether the kernel's buffers are large, so that they do not slow down a peer that sends a
    /// lot.
    pub large_buffers: bool,
}

const DEFAULT: Scenario =
    Scenario { name: "", title: "", look: &[], chapter: "edge", setup: &[], then: &[], large_buffers: false };

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo",
        title: "One echo",
        look: &[
            "Peer A has connected and sent 13 bytes. The bytes are in the kernel; the loop does not know about them yet. Press “One call”: the poll reports an event for the listener.",
            "Press it again: the listener accepts, and the connection moves into slot 1. Press it a third time: the turn's queue calls the connection, which is now made.",
            "In the next turn the poll reports that it is readable and writable. It reads 13 bytes and sends them back in one call.",
        ],
        chapter: "edge",
        setup: &[("connect", "A"), ("line", "A")],
        then: &[("A sends another line", ("line", "A"))],
        ..DEFAULT
    },
    Scenario {
        name: "end",
        title: "Data and end in one event",
        look: &[
            "Peer A has sent 13 bytes and ended its side before the loop polled.",
            "One event reports both: readable and read-closed. The connection must read until it reads 0 bytes, or the end is lost: edge-triggered events come once.",
            "Its read half ends, the echo is sent, and only then does the server end its own side.",
        ],
        chapter: "closing",
        setup: &[("connect", "A"), ("line", "A"), ("half-close", "A")],
        ..DEFAULT
    },
    Scenario {
        name: "stall",
        title: "A peer stalls, others continue",
        look: &[
            "Peer A has stopped reading and sends 1 MiB. Peer B sends one line. Press “Run”.",
            "A's write buffer goes above its high-water mark, so the server stops reading from A: the other bytes wait in the kernel, and then in A. The server's memory stays bounded.",
            "B is served without delay, and the loop sleeps. Let A read again: the buffer falls to its low-water mark.",
        ],
        chapter: "backpressure",
        setup: &[("connect", "A"), ("connect", "B"), ("stop-reading", "A"), ("megabyte", "A"), ("line", "B")],
        then: &[("B sends a line", ("line", "B")), ("A reads again", ("read", "A"))],
        ..DEFAULT
    },
    Scenario {
        name: "flood",
        title: "A flood and the budget",
        look: &[
            "Peer A sends as fast as it can. Peer B sends a line. The kernel's buffers are large here, so that A always has more. Press “One turn” several times.",
            "A call reads about 256 KiB, its budget, and returns Again: the connection is queued. While the queue has entries, the poll does not sleep.",
            "B waits for at most two calls of A's connection: one for its event, and one from the queue. Without the budget, B would wait until the end of the flood.",
        ],
        chapter: "budget",
        setup: &[("connect", "A"), ("connect", "B"), ("flood", "A"), ("line", "B")],
        then: &[("B sends a line", ("line", "B")), ("A stops", ("stop-flood", "A"))],
        large_buffers: true,
    },
    Scenario {
        name: "stale",
        title: "A stale id",
        look: &[
            "Peers A and B have connected. Press “One turn” twice: both are in the slab. Then press “A and B send”: A's message makes the server remove B, and B's bytes arrive before the loop polls.",
            "Press “One call”: the poll reports both. Press it again: A's call removes B. B's event is still in the list, but its id is stale, so the event is dropped.",
            "Let C connect: it gets B's slot with another generation. B's old id does not reach C.",
        ],
        chapter: "slab",
        setup: &[("connect", "A"), ("connect", "B")],
        then: &[("A and B send", ("remove-others", "A")), ("C connects", ("connect", "C"))],
        ..DEFAULT
    },
    Scenario {
        name: "exhausted",
        title: "Descriptors run out",
        look: &[
            "Peers A and B have connected, and then every descriptor of the process was opened. Press “Run”.",
            "The system call accept fails with EMFILE. The listener does not spin: it sets a timer and tries again after a second, or when a connection closes.",
            "The peers wait in the kernel's backlog. Free the descriptors: the peers are accepted. (They are freed after 15 seconds in any case.)",
        ],
        chapter: "hostile",
        setup: &[("connect", "A"), ("connect", "B"), ("line", "A"), ("use-up", "")],
        then: &[("Free the descriptors", ("free", ""))],
        ..DEFAULT
    },
    Scenario {
        name: "block",
        title: "A callback blocks the loop",
        look: &[
            "A closure in the queue will sleep for two seconds, as a slow computation or a blocking call does. Peers A and B have sent a line each. Press “Run”.",
            "There is one thread, so no peer is served while the closure sleeps. The page shows that the loop is in a call.",
            "The log names the call and its time.",
        ],
        chapter: "blocking",
        setup: &[("block", ""), ("connect", "A"), ("connect", "B"), ("line", "A"), ("line", "B")],
        then: &[("Block again", ("block", "")), ("B sends a line", ("line", "B"))],
        ..DEFAULT
    },
    Scenario {
        name: "timer",
        title: "A timer",
        look: &[
            "A call from the other thread will set a timer for three seconds. Step through the first turn, and look at the timers.",
            "Press “Run”: the loop sleeps until the timer is due. The timer runs in the turn after the sleep, after the events of that poll.",
            "An earlier event wakes the loop. After that, the loop sleeps for the rest of the time.",
        ],
        chapter: "timers",
        setup: &[("connect", "A"), ("timer", "")],
        then: &[("Set a timer", ("timer", "")), ("A sends a line", ("line", "A"))],
        ..DEFAULT
    },
    Scenario {
        name: "thread",
        title: "A call from another thread",
        look: &[
            "Another thread has queued a closure and written to the loop's wake-up descriptor. Step: the poll reports an event that belongs to no source.",
            "Its delivery moves the closures of other threads to the queue of this turn, and the queue calls them. The loop's data never leaves its thread, so it needs no lock.",
            "Press “Two calls at once”: both arrive before the loop polls, so they share one event.",
        ],
        chapter: "timers",
        setup: &[("thread", "")],
        then: &[("Call again", ("thread", "")), ("Two calls at once", ("two-threads", ""))],
        ..DEFAULT
    },
    Scenario {
        name: "peer-half-close",
        title: "The peer ends its side",
        look: &[
            "Peer A has stopped reading, sent 1 MiB and ended its side. Press “Run”.",
            "The server cannot see A's end before it has read all bytes that come first, and it stops reading above the high-water mark.",
            "Let A read: everything comes back before the server ends its side. Nothing is lost.",
        ],
        chapter: "closing",
        setup: &[("connect", "A"), ("stop-reading", "A"), ("megabyte", "A"), ("half-close", "A")],
        then: &[("A reads again", ("read", "A"))],
        ..DEFAULT
    },
    Scenario {
        name: "server-half-close",
        title: "The server ends its side",
        look: &[
            "Peer A has connected. Press “Run”, then let the server end its side: its write half changes to “shutdown”, and its read half stays open.",
            "A learns of the end, and may continue to send: the server still reads.",
            "The server can send nothing now. Let A leave: then both directions have ended.",
        ],
        chapter: "closing",
        setup: &[("connect", "A"), ("line", "A")],
        then: &[
            ("The server ends its side", ("server-half-close", "A")),
            ("A sends a line", ("line", "A")),
            ("A leaves", ("leave", "A")),
        ],
        ..DEFAULT
    },
    Scenario {
        name: "linger",
        title: "Close, and linger",
        look: &[
            "Peer A has stopped reading and sends 1 MiB. Press “Run”, then let the server close the connection.",
            "The server sends what is buffered before it ends its side, and discards input until A has ended its own. An immediate close would reset the connection, and destroy bytes on their way.",
            "A timer bounds the wait: 30 seconds without progress. Let A read and leave: the timer is removed with the connection.",
        ],
        chapter: "closing",
        setup: &[("connect", "A"), ("stop-reading", "A"), ("megabyte", "A")],
        then: &[
            ("The server closes", ("server-close", "A")),
            ("A reads again", ("read", "A")),
            ("A leaves", ("leave", "A")),
        ],
        ..DEFAULT
    },
    Scenario {
        name: "full-speed",
        title: "Full speed",
        look: &[
            "Peers A and B send a line each time that their last line has come back. Press “Run”.",
            "The page shows about twenty samples a second, and only counts the other turns. Observing the loop costs a few percent of its speed.",
            "Hold it at any time, step a few calls, and let it run again.",
        ],
        chapter: "readiness",
        setup: &[("connect", "A"), ("connect", "B"), ("ping-pong", "A"), ("ping-pong", "B")],
        ..DEFAULT
    },
];

pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

pub fn to_json() -> Value {
    let one = |scenario: &Scenario| {
        let then: Vec<Value> =
            scenario.then.iter().map(|(text, (action, peer))| json!([text, action, peer])).collect();
        json!({
            "name": scenario.name, "title": scenario.title, "look": scenario.look,
            "chapter": scenario.chapter, "then": then,
        })
    };
    SCENARIOS.iter().map(one).collect()
}
