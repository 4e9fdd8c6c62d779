//! The scenarios: what is set up, what to look at, and what to do next.
//!
//! Invariant: a scenario begins with the loop held where a turn begins, and with nothing but the
//! listener in its slab. Its actions are in the kernel by then, so each step is the reader's.
//!
//! Read next: `site.rs`, which carries them out.

use serde_json::{Value, json};

/// An action, and the letter of its peer (`""`: it has none).
pub type Action = (&'static str, &'static str);

pub struct Scenario {
    pub name: &'static str,
    title: &'static str,
    /// What to look at, step by step.
    look: &'static [&'static str],
    chapter: &'static str,
    /// Done at once.
    pub setup: &'static [Action],
    /// What the reader can do next: the text of a button, and its action.
    then: &'static [(&'static str, Action)],
    /// Whether the kernel's buffers are large, so that a peer that sends much is not held up by them.
    pub large_buffers: bool,
}

const DEFAULT: Scenario =
    Scenario { name: "", title: "", look: &[], chapter: "edge", setup: &[], then: &[], large_buffers: false };

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "echo",
        title: "One echo",
        look: &[
            "Peer A has connected and sent 13 bytes. The kernel has them; the loop does not know yet. Press “One call”: the poll reports an event for the listener.",
            "Press it again: the listener accepts, and the connection moves into slot 1. A third time, and the turn's queue calls it: the connection is made.",
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
            "Peer A has sent 13 bytes and ended its side before the loop looked.",
            "One event reports both: readable and read-closed. The connection must read until it reads 0 bytes, or the end is lost: edge-triggered events come once.",
            "Its read half ends, the echo is sent, and only then its own side ends.",
        ],
        chapter: "closing",
        setup: &[("connect", "A"), ("line", "A"), ("half-close", "A")],
        ..DEFAULT
    },
    Scenario {
        name: "stall",
        title: "A peer stalls, others go on",
        look: &[
            "Peer A has stopped reading and sends 1 MiB. Peer B sends one line. Press “Run”.",
            "A's write buffer goes above its high-water mark, so the server stops reading from A: the rest waits in the kernel, and then in A. Memory stays bounded.",
            "B is served as if A were not there. The loop sleeps meanwhile. Let A read again, and the buffer falls to its low-water mark.",
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
            "Peer A sends as fast as it can. Peer B sends a line. The kernel's buffers are large here, so that A always has more. Step turn by turn.",
            "A call reads about 256 KiB, its budget, and returns Again: the connection is queued. While the queue has entries, the poll does not sleep.",
            "B waits for one call of A's at most. Without the budget it would wait until the flood is over.",
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
            "Peers A and B have connected. Press “One turn” twice: both are in the slab. Then press “A and B send”: A's message makes the server remove B, and B's bytes arrive before the loop looks.",
            "Press “One call”: the poll reports both. Again: A's call removes B. B's event is still in the list, but its id names nobody, so it reaches nobody.",
            "Let C connect: it gets B's slot with another generation. B's old id does not become C's.",
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
            "The peers wait in the kernel's backlog. Free the descriptors, and they are accepted. (They are freed after 15 seconds in any case.)",
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
            "There is one thread, so nobody is served while the closure sleeps. The page shows it: the loop is in a call.",
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
            "Press “Run”: the loop sleeps until the timer is due, and no longer. The timer runs in the turn after the sleep, after the events of that poll.",
            "An event in the meantime wakes the loop, and the rest of the time is slept afterwards.",
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
            "Let two calls come before the loop looks: they share one event.",
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
            "The server cannot see A's end before it has read what comes first, and it stops reading above the high-water mark.",
            "Let A read: everything comes back before the server's own end. Nothing is lost.",
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
            "Peer A has connected. Press “Run”, then let the server end its side: its write half goes to shutdown, its read half stays open.",
            "A learns of the end, and may go on sending: the server still reads.",
            "The server could not send anything now. Let A leave, and both directions have ended.",
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
            "The server sends what is buffered before it ends its side, and discards input until A has ended its own. A close at once would reset the connection and destroy bytes on their way.",
            "A timer bounds the wait: 30 seconds without progress. Let A read and leave, and the timer goes with the connection.",
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
            "Peers A and B send a line each time that the last one has come back. Press “Run”.",
            "The page shows about twenty samples a second, and counts the rest: watching costs the loop a few percent.",
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
