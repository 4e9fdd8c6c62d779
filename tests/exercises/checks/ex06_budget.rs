//! A loop with two peers that flood and others that send a little. The peers are not real: they
//! count.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::judge::{Verdict, doing, ensure, stop};

/// How often a connection is read in a turn.
pub const BUDGET: usize = 16;

/// A connection whose peer sends forever, or so many pieces.
pub struct Connection {
    pieces: usize,
    reads: usize,
    would_block: bool,
}

impl Connection {
    /// Reads a piece.
    pub fn read(&mut self) -> io::Result<usize> {
        self.reads += 1;
        if self.reads == 1000 {
            stop("one connection was read 1,000 times in one turn, and all others wait".to_owned());
        }
        self.would_block = self.pieces == 0;
        match self.pieces.checked_sub(1) {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(pieces) => {
                self.pieces = pieces;
                Ok(4096)
            }
        }
    }
}

type Turn = fn(&mut [Connection], &mut BTreeSet<usize>, &[usize]) -> Option<Duration>;

struct Loop {
    turn: Turn,
    connections: Vec<Connection>,
    again: BTreeSet<usize>,
}

pub fn check(turn: Turn) -> Verdict {
    doing("in `turn`");
    let connection = |pieces| Connection { pieces, reads: 0, would_block: false };
    let connections = [usize::MAX, 3, usize::MAX, BUDGET, 40].map(connection).into();
    let mut all = Loop { turn, connections, again: BTreeSet::new() };
    all.turn(&[0, 1, 2])?; // two floods, and a short message
    all.turn(&[])?;
    all.turn(&[0, 3])?; // an event for a flood that is in the queue, and a message as long as the budget
    all.turn(&[4])?; // a message that takes three turns
    all.turn(&[])?;
    all.turn(&[])?;
    for flood in [0, 2] {
        all.connections[flood].pieces = 0; // it ends
    }
    all.turn(&[])?;
    all.connections[1].pieces = 3;
    all.turn(&[1])?; // a short message while the queue is empty
    all.turn(&[])?;
    Ok(())
}

impl Loop {
    fn turn(&mut self, events: &[usize]) -> Verdict {
        let queued = self.again.clone();
        self.connections.iter_mut().for_each(|connection| connection.reads = 0);
        let timeout = (self.turn)(&mut self.connections, &mut self.again, events);
        for (id, connection) in self.connections.iter().enumerate() {
            let Connection { reads, would_block, .. } = *connection;
            ensure!(
                reads <= BUDGET,
                "connection {id} was read {reads} times in one turn: the budget is {BUDGET}"
            );
            let had_event = events.contains(&id);
            ensure!(reads > 0 || !had_event, "connection {id} had an event, and was not read");
            ensure!(reads > 0 || !queued.contains(&id), "connection {id} was in the queue, and was not read");
            ensure!(
                would_block || reads == 0 || reads == BUDGET,
                "connection {id} stopped after {reads} reads, before `WouldBlock` and within its budget"
            );
            let is_queued = self.again.contains(&id);
            ensure!(
                would_block || reads == 0 || is_queued,
                "connection {id} used up its budget, and is not in the queue: no event comes for what is left"
            );
            ensure!(
                !is_queued || !would_block,
                "connection {id} is still in the queue after `WouldBlock`: an event will call it"
            );
        }
        let expected = if self.again.is_empty() { None } else { Some(Duration::ZERO) };
        ensure!(
            expected.is_none() || timeout == expected,
            "{} connections are in the queue, and `poll` would sleep: its timeout is {timeout:?}, and not zero",
            self.again.len()
        );
        ensure!(
            timeout == expected,
            "the queue is empty, so `poll` can sleep until an event comes (`None`): its timeout is {timeout:?}, and the \
             loop polls once more for nothing"
        );
        Ok(())
    }
}
