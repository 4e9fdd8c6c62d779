//! Where the sources live: a slab of slots, each with a generation.
//!
//! Invariant: an [`Id`] names one source for ever. When a source leaves its slot, the slot's
//! generation goes up, so every `Id` and [`Handle`] that is still around finds nothing instead of
//! the slot's next tenant. No address dangles and nothing has to be counted.
//!
//! A source that runs is *out* of its slot ([`State::Running`]): whoever runs it holds it by value,
//! so `&mut source` and `&mut Reactor` are two different things, and the compiler knows it.
//!
//! Read next: `mod.rs`, where a turn takes sources out and puts them back.

use std::any::{Any, TypeId};
use std::fmt;
use std::marker::PhantomData;

use mio::Token;

use super::{Ready, Source};

/// The address of a source: a slot and the generation of its tenant.
///
/// It is `Copy`, keeps nothing alive, and goes stale harmlessly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    slot: u32,
    generation: u32,
}

// A token carries a whole `Id`.
const _: () = assert!(usize::BITS >= 64, "an Id needs a 64-bit token");

impl Id {
    /// Which slot. It may have had other tenants before.
    pub(crate) fn slot(self) -> usize {
        self.slot as usize
    }

    /// How many tenants the slot had before.
    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    #[allow(clippy::cast_possible_truncation)] // checked above: a usize has 64 bits
    pub(super) fn token(self) -> Token {
        Token((u64::from(self.generation) << 32 | u64::from(self.slot)) as usize)
    }

    #[allow(clippy::cast_possible_truncation)] // the two halves of a token
    pub(super) fn from_token(token: Token) -> Self {
        Id { slot: token.0 as u32, generation: (token.0 as u64 >> 32) as u32 }
    }
}

/// Shown as `slot.generation`, as in log lines.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// An [`Id`] that knows the type of its source: what [`Reactor::with`](super::Reactor::with) and
/// [`Reactor::get_mut`](super::Reactor::get_mut) take.
pub struct Handle<T> {
    id: Id,
    kind: PhantomData<fn() -> T>,
}

impl<T> Handle<T> {
    /// Claims that `id` names a `T`. A wrong claim is harmless: the type is checked at each use.
    #[must_use]
    pub fn new(id: Id) -> Self {
        Handle { id, kind: PhantomData }
    }

    /// The address without the type.
    #[must_use]
    pub fn id(self) -> Id {
        self.id
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<T> Eq for Handle<T> {}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.id)
    }
}

enum State {
    /// Nobody lives here; the next vacant slot, if there is one.
    Vacant {
        next: Option<u32>,
    },
    Resting(Box<dyn Source>),
    /// Taken out: on the stack of whoever runs it.
    Running,
}

struct Slot {
    state: State,
    generation: u32,
    /// What is queued for the source: `None` when it is not in the queue at all.
    queued: Option<Ready>,
}

impl Slot {
    fn take_out(&mut self) -> Option<Box<dyn Source>> {
        match std::mem::replace(&mut self.state, State::Running) {
            State::Resting(source) => Some(source),
            other => {
                self.state = other;
                None
            }
        }
    }
}

/// The slab.
#[derive(Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    vacant: Option<u32>,
    occupied: usize,
}

impl Slots {
    /// Reserves a slot for a source that is not made yet. Until [`put_back`](Self::put_back) it
    /// counts as running.
    pub fn reserve(&mut self) -> Id {
        self.occupied += 1;
        if let Some(index) = self.vacant
            && let slot = &mut self.all[index as usize]
            && let State::Vacant { next } = slot.state
        {
            self.vacant = next;
            slot.state = State::Running;
            return Id { slot: index, generation: slot.generation };
        }
        // Descriptors and memory run out long before 2^32 slots do.
        let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(Slot { state: State::Running, generation: 0, queued: None });
        Id { slot: index, generation: 0 }
    }

    /// Takes a resting source out, to run it. `None`: it is gone, or it is running already.
    pub fn take_out(&mut self, id: Id) -> Option<Box<dyn Source>> {
        self.of_mut(id)?.take_out()
    }

    /// The same for an event. If the source is in the queue, the event joins what is queued, so that it is
    /// called once for both.
    pub fn take_out_for_event(&mut self, id: Id, ready: Ready) -> Option<Box<dyn Source>> {
        let slot = self.of_mut(id)?;
        match &mut slot.queued {
            Some(queued) => {
                *queued |= ready;
                None
            }
            None => slot.take_out(),
        }
    }

    /// Puts a source back after it ran. Handed back as an error: it was removed, or replaced,
    /// while it was out.
    pub fn put_back(&mut self, id: Id, source: Box<dyn Source>) -> Result<(), Box<dyn Source>> {
        match self.of_mut(id) {
            Some(slot) if matches!(slot.state, State::Running) => {
                slot.state = State::Resting(source);
                Ok(())
            }
            _ => Err(source),
        }
    }

    /// Ends the tenancy. Hands back the source, unless it is running.
    pub fn vacate(&mut self, id: Id) -> Option<Box<dyn Source>> {
        let next = self.vacant;
        let slot = self.of_mut(id)?;
        let state = std::mem::replace(&mut slot.state, State::Vacant { next });
        slot.generation = slot.generation.wrapping_add(1);
        slot.queued = None;
        self.vacant = Some(id.slot);
        self.occupied -= 1;
        match state {
            State::Resting(source) => Some(source),
            State::Running | State::Vacant { .. } => None,
        }
    }

    /// Adds to what is queued for the source. `true`: it was not in the queue, so queue it.
    pub fn queue(&mut self, id: Id, ready: Ready) -> bool {
        let Some(slot) = self.of_mut(id) else { return false };
        let first = slot.queued.is_none();
        slot.queued = Some(slot.queued.unwrap_or_default() | ready);
        first
    }

    /// What was queued for the source; the queue holds it no longer.
    pub fn unqueue(&mut self, id: Id) -> Option<Ready> {
        self.of_mut(id)?.queued.take()
    }

    pub fn get_mut<T: Source>(&mut self, id: Id) -> Option<&mut T> {
        match &mut self.of_mut(id)?.state {
            State::Resting(source) => (source.as_mut() as &mut dyn Any).downcast_mut(),
            _ => None,
        }
    }

    /// Whether a source lives there: resting, or running.
    pub fn contains(&self, id: Id) -> bool {
        self.all.get(id.slot as usize).is_some_and(|slot| slot.generation == id.generation)
    }

    /// The addresses of all resting sources of one type.
    pub fn all_of<T: Source>(&self) -> impl Iterator<Item = Handle<T>> {
        self.all.iter().zip(0..).filter_map(|(slot, index)| match &slot.state {
            State::Resting(source) if (source.as_ref() as &dyn Any).type_id() == TypeId::of::<T>() => {
                Some(Handle::new(Id { slot: index, generation: slot.generation }))
            }
            _ => None,
        })
    }

    pub fn len(&self) -> usize {
        self.occupied
    }

    /// The slot that `id` names, if it still names one. A vacant one is named by nobody: its generation is
    /// that of its next tenant.
    fn of_mut(&mut self, id: Id) -> Option<&mut Slot> {
        self.all.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
    }
}
