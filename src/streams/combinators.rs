//! Waiting for several things at once, and copying.
//!
//! Invariant: a future that has returned is not polled again, and a future whose result is no
//! longer needed is dropped.
//!
//! Read next: `../../examples/proxy.rs`, which uses them.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use super::state::Wait;
use super::{Reader, Writer};

/// The output of one of two futures: the one that returned first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first future returned first, or both were ready at the same time.
    First(A),
    /// The second future returned first.
    Second(B),
}

/// Waits for the first of two futures, and drops the other (asyncio: `wait` with
/// `FIRST_COMPLETED`).
///
/// Every read of a [`Reader`], and [`LoopHandle::recv`](crate::LoopHandle::recv), can be dropped
/// while it waits, and nothing is lost. If `first` is ready each time, `second` never gets its
/// turn.
pub async fn race<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> Either<A, B> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| {
        if let Poll::Ready(a) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(a));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
    .await
}

/// Waits for the first of many futures, and drops the others. Returns its index and its output;
/// without futures it waits forever.
pub async fn race_all<F: Future>(futures: impl IntoIterator<Item = F>) -> (usize, F::Output) {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        for (index, future) in futures.iter_mut().enumerate() {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready((index, output));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for two futures (asyncio: `gather` with `return_exceptions`).
pub async fn join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let outputs = try_join(async { Ok(first.await) }, async { Ok(second.await) }).await;
    outputs.unwrap_or_else(|never: Infallible| match never {})
}

/// Waits for two futures that can fail. At the first error, returns it and drops the other future
/// (asyncio: `gather`).
///
/// # Errors
/// The first error of the two.
pub async fn try_join<A, B, E>(
    first: impl Future<Output = Result<A, E>>,
    second: impl Future<Output = Result<B, E>>,
) -> Result<(A, B), E> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|context| {
        if a.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            a = Some(output?);
        }
        if b.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            b = Some(output?);
        }
        if a.is_none() || b.is_none() {
            return Poll::Pending;
        }
        a.take().zip(b.take()).map_or(Poll::Pending, |both| Poll::Ready(Ok(both)))
    })
    .await
}

/// Waits for many futures. Returns their outputs in the same order.
///
/// Each time that it is woken, it polls all futures that have not returned. For many futures that
/// are woken often, spawn a task for each, and wait for the tasks.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut outputs = Vec::new();
    let mut futures: Vec<Option<Pin<Box<F>>>> = futures.into_iter().map(|one| Some(Box::pin(one))).collect();
    outputs.resize_with(futures.len(), || None);
    poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if let Some(running) = future
                && let Poll::Ready(value) = running.as_mut().poll(context)
            {
                (*future, *output) = (None, Some(value));
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// Sends everything that `reader` receives to `writer`, until the end of file. Returns the number
/// of bytes. It stops reading while the writer is full, and it owns no buffer while it waits.
///
/// It does not end the writer's side: call [`Writer::write_eof`] afterwards, or [`Writer::abort`]
/// after an error.
///
/// # Errors
/// [`CopyError::Read`] is the error that broke the reader's connection. All bytes that came before
/// it are passed on first. [`CopyError::Write`] is the error that broke the writer's connection.
/// Like [`Writer::broken`], `copy` notices it even while no data arrives.
pub async fn copy(reader: &mut Reader, writer: &mut Writer) -> Result<u64, CopyError> {
    let (mut total, from, to) = (0, &*reader.stream, &*writer.stream);
    loop {
        if to.with_state(|state| state.is_full()) {
            to.writable(Wait::Room).await.map_err(CopyError::Write)?;
        }
        let copy_once = || {
            from.handle.with_scratch(|scratch| {
                let count = ready!(from.with_state(|state| state.read(scratch))).map_err(CopyError::Read)?;
                Poll::Ready(to.try_write(&scratch[..count]).map(|()| count).map_err(CopyError::Write))
            })
        };
        // If the writer breaks meanwhile, return its error without waiting for the next byte.
        match race(from.reader.until(Wait::Input, copy_once), to.writable(Wait::Broken)).await {
            Either::First(Ok(0)) => return Ok(total),
            Either::First(count) => total += count? as u64,
            Either::Second(result) => result.map_err(CopyError::Write)?,
        }
    }
}

/// The error of [`copy`].
#[derive(Debug)]
pub enum CopyError {
    /// The reader failed.
    Read(io::Error),
    /// The writer failed.
    Write(io::Error),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (CopyError::Read(error) | CopyError::Write(error)) = self;
        error.fmt(f)
    }
}

impl Error for CopyError {}

impl From<CopyError> for io::Error {
    fn from(error: CopyError) -> Self {
        let (CopyError::Read(error) | CopyError::Write(error)) = error;
        error
    }
}
