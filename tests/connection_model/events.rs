//! The words of the model: the states of each part, and what can happen.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Tcp,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Read {
    Open,
    Paused,
    Discarding,
    Eof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    Open,
    Draining,
    Shutdown,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    Open,
    /// It has ended its side, but still reads.
    Ended,
    /// It has closed its socket, which resets a TCP connection.
    Gone {
        had_ended: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    None,
    Idle,
    Linger,
}

/// The kinds of `CloseReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Closed,
    Aborted,
    Failed,
    IdleTimeout,
    LingerTimeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callback {
    Made,
    Data,
    Eof,
    PauseWriting,
    ResumeWriting,
    Woken,
    Lost(Reason),
}

/// An action of a program on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    WriteSmall,
    /// More than the kernel takes while the peer does not read.
    WriteLarge,
    Pause,
    Resume,
    WriteEof,
    Close,
    SetIdleTimeout,
    Abort,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call from outside the callbacks.
    Do(Action),
    PeerWrites,
    PeerEnds,
    PeerCloses,
    /// The loop runs until nothing is pending.
    Turn,
    /// The same, and the first callback takes an action.
    TurnIn(Action),
    /// The same, while the peer reads everything.
    PeerReads,
    /// The same, after a wake-up.
    Wake,
    /// The same, while more time passes than any timeout.
    TimePasses,
}

pub const ACTIONS: [Action; 9] = [
    Action::WriteSmall,
    Action::WriteLarge,
    Action::Pause,
    Action::Resume,
    Action::WriteEof,
    Action::Close,
    Action::SetIdleTimeout,
    Action::Abort,
    Action::Remove,
];
