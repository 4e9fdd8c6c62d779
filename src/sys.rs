//! The system calls that neither `std` nor `mio` wraps, as safe functions.
//!
//! Invariant: all `unsafe` code of the crate is in this file, and each block has the reason why it
//! is sound. Every public function is sound with any arguments. The functions add little to the
//! system calls, so their man pages are their documentation.
//!
//! The differences between systems are in this file and in `sys/linux.rs` and `sys/bsd.rs`, which
//! define the same names. The rest of the crate is the same for all systems.
//!
//! Read next: the callers, `reactor/signals.rs`, `net/listening_socket.rs` and
//! `stdio/descriptor.rs`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

use crate::net::{ListenOptions, Socket};

#[cfg(not(target_os = "linux"))]
#[path = "sys/bsd.rs"]
mod platform;
#[cfg(target_os = "linux")]
#[path = "sys/linux.rs"]
mod platform;

pub use platform::*;

#[cfg(not(any(
    target_os = "linux",
    target_os = "macos",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
compile_error!("echo-reactor needs Linux, macOS or a BSD: the epoll or the kqueue of mio");

/// Converts the result of a call that returns -1 on failure, with the reason in `errno`.
fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Converts the result of a call that returns a number of bytes, or -1.
fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

// ---- signals: the handler and its flags, see `reactor/signals.rs`

/// One above the largest signal number of any system: `SIGRTMAX` is 64 on Linux, 126 on FreeBSD.
const SIGNALS: usize = 127;

static PENDING: [AtomicBool; SIGNALS] = [const { AtomicBool::new(false) }; SIGNALS];
/// The signals that were raised at least once.
static RAISED: [AtomicBool; SIGNALS] = [const { AtomicBool::new(false) }; SIGNALS];
static WAKEUP_FD: AtomicI32 = AtomicI32::new(-1);

/// Sets the socket that the handler writes to. The socket is never closed, because the reference is
/// `'static`.
pub fn set_wakeup_fd(write_end: &'static UnixStream) {
    WAKEUP_FD.store(write_end.as_raw_fd(), Ordering::Release);
}

/// Returns whether the signal was raised since the last call.
pub fn take_pending(signal: c_int) -> bool {
    flag(&PENDING, signal).is_some_and(|flag| flag.swap(false, Ordering::AcqRel))
}

/// Returns whether the signal was raised and no turn has handled it yet.
#[cfg(feature = "cli")]
#[must_use]
pub fn is_pending(signal: c_int) -> bool {
    flag(&PENDING, signal).is_some_and(|flag| flag.load(Ordering::Acquire))
}

/// Returns whether the signal was ever raised, even if no turn has handled it yet.
#[cfg(feature = "cli")]
pub fn was_raised(signal: c_int) -> bool {
    flag(&RAISED, signal).is_some_and(|flag| flag.load(Ordering::Acquire))
}

fn flag(flags: &[AtomicBool; SIGNALS], signal: c_int) -> Option<&AtomicBool> {
    flags.get(usize::try_from(signal).ok()?)
}

/// Runs when a signal is raised, between any two instructions of the program. So it does only what
/// `signal-safety(7)` allows.
extern "C" fn handle_signal(signal: c_int) {
    // SAFETY: the address of this thread's own errno. The interrupted code may be about to read it,
    // so it is restored below.
    let errno = unsafe { platform::errno_location() };
    // SAFETY: as above.
    let saved = unsafe { *errno };
    for flag in [&PENDING, &RAISED].into_iter().filter_map(|flags| flag(flags, signal)) {
        flag.store(true, Ordering::Release);
    }
    let byte = 1_u8;
    // SAFETY: one readable byte. A full pipe refuses it, which is harmless, because a full pipe is
    // readable.
    let write = || unsafe { libc::write(WAKEUP_FD.load(Ordering::Acquire), ptr::from_ref(&byte).cast(), 1) };
    // SAFETY: as above. Another signal may interrupt it.
    while write() == -1 && unsafe { *errno } == libc::EINTR {}
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// The disposition that a signal had before [`install_handler`]. It is restored on drop.
pub struct Disposition {
    signal: c_int,
    former: libc::sigaction,
}

impl Drop for Disposition {
    fn drop(&mut self) {
        // SAFETY: `former` is what the kernel gave us for this signal.
        unsafe { libc::sigaction(self.signal, &raw const self.former, ptr::null_mut()) };
    }
}

/// Makes [`handle_signal`] run when the signal is raised: `sigaction(2)`.
pub fn install_handler(signal: c_int) -> io::Result<Disposition> {
    if flag(&PENDING, signal).is_none() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    take_pending(signal);
    let former = set_action(signal, handle_signal as extern "C" fn(c_int) as usize)?;
    Ok(Disposition { signal, former })
}

/// Ignores the signal: a call that would raise it fails with an error instead.
#[cfg(feature = "cli")]
pub fn ignore(signal: c_int) -> io::Result<()> {
    set_action(signal, libc::SIG_IGN).map(drop)
}

/// Returns whether the signal is ignored.
#[cfg(feature = "cli")]
pub fn is_ignored(signal: c_int) -> io::Result<bool> {
    let mut current = MaybeUninit::uninit();
    // SAFETY: no new action; `current` is filled on success.
    check(unsafe { libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) })?;
    // SAFETY: filled, as the call succeeded. A `sigaction` is plain data.
    let current: libc::sigaction = unsafe { current.assume_init() };
    Ok(current.sa_sigaction == libc::SIG_IGN)
}

