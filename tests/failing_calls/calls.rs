//! Functions of the C library that this test replaces, so that they can fail.
//!
//! The linker takes a function of this executable before the one of the same name in the C library.
//! So `std`, `mio` and the library call these functions, and the library needs no code for the
//! test. Without a fault, each of them calls the real function.
//!
//! Invariant: a fault affects only calls of the thread that has called [`with_faults`], and only
//! outside of [`spared`].
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr, thread};

use libc::{c_char, c_int, c_uint, c_ulong, c_void, off_t, size_t, sockaddr, socklen_t, ssize_t};

/// After so many calls, each call fails. This ends a busy loop, also one inside of a turn.
pub const BUSY: usize = 100_000;

/// A call that does not do what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub effect: Effect,
    pub occurrence: Occurrence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails with this error, and has done nothing.
    Error(c_int),
    /// It fails with `EAGAIN`. As the kernel promises, an event follows when the descriptor is
    /// ready, which may be at once.
    WouldBlock,
    /// It reads or writes fewer bytes than it could. With `true`, an event follows.
    Short(Length, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Bytes(usize),
    Half,
    AllButOne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    Only(usize),
    /// This occurrence and the next one.
    Two(usize),
    Every,
}

/// The calls of one run.
#[derive(Clone, Copy)]
pub struct Counts {
    made: [usize; Call::ALL.len()],
    /// How many of them had the first fault.
    pub injected: usize,
    /// Polls that have slept.
    slept: usize,
}

impl Counts {
    pub fn of(&self, call: Call) -> usize {
        self.made[call as usize]
    }

    /// Returns the number of calls that do not sleep. A busy loop makes many of them.
    pub fn total(&self) -> usize {
        self.made.iter().sum::<usize>() - self.slept
    }
}

const NO_CALLS: Counts = Counts { made: [0; Call::ALL.len()], injected: 0, slept: 0 };

