//! Where the sources live: a slab, which is a vector of slots that are reused. Each slot has a
//! generation, which counts its uses.
//!
//! Invariant: an [`Id`] never names a second source. A slot's generation goes up when a source
//! leaves it, and again when the next one comes, so an old `Id` or `Handle` finds nothing, and
//! never the next source in that slot. Occupied slots have even generations, so no `Id` names a
//! vacant one. No address dangles, and no source is reference-counted.
//!
//! A source that runs is *out* of its slot ([`State::Running`]). The code that runs it owns it. So
//! `&mut source` and `&mut Reactor` never overlap, and the compiler checks that.
//!
//! Read next: `mod.rs`, where a turn takes sources out and puts them back.

use std::any::{Any, TypeId};

use super::{Handle, Id, Ready, Source, Unavailable, observe};
use crate::net::Connector;

enum State {
    Vacant,
    Resting(Box<dyn Source>),
    /// Taken out: the code that runs the source owns it.
    Running,
}

struct Slot {
    state: State,
    generation: u32,
    /// The bits of the source's queued call, while the reactor's queue has an entry for it.
    queued: Option<Ready>,
}

impl Slot {
    fn describe(&self, index: u32) -> observe::Slot {
        let source = match &self.state {
            State::Resting(source) => Some(source),
            State::Vacant | State::Running => None,
        };
        observe::Slot {
            id: Id { slot: index, generation: self.generation },
            type_name: source.map(|source| source.type_name()),
            queued: self.queued,
            connection: source.and_then(|source| source.connection_state()),
        }
    }

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
    /// The vacant slots that may be used again.
    vacant: Vec<u32>,
    occupied: usize,
}

impl Slots {
    /// Reserves a slot for a source that is not built yet. Until [`put_back`](Self::put_back) it
    /// counts as running.
    pub fn reserve(&mut self) -> Id {
        self.occupied += 1;
        if let Some(index) = self.vacant.pop() {
            let slot = &mut self.all[index as usize];
            slot.state = State::Running;
            slot.generation += 1;
            return Id { slot: index, generation: slot.generation };
        }
        // Descriptors and memory run out long before 2^32 slots do.
        let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(Slot { state: State::Running, generation: 0, queued: None });
        Id { slot: index, generation: 0 }
    }

    /// Takes a resting source out, to run it. `None`: it is gone, or it is running already.
    pub fn take_out(&mut self, id: Id) -> Option<Box<dyn Source>> {
        self.slot_mut(id)?.take_out()
    }

    /// Puts a source back after it ran. Returns the source as an error if it was removed or
    /// replaced while it ran.
    pub fn put_back(&mut self, id: Id, source: Box<dyn Source>) -> Result<(), Box<dyn Source>> {
        match self.slot_mut(id) {
            Some(slot) if matches!(slot.state, State::Running) => {
                slot.state = State::Resting(source);
                Ok(())
            }
            _ => Err(source),
        }
    }

    /// Frees the slot. Returns the source, unless it is running.
    pub fn vacate(&mut self, id: Id) -> Option<Box<dyn Source>> {
        let slot = self.slot_mut(id)?;
        let state = std::mem::replace(&mut slot.state, State::Vacant);
        slot.generation += 1; // it was even, so this cannot overflow
        slot.queued = None;
        // A slot that has used up its generations is never used again, so no stale id can become
        // valid.
        if slot.generation < u32::MAX {
            self.vacant.push(id.slot);
        }
        self.occupied -= 1;
        match state {
            State::Resting(source) => Some(source),
            State::Running | State::Vacant => None,
        }
    }

    /// Adds bits to the queued call of a source. Returns whether it needs an entry in the queue, or
    /// `None` if the source is gone.
    pub fn queue(&mut self, id: Id, ready: Ready) -> Option<bool> {
        let slot = self.slot_mut(id)?;
        let former = slot.queued;
        slot.queued = Some(former.unwrap_or_default() | ready);
        Some(former.is_none())
    }