/// Ends the process by a signal whose default action is to end it. Returns only if that fails.
#[cfg(feature = "cli")]
pub fn raise_default(signal: c_int) {
    if set_action(signal, libc::SIG_DFL).is_ok() {
        // SAFETY: no pointers.
        unsafe { libc::raise(signal) };
    }
}

/// Sets a handler that may run at any time, `SIG_IGN` or `SIG_DFL`. Returns the former disposition.
fn set_action(signal: c_int, handler: libc::sighandler_t) -> io::Result<libc::sigaction> {
    // SAFETY: all zero is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    // No SA_RESTART: a read that the kernel stops (SIGTTIN) has to return, so that the loop can
    // handle the signal that ends the program.
    let mut former = MaybeUninit::uninit();
    // SAFETY: `action` is complete, its handler async-signal-safe; `former` is filled on success.
    check(unsafe { libc::sigaction(signal, &raw const action, former.as_mut_ptr()) })?;
    // SAFETY: filled, as the call succeeded.
    Ok(unsafe { former.assume_init() })
}

// ---- stdin and stdout, as the program inherited them

#[cfg(feature = "cli")]
static WERE_CLOSED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Records whether stdin and stdout are closed. Runs before `main`, and before Rust's runtime opens
/// `/dev/null` in the place of each closed one. After that, the two cannot be distinguished.
#[cfg(feature = "cli")]
extern "C" fn look_at_stdio() {
    for (fd, was_closed) in [libc::STDIN_FILENO, libc::STDOUT_FILENO].into_iter().zip(&WERE_CLOSED) {
        // SAFETY: no pointers.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        was_closed.store(flags == -1, Ordering::Relaxed);
    }
}

#[cfg(feature = "cli")]
#[used]
// SAFETY: the section is an array of such functions. This one needs nothing that is set up after
// it.
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
// SAFETY: as above.
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
static AT_START: extern "C" fn() = look_at_stdio;

/// Checks that `stream`, which is stdin or stdout, was open when the program started.
///
/// # Errors
/// `EBADF` if it was closed. The descriptor is `/dev/null` then.
#[cfg(feature = "cli")]
pub fn check_was_open(stream: &impl AsFd) -> io::Result<()> {
    let index = usize::try_from(stream.as_fd().as_raw_fd()).unwrap_or(usize::MAX);
    match WERE_CLOSED.get(index) {
        Some(was_closed) if was_closed.load(Ordering::Relaxed) => {
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }
        _ => Ok(()),
    }
}

// ---- sockets

/// Sets an integer option: `setsockopt(2)`.
fn set_option(socket: &impl AsFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_option_raw(socket, level, name, &value)
}

