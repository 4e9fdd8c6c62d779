//! Watching the loop: who wants to is told what it does, as it does it.
//!
//! Invariant: to watch changes nothing, and while nobody watches it costs a look at an empty list. So an
//! observer is lent facts and no reactor, and the clock is read for it alone.
//!
//! Read next: `../timeline/mod.rs`, which writes it all down.

use std::time::{Duration, Instant};

use super::{Id, Next, Reactor, Ready, Source};

/// Somebody who watches: told of each thing after it was done. (asyncio: the debug mode.)
///
/// ```
/// use echo_reactor::{Observer, Reactor, Sleep};
/// # fn main() -> std::io::Result<()> {
/// struct Yawn;
/// impl Observer for Yawn {
///     fn slept(&mut self, sleep: &Sleep) {
///         println!("slept for {:?}, {} events", sleep.ended - sleep.began, sleep.events);
///     }
/// }
/// let mut reactor = Reactor::new()?;
/// reactor.observe(Yawn);
/// reactor.call_soon(Reactor::stop);
/// reactor.run()
/// # }
/// ```
#[allow(unused_variables)] // the defaults have no use for what they are lent
pub trait Observer {
    /// The loop has polled, and slept perhaps: a turn begins.
    fn slept(&mut self, sleep: &Sleep) {}

    /// A source was called.
    fn ran(&mut self, run: &Run) {}

    /// A closure was called: a timer's, or one of the queue.
    fn called(&mut self, call: &Call) {}

    /// A source was added.
    fn added(&mut self, id: Id, kind: &'static str, activity: Option<Activity>, at: Instant) {}

    /// A source is gone.
    fn removed(&mut self, id: Id, at: Instant) {}

    /// A turn has ended, and the next begins.
    fn turned(&mut self, turn: &Turn) {}
}

/// What a source has done since it was added, as far as it counts that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes that are owed to a peer.
    pub buffered: usize,
    /// Whether the peer does not take what it is sent, so that its sender is told to pause.
    pub held_up: bool,
}

/// A poll, and the sleep in it.
#[derive(Clone, Copy, Debug)]
pub struct Sleep {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// How long it would have been at the most; `None`: for ever.
    pub limit: Option<Duration>,
    /// Events that it brought.
    pub events: usize,
}

/// One call to a source.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Which one.
    pub id: Id,
    /// The name of its type.
    pub kind: &'static str,
    /// Why it was called.
    pub ready: Ready,
    /// What it answered.
    pub next: Next,
    /// When the call began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// What it had done before, and after.
    pub activity: Option<(Activity, Activity)>,
}

/// One call to a closure.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Whether a timer had it called.
    pub by_timer: bool,
    /// When the call began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// A whole turn, without the sleep.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// The first one is 1.
    pub number: u64,
    /// When the poll had ended.
    pub began: Instant,
    /// When all was done.
    pub ended: Instant,
}

impl Reactor {
    /// Has `observer` told of all that the loop does from now on.
    pub fn observe(&mut self, observer: impl Observer + 'static) {
        self.observers.push(Box::new(observer));
    }

    pub(super) fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    pub(super) fn tell(&mut self, mut what: impl FnMut(&mut dyn Observer)) {
        for observer in &mut self.observers {
            what(observer.as_mut());
        }
    }

    #[cold]
    pub(super) fn run_observed(&mut self, source: &mut dyn Source, id: Id, ready: Ready) -> Next {
        let (began, before) = (Instant::now(), source.activity());
        let next = source.ready(id, ready, self);
        // One that was removed while it ran has no life to tell of any more: its end was told.
        let activity = before.zip(source.activity()).filter(|_| self.slots.contains(id));
        let run = Run { id, kind: source.kind(), ready, next, began, ended: Instant::now(), activity };
        self.tell(|observer| observer.ran(&run));
        next
    }

    #[cold]
    pub(super) fn call_observed(&mut self, by_timer: bool, f: impl FnOnce(&mut Reactor)) {
        let began = Instant::now();
        f(self);
        let call = Call { by_timer, began, ended: Instant::now() };
        self.tell(|observer| observer.called(&call));
    }
}