    /// Takes a resting source out for an event or a timer. If a call of it is queued, adds the bits
    /// to that call instead.
    pub fn take_out_or_queue(&mut self, id: Id, ready: Ready) -> Option<Box<dyn Source>> {
        let slot = self.slot_mut(id)?;
        if let Some(queued) = &mut slot.queued {
            *queued |= ready;
            return None;
        }
        slot.take_out()
    }

    /// Takes the bits of a source's queued call.
    pub fn take_queued(&mut self, id: Id) -> Option<Ready> {
        self.slot_mut(id)?.queued.take()
    }

    pub fn get<T: Source>(&self, id: Id) -> Result<&T, Unavailable> {
        match self.slot(id) {
            Some(Slot { state: State::Resting(source), .. }) => {
                (source.as_ref() as &dyn Any).downcast_ref().ok_or_else(|| wrong_type(source.as_ref()))
            }
            Some(_) => Err(Unavailable::Running),
            None => Err(Unavailable::Gone),
        }
    }

    pub fn get_mut<T: Source>(&mut self, id: Id) -> Result<&mut T, Unavailable> {
        match self.slot_mut(id) {
            Some(Slot { state: State::Resting(source), .. }) => {
                let error = wrong_type(source.as_ref());
                (source.as_mut() as &mut dyn Any).downcast_mut().ok_or(error)
            }
            Some(_) => Err(Unavailable::Running),
            None => Err(Unavailable::Gone),
        }
    }

    pub fn is_running(&self, id: Id) -> bool {
        matches!(self.slot(id), Some(Slot { state: State::Running, .. }))
    }

    /// Returns whether `id` names a source, resting or running.
    pub fn contains(&self, id: Id) -> bool {
        self.slot(id).is_some()
    }

    /// Returns the handles of all resting sources of one type.
    pub fn handles_of<T: Source>(&self) -> impl Iterator<Item = Handle<T>> {
        self.all.iter().zip(0..).filter_map(|(slot, index)| match &slot.state {
            State::Resting(source) if (source.as_ref() as &dyn Any).type_id() == TypeId::of::<T>() => {
                Some(Handle::new(Id { slot: index, generation: slot.generation }))
            }
            _ => None,
        })
    }

    /// Returns the ids of all sources.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        let occupied = self.all.iter().zip(0..).filter(|(slot, _)| !matches!(slot.state, State::Vacant));
        occupied.map(|(slot, index)| Id { slot: index, generation: slot.generation })
    }

    /// Returns all slots, for observers.
    pub fn iter(&self) -> impl Iterator<Item = observe::Slot> {
        self.all.iter().zip(0..).map(|(slot, index)| slot.describe(index))
    }

    /// Returns the slot of a source, for observers.
    pub fn describe(&self, id: Id) -> Option<observe::Slot> {
        self.slot(id).map(|slot| slot.describe(id.slot))
    }

    pub fn len(&self) -> usize {
        self.occupied
    }

    fn slot(&self, id: Id) -> Option<&Slot> {
        self.all.get(id.slot()).filter(|slot| slot.generation == id.generation)
    }

    fn slot_mut(&mut self, id: Id) -> Option<&mut Slot> {
        self.all.get_mut(id.slot()).filter(|slot| slot.generation == id.generation)
    }
}

/// Returns why a source cannot be reached as another type. A connector is in the slot that its
/// connection will have.
fn wrong_type(source: &dyn Source) -> Unavailable {
    if (source as &dyn Any).is::<Connector>() { Unavailable::Connecting } else { Unavailable::WrongType }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_without_generations_left_is_retired() {
        let mut slots = Slots::default();
        let first = slots.reserve();
        slots.vacate(first);
        let again = slots.reserve();
        assert_eq!((again.slot, again.generation), (first.slot, 2));
        slots.all[0].generation = u32::MAX - 1;
        slots.vacate(Id { slot: 0, generation: u32::MAX - 1 });
        assert_eq!(slots.reserve().slot, 1);
        assert!(!slots.contains(first) && !slots.contains(again));
    }
}