fn set_option_raw<T>(socket: &impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation)] // an int or two
    let size = mem::size_of::<T>() as socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` points to `size` bytes that the kernel only reads.
    check(unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(value).cast(), size) })?;
    Ok(())
}

/// Sets the options of every TCP socket. Accepted sockets inherit them, so they need no call each.
fn set_inheritable_options(socket: &OwnedFd) -> io::Result<()> {
    set_optional(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    set_optional(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE)?;
    set_urgent_inline(socket)
}

/// Turns an option on, unless the transport lacks it: multipath TCP has no urgent data.
fn set_optional(socket: &impl AsFd, level: c_int, name: c_int) -> io::Result<()> {
    match set_option(socket, level, name, 1) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP)) => Ok(()),
        other => other,
    }
}

/// Creates a non-blocking TCP socket of the family of `address`.
pub fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | SOCKET_FLAGS, 0) })?;
    // SAFETY: just created, so nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    #[cfg(target_vendor = "apple")]
    {
        // SAFETY: no pointers.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        // SAFETY: no pointers.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) })?;
        // `std` sends without `MSG_NOSIGNAL` there and relies on this option, see socket(2) of
        // macOS.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1)?;
    }
    set_inheritable_options(&socket)?;
    Ok(socket)
}

/// Creates a non-blocking TCP socket that listens.
pub fn listen_tcp(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address)?;
    if options.reuse_port {
        let text = "this system does not share the connections of a port among sockets (SO_REUSEPORT)";
        let name = REUSE_PORT.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, text))?;
        set_option(&socket, libc::SOL_SOCKET, name, 1)?;
    }
    // On OpenBSD it is always set, and turning it off is an error: ip6(4).
    if address.is_ipv6() && !cfg!(target_os = "openbsd") {
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, options.ipv6_only.into())?;
    }
    bind(&socket, address)?;
    listen(&socket, options.backlog.into())?;
    Ok(socket)
}

/// Duplicates `fd`, a listening stream socket that the process was started with. `fd` itself stays
/// open. The duplicate's number is `lowest` or above. The socket is made non-blocking, and a TCP
/// socket gets the options of [`listen_tcp`]. Also returns the address family.
#[cfg(target_os = "linux")]
pub fn duplicate_listening(fd: c_int, lowest: c_int) -> io::Result<(OwnedFd, c_int)> {
    // SAFETY: no pointers.
    let duplicate = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest) })?;
    // SAFETY: just created, so nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(duplicate) };
    let not_listening = || io::Error::new(io::ErrorKind::InvalidInput, "not a listening stream socket");
    let listens = get_option(&socket, libc::SO_ACCEPTCONN).map_err(|error| {
        if error.raw_os_error() == Some(libc::ENOTSOCK) { not_listening() } else { error }
    })?;
    if listens == 0 || get_option(&socket, libc::SO_TYPE)? != libc::SOCK_STREAM {
        return Err(not_listening());
    }
    set_nonblocking(&socket)?;
    let family = get_option(&socket, libc::SO_DOMAIN)?;
    if family != libc::AF_UNIX {
        set_inheritable_options(&socket)?;
    }
    Ok((socket, family))
}

/// Reads an integer option of the socket itself.
#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn get_option(socket: &impl AsFd, name: c_int) -> io::Result<c_int> {
    let mut value = [0];
    get_options(socket, libc::SOL_SOCKET, name, &mut value)?;
    Ok(value[0])
}

/// Reads an option that consists of integers: `getsockopt(2)`.
fn get_options(socket: &impl AsFd, level: c_int, name: c_int, values: &mut [c_int]) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation)] // a few ints
    let mut size = mem::size_of_val(values) as socklen_t;
    let (fd, place) = (socket.as_fd().as_raw_fd(), values.as_mut_ptr().cast());
    // SAFETY: the kernel writes at most `size` bytes, and `values` has room for them.
    check(unsafe { libc::getsockopt(fd, level, name, place, &raw mut size) })?;
    Ok(())
}

/// Returns the process ID of the peer of a Unix socket, see [`PEER_PID`].
pub fn peer_pid(socket: &Socket) -> Option<u32> {
    let (level, name, index) = PEER_PID;
    let mut credentials = [0; 24]; // more than any system has
    get_options(socket, level, name, &mut credentials).ok()?;
    u32::try_from(credentials[index]).ok().filter(|&pid| pid != 0)
}

/// Binds a socket: `bind(2)`. With `SO_REUSEADDR`, the port may still have connections in
/// `TIME_WAIT`.
pub fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    // SAFETY: the address is complete, and is only read.
    with_raw_address(address, |raw, size| unsafe { libc::bind(socket.as_raw_fd(), raw, size) })
}

/// Begins to connect a non-blocking socket: `connect(2)`. The attempt has ended when the socket is
/// writable.
pub fn connect(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    // SAFETY: the address is complete, and is only read.
    match with_raw_address(address, |raw, size| unsafe { libc::connect(socket.as_raw_fd(), raw, size) }) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(()),
        other => other,
    }
}

/// Calls `f` with the kernel's form of an address, and its size in bytes.
fn with_raw_address(
    address: SocketAddr,
    f: impl FnOnce(*const libc::sockaddr, socklen_t) -> c_int,
) -> io::Result<()> {
    // On a BSD, the structure also has a length. It stays zero, because the kernel sets it.
    #[allow(clippy::cast_possible_truncation)] // sizes of 16 and 28 bytes, and address families
    let result = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: all zero is a valid address.
            let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            f((&raw const raw).cast(), mem::size_of_val(&raw) as socklen_t)
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            f((&raw const raw).cast(), mem::size_of_val(&raw) as socklen_t)
        }
    };
    check(result)?;
    Ok(())
}

/// Returns the port of a TCP service by its name: `getaddrinfo(3)`, `services(5)`.
#[cfg(feature = "cli")]
pub fn service_port(name: &std::ffi::CStr) -> Option<u16> {
    // SAFETY: all zero is a valid `addrinfo`: no hints.
    let mut hints: libc::addrinfo = unsafe { mem::zeroed() };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list = ptr::null_mut();
    // SAFETY: `name` ends with a zero, `hints` is complete; `list` is set on success.
    if unsafe { libc::getaddrinfo(ptr::null(), name.as_ptr(), &raw const hints, &raw mut list) } != 0 {
        return None;
    }
    // SAFETY: on success there is at least one entry, with an address.
    let data = unsafe { (*(*list).ai_addr).sa_data };
    // SAFETY: the list is not used any more.
    unsafe { libc::freeaddrinfo(list) };
    // In both families, `sa_data` begins with the port.
    Some(u16::from_be_bytes([data[0].to_ne_bytes()[0], data[1].to_ne_bytes()[0]]))
}

/// Makes a socket listen: `listen(2)`. On a socket that listens already, sets the backlog.
pub fn listen(socket: &impl AsFd, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) })?;
    Ok(())
}

/// Makes the kernel deliver urgent data in the stream: `SO_OOBINLINE`, `socket(7)`.
pub fn set_urgent_inline(socket: &impl AsFd) -> io::Result<()> {
    set_optional(socket, libc::SOL_SOCKET, libc::SO_OOBINLINE)
}

/// Makes `close` send a reset and drop unsent bytes: `SO_LINGER`, `socket(7)`.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_option_raw(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Returns how many bytes have arrived and are unread: `FIONREAD`, `tcp(7)` and `unix(7)`.
pub fn unread_bytes(socket: &Socket) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: for a socket, the kernel writes an int.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Returns how many sent bytes have not been taken by the peer's kernel (on a Unix socket of Linux,
/// by the peer): `SIOCOUTQ`, `tcp(7)` and `unix(7)`. macOS has `SO_NWRITE`, and FreeBSD and NetBSD
/// have `FIONWRITE`.
pub fn unacknowledged_bytes(socket: &Socket) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    let bytes = get_option(socket, libc::SO_NWRITE)?;
    #[cfg(not(target_vendor = "apple"))]
    let bytes = {
        let mut bytes: c_int = 0;
        // SAFETY: for a socket, the kernel writes an int.
        check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), OUTPUT_QUEUE, &raw mut bytes) })?;
        bytes
    };
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Receives without blocking, whatever the flags of the open file description are: `recv(2)`,
/// `MSG_DONTWAIT`.
pub fn receive_now(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (buffer.as_mut_ptr().cast::<c_void>(), buffer.len());
    // SAFETY: `length` writable bytes.
    count(unsafe { libc::recv(socket.as_fd().as_raw_fd(), start, length, libc::MSG_DONTWAIT) })
}

/// Sends without blocking and without `SIGPIPE`, whatever the flags of the open file description
/// are: `send(2)`, `MSG_DONTWAIT`.
pub fn send_now(socket: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    // macOS waits for room despite `MSG_DONTWAIT` (`sosendcheck` in XNU's uipc_socket.c). But a
    // writable socket has room for a small write: `SO_SNDLOWAT` is 2048 bytes.
    #[cfg(target_vendor = "apple")]
    let bytes = if is_ready_now(socket, libc::POLLOUT)? {
        &bytes[..bytes.len().min(libc::PIPE_BUF)]
    } else {
        return Err(io::ErrorKind::WouldBlock.into());
    };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let start = bytes.as_ptr().cast::<c_void>();
    // SAFETY: `bytes.len()` readable bytes.
    count(unsafe { libc::send(socket.as_fd().as_raw_fd(), start, bytes.len(), flags) })
}

// ---- time

/// Returns the time of the clock that all processes share: `CLOCK_MONOTONIC`, `clock_gettime(2)`.
pub fn monotonic_time() -> io::Result<Duration> {
    let mut time = MaybeUninit::uninit();
    // SAFETY: `time` is filled on success.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) })?;
    // SAFETY: filled, as the call succeeded.
    let time: libc::timespec = unsafe { time.assume_init() };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Ok(Duration::new(seconds.unwrap_or(0), nanoseconds.unwrap_or(0)))
}

// ---- descriptors of any kind

/// Reads without blocking, whatever the flags of the open file description are: `RWF_NOWAIT`,
/// `preadv2(2)`. Fails with `EOPNOTSUPP` if this kind of descriptor does not support it. Pipes
/// support it, terminals do not. Only Linux has it.
#[cfg(target_os = "linux")]
pub fn read_now(descriptor: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let fd = descriptor.as_fd().as_raw_fd();
    // SAFETY: one part, of as many writable bytes as it says. -1 means the current offset.
    count(unsafe { libc::preadv2(fd, &raw const part, 1, -1, libc::RWF_NOWAIT) })
}

/// Writes without blocking, see [`read_now`].
#[cfg(target_os = "linux")]
pub fn write_now(descriptor: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let fd = descriptor.as_fd().as_raw_fd();
    // SAFETY: one part, of as many readable bytes as it says; they are only read.
    count(unsafe { libc::pwritev2(fd, &raw const part, 1, -1, libc::RWF_NOWAIT) })
}

/// Writes: `write(2)`, which may block.
pub fn write(descriptor: &impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let fd = descriptor.as_fd().as_raw_fd();
    // SAFETY: `bytes.len()` readable bytes.
    count(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
}

/// Returns the flags of the open file description: `fcntl(2)`, `F_GETFL`.
fn status_flags(descriptor: &impl AsFd) -> io::Result<c_int> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(descriptor.as_fd().as_raw_fd(), libc::F_GETFL) })
}

/// Sets `O_NONBLOCK` on the open file description.
pub fn set_nonblocking(descriptor: &impl AsFd) -> io::Result<()> {
    let flags = status_flags(descriptor)? | libc::O_NONBLOCK;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(descriptor.as_fd().as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// Returns `O_RDONLY`, `O_WRONLY` or `O_RDWR`.
pub fn access_mode(descriptor: &impl AsFd) -> io::Result<c_int> {
    Ok(status_flags(descriptor)? & libc::O_ACCMODE)
}

/// Takes the lock of a file or directory: `flock(2)`. The lock is released when its last descriptor
/// is closed. Fails with `WouldBlock` while it is taken through another `open(2)` of the file, also
/// of this process.
pub fn try_lock(file: &impl AsFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Returns the path that opens a terminal again: `ttyname(3)`. A pseudo-terminal's master
/// has none: its device (`/dev/ptmx`, `/dev/ptyp0`) creates another pseudo-terminal, or is in use.
#[cfg(not(target_os = "linux"))]
pub fn reopenable_path(file: &impl AsFd) -> io::Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let mut name = [0_u8; 128];
    // SAFETY: `name` has room for that many bytes. On success they end with a zero.
    let error = unsafe { libc::ttyname_r(file.as_fd().as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    if !name.starts_with(b"/dev/tty") && !name.starts_with(b"/dev/pts/") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(std::ffi::OsStr::from_bytes(name).into())
}

/// Returns whether the descriptor is the controlling terminal, which `/dev/tty` opens: `tty(4)`.
pub fn is_controlling_terminal(descriptor: &impl AsFd) -> bool {
    // SAFETY: no pointers.
    let session = unsafe { libc::tcgetsid(descriptor.as_fd().as_raw_fd()) };
    // SAFETY: no pointers.
    session == unsafe { libc::getsid(0) }
}

/// Returns whether this process is in the background of the terminal: `tcgetpgrp(3)`. Then another
/// process uses the terminal, and the kernel stops this process with SIGTTOU if it changes anything
/// there.
#[cfg(feature = "cli")]
pub fn is_in_background(terminal: &impl AsFd) -> bool {
    // SAFETY: no pointers.
    let foreground = unsafe { libc::tcgetpgrp(terminal.as_fd().as_raw_fd()) };
    // SAFETY: no pointers.
    foreground != -1 && foreground != unsafe { libc::getpgrp() }
}

/// Discards input that was typed and not read: `tcflush(3)`. Does nothing if the descriptor is not
/// a terminal.
#[cfg(feature = "cli")]
pub fn discard_input(terminal: &impl AsFd) {
    // SAFETY: no pointers.
    unsafe { libc::tcflush(terminal.as_fd().as_raw_fd(), libc::TCIFLUSH) };
}

/// Returns whether the terminal echoes the newline of a typed line: `ECHO` or `ECHONL`, see
/// `termios(3)`.
#[cfg(feature = "cli")]
pub fn echoes_newlines(terminal: &impl AsFd) -> bool {
    let mut attributes = MaybeUninit::<libc::termios>::uninit();
    // SAFETY: `attributes` is filled on success.
    let result = check(unsafe { libc::tcgetattr(terminal.as_fd().as_raw_fd(), attributes.as_mut_ptr()) });
    // SAFETY: filled, as the call succeeded. A `termios` is plain data.
    result.is_ok_and(|_| unsafe { attributes.assume_init() }.c_lflag & (libc::ECHO | libc::ECHONL) != 0)
}

/// Returns whether a line, or the end of file, can be read from the terminal now.
#[cfg(feature = "cli")]
pub fn has_input(terminal: &impl AsFd) -> bool {
    is_ready_now(terminal, libc::POLLIN).unwrap_or(false)
}

/// Returns the columns and rows of a terminal's window: `TIOCGWINSZ`, `ioctl_tty(2)`. If the
/// terminal does not know them, returns 80 and 24.
#[cfg(feature = "cli")]
pub fn window_size(terminal: &impl AsFd) -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize`, or nothing.
    unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    let or_else = |known: u16, usual| if known == 0 { usual } else { usize::from(known) };
    (or_else(size.ws_col, 80), or_else(size.ws_row, 24))
}

