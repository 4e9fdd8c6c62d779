//! The order of the callbacks of a protocol, and the commands of a script that a fuzzer wrote.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Made,
    Data,
    Eof,
    PauseWriting,
    ResumeWriting,
    Woken,
    Lost,
}

/// The callbacks of one connection so far.
#[derive(Debug, Default)]
pub struct Calls {
    pub all: Vec<Call>,
    /// Whether only `connection_lost` may follow.
    pub has_closed: bool,
}

impl Calls {
    /// Adds a callback. Fails if it may not follow the others.
    pub fn record(&mut self, call: Call) {
        let calls = &self.all;
        let last_writing =
            calls.iter().rfind(|call| matches!(call, Call::PauseWriting | Call::ResumeWriting));
        let is_allowed = match call {
            Call::Lost => !calls.contains(&Call::Lost),
            _ if self.has_closed || calls.contains(&Call::Lost) => false,
            Call::Made => calls.is_empty(),
            _ if calls.is_empty() => false,
            Call::Data | Call::Eof => !calls.contains(&Call::Eof),
            Call::PauseWriting => last_writing != Some(&Call::PauseWriting),
            Call::ResumeWriting => last_writing == Some(&Call::PauseWriting),
            Call::Woken => true,
        };
        assert!(is_allowed, "{call:?} after {self:?}");
        self.all.push(call);
    }

    pub fn has(&self, call: Call) -> bool {
        self.all.contains(&call)
    }
}

/// Closures of one kind. Each is called once, in the order of their registration.
#[derive(Default)]
pub struct Callbacks {
    pub registered: usize,
    pub called: usize,
}

impl Callbacks {
    /// Returns the place of the next closure.
    pub fn register(&mut self) -> usize {
        self.registered += 1;
        self.registered - 1
    }

    pub fn call(&mut self, place: usize) {
        assert_eq!(self.called, place, "called twice, or out of order");
        self.called += 1;
    }
}