thread_local! {
    static IS_ACTIVE: Cell<bool> = const { Cell::new(false) };
    static FAULTS: Cell<[Option<Fault>; 3]> = const { Cell::new([None; 3]) };
    static COUNTS: Cell<Counts> = const { Cell::new(NO_CALLS) };
    /// What is registered with epoll instances: the arguments of the last `epoll_ctl` of each.
    static REGISTERED: RefCell<Vec<(c_int, c_int, libc::epoll_event)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with faults. The first one is under test. Returns what `f` returned, or its panic, and
/// the calls that it has made.
pub fn with_faults<R>(faults: [Option<Fault>; 3], f: impl FnOnce() -> R) -> (thread::Result<R>, Counts) {
    REGISTERED.with_borrow_mut(Vec::clear);
    FAULTS.set(faults);
    COUNTS.set(NO_CALLS);
    IS_ACTIVE.set(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    IS_ACTIVE.set(false);
    (result, COUNTS.get())
}

/// Runs `f`, which belongs to the test, without faults.
pub fn spared<R>(f: impl FnOnce() -> R) -> R {
    let was_active = IS_ACTIVE.replace(false);
    let result = f();
    IS_ACTIVE.set(was_active);
    result
}

/// Counts a call, and returns what happens to it.
fn effect_on(call: Call) -> Option<Effect> {
    let (mut counts, faults) = (COUNTS.get(), FAULTS.get());
    counts.made[call as usize] += 1;
    let count = counts.of(call);
    let is_due = |fault: &Option<Fault>| {
        fault.is_some_and(|fault| {
            fault.call == call
                && match fault.occurrence {
                    Occurrence::Only(n) => count == n,
                    Occurrence::Two(n) => count == n || count == n + 1,
                    Occurrence::Every => true,
                }
        })
    };
    counts.injected += usize::from(is_due(&faults[0]));
    COUNTS.set(counts);
    if counts.total() > BUSY {
        return Some(Effect::Error(libc::ELOOP));
    }
    faults.into_iter().find(is_due)?.map(|fault| fault.effect)
}

/// The signature of every function here: up to six integers and pointers.
type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> isize;

/// # Safety
/// As for the function `name`, which is `call`.
unsafe fn run(call: Call, name: &CStr, cache: &AtomicPtr<c_void>, arguments: &[usize]) -> isize {
    let real = function(name, cache);
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: these are the arguments for this function. It ignores those beyond its number.
    let run_real = |a: [usize; 6]| unsafe { real(a[0], a[1], a[2], a[3], a[4], a[5]) };
    // `std` checks each descriptor that it closes with `F_GETFD`, and ignores most errors.
    let is_check = call == Call::fcntl && all[1] as c_int == libc::F_GETFD;
    if !IS_ACTIVE.get() || is_check {
        return run_real(all);
    }
    match effect_on(call) {
        Some(Effect::Error(error)) => fail(error),
        Some(Effect::WouldBlock) => {
            spared(|| report_again(all[0] as c_int));
            fail(libc::EAGAIN)
        }
        Some(Effect::Short(length, is_reported)) => {
            // SAFETY: these two calls take a pointer to one or more parts. The first one is kept.
            let mut part = match call {
                Call::preadv2 | Call::pwritev2 => unsafe { *(all[1] as *const libc::iovec) },
                _ => libc::iovec { iov_base: all[1] as *mut c_void, iov_len: all[2] },
            };
            part.iov_len = match length {
                Length::Bytes(count) => count.min(part.iov_len),
                Length::Half => part.iov_len.div_ceil(2),
                Length::AllButOne => part.iov_len.saturating_sub(1).max(1),
            };
            match call {
                Call::preadv2 | Call::pwritev2 => all[1] = &raw mut part as usize,
                _ => all[2] = part.iov_len,
            }
            let result = run_real(all);
            if is_reported && result > 0 {
                spared(|| report_again(all[0] as c_int));
            }
            result
        }
        None => {
            let result = run_real(all);
            if call == Call::epoll_wait && result as c_int == 0 && all[3] != 0 {
                COUNTS.set(Counts { slept: COUNTS.get().slept + 1, ..COUNTS.get() });
            }
            if call == Call::epoll_ctl && result as c_int == 0 && all[1] as c_int != libc::EPOLL_CTL_DEL {
                // SAFETY: the call has succeeded, so this is an event.
                let event = unsafe { *(all[3] as *const libc::epoll_event) };
                let (instance, fd) = (all[0] as c_int, all[2] as c_int);
                REGISTERED.with_borrow_mut(|registered| {
                    registered.retain(|known| (known.0, known.1) != (instance, fd));
                    registered.push((instance, fd, event));
                });
            }
            result
        }
    }
}

/// Makes epoll report a descriptor again if it is ready, as after a change of its state.
fn report_again(fd: c_int) {
    REGISTERED.with_borrow(|registered| {
        for &(instance, _, mut event) in registered.iter().filter(|known| known.1 == fd) {
            // SAFETY: an event. If the instance or the descriptor is closed, the call fails.
            unsafe { libc::epoll_ctl(instance, libc::EPOLL_CTL_MOD, fd, &raw mut event) };
        }
    });
}

fn fail(error: c_int) -> isize {
    // SAFETY: the address of this thread's errno.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Returns the function of the C library, which comes after this executable in the order of search.
fn function(name: &CStr, cache: &AtomicPtr<c_void>) -> Function {
    let mut address = cache.load(Ordering::Relaxed);
    if address.is_null() {
        // SAFETY: a string that ends with a zero.
        address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        assert!(!address.is_null(), "the C library lacks {name:?}");
        cache.store(address, Ordering::Relaxed);
    }
    // SAFETY: the function takes integers and pointers, and returns an integer. On the supported
    // machines, each of them is passed like a `usize`.
    unsafe { mem::transmute::<*mut c_void, Function>(address) }
}

macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        #[allow(non_camel_case_types)] // the names of the functions
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Call { $($name),* }

        impl Call {
            pub const ALL: &[Call] = &[$(Call::$name),*];
        }

        $(
            // SAFETY: it does what the C library's function does, or fails. It has its signature.
            // (The last argument of `fcntl` and `open64` is optional. The real function ignores it,
            // too, if there is none.)
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
                let name = const {
                    match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!(),
                    }
                };
                // SAFETY: the caller keeps to the contract of this function.
                unsafe { run(Call::$name, name, &REAL, &[$($argument as usize),*]) as $result }
            }
        )*
    };
}

calls! {
    accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int;
    bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int;
    epoll_create1(flags: c_int) -> c_int;
    epoll_ctl(instance: c_int, operation: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int;
    epoll_wait(instance: c_int, events: *mut libc::epoll_event, size: c_int, timeout: c_int) -> c_int;
    eventfd(value: c_uint, flags: c_int) -> c_int;
    fcntl(fd: c_int, operation: c_int, argument: c_ulong) -> c_int;
    flock(fd: c_int, operation: c_int) -> c_int;
    getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int;
    getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, size: *mut socklen_t) -> c_int;
    listen(fd: c_int, backlog: c_int) -> c_int;
    open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int;
    poll(fds: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int;
    preadv2(fd: c_int, parts: *const libc::iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t;
    pwritev2(fd: c_int, parts: *const libc::iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t;
    read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t;
    recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t;
    send(fd: c_int, bytes: *const c_void, length: size_t, flags: c_int) -> ssize_t;
    setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, size: socklen_t) -> c_int;
    shutdown(fd: c_int, how: c_int) -> c_int;
    socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    write(fd: c_int, bytes: *const c_void, length: size_t) -> ssize_t;
}