/// Returns whether one read or write of the descriptor would not block now.
pub fn is_ready_now(descriptor: &impl AsFd, events: libc::c_short) -> io::Result<bool> {
    let mut one = libc::pollfd { fd: descriptor.as_fd().as_raw_fd(), events, revents: 0 };
    // SAFETY: an array of one `pollfd`.
    Ok(check(unsafe { libc::poll(&raw mut one, 1, 0) })? > 0)
}

/// Waits until one of two descriptors is readable, or the first one if there is no second. Returns
/// whether the second one is.
#[cfg(feature = "cli")]
pub fn wait_for_either(first: &impl AsFd, second: Option<&UnixStream>) -> io::Result<bool> {
    // The kernel ignores a negative descriptor.
    let fds = [first.as_fd().as_raw_fd(), second.map_or(-1, AsRawFd::as_raw_fd)];
    let mut both = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: an array of two `pollfd`.
    check(unsafe { libc::poll(both.as_mut_ptr(), 2, -1) })?;
    Ok(both[1].revents != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn signal_handler_writes_one_byte_if_there_is_room_and_keeps_errno() {
        let (mut read_end, write_end) = UnixStream::pair().unwrap();
        write_end.set_nonblocking(true).unwrap();
        let write_end: &'static UnixStream = Box::leak(Box::new(write_end));
        set_wakeup_fd(write_end);
        // SAFETY: the address of this thread's own errno.
        let errno = unsafe { platform::errno_location() };
        let handle = || {
            // SAFETY: as above. It looks as if a write was interrupted, but not one of the handler.
            unsafe { *errno = libc::EINTR };
            handle_signal(libc::SIGUSR2);
            // SAFETY: as above.
            assert_eq!(unsafe { *errno }, libc::EINTR);
            assert!(take_pending(libc::SIGUSR2));
        };
        handle();
        assert_eq!(read_end.read(&mut [0; 2]).unwrap(), 1);
        while send_now(write_end, &[0; 4096]).is_ok() {}
        handle();
    }
}
