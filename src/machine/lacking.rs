//! A process that ends for want of memory before it serves, told from one that crashes.
//!
//! Rust's library ends a process by `abort` where an allocation fails. Its keeper sees a crash then, and gives the mount up after some of them,
//! while it would wait for a worker that ends with [`LACKING`]. Hooks for failed allocations are not stable; so the allocator of the program
//! notes that one has failed, and the handler of SIGABRT, which `abort` raises in the same thread, ends the process with that status. Only where
//! no request can be to blame, which must not be asked for ever (S108): in the first thread while it starts, and in one that answers the
//! kernel when it asks for its buffer, before it has read anything.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{getpid, gettid};

use super::keeper::LACKING;

/// How many bytes were asked for last that could not be had; 0 if all could.
static LACKED_BYTES: AtomicUsize = AtomicUsize::new(0);
/// How large the buffer of a thread is that answers the kernel.
static BUFFER_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Whether nobody is served yet.
static IS_STARTING: AtomicBool = AtomicBool::new(false);

/// The system's allocator, which notes that it has none left.
#[derive(Debug)]
pub struct Noting;

impl Noting {
    fn note(given: *mut u8, size_bytes: usize) -> *mut u8 {
        if given.is_null() {
            LACKED_BYTES.store(size_bytes, Ordering::Relaxed);
        }
        given
    }
}

#[expect(unsafe_code, reason = "an allocator is no safe code")]
// SAFETY: each call is the system's allocator's, with what was asked for and given.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: whoever calls keeps what `System` asks for.
        Self::note(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::note(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, given: *mut u8, layout: Layout, size_bytes: usize) -> *mut u8 {
        // SAFETY: as above; all that was given comes from `System`.
        Self::note(unsafe { System.realloc(given, layout, size_bytes) }, size_bytes)
    }

    unsafe fn dealloc(&self, given: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(given, layout) }
    }
}

/// From now on this process ends with [`LACKING`] where its first thread lacks memory, until it [`serves`], or any thread lacks a buffer of
/// exactly so many bytes.
///
/// # Errors
/// The kernel refuses the handler.
#[expect(unsafe_code, reason = "a handler of the signal by which the library ends a process")]
pub fn end_by_status(buffer_bytes: usize) -> io::Result<()> {
    BUFFER_BYTES.store(buffer_bytes, Ordering::Relaxed);
    IS_STARTING.store(true, Ordering::Relaxed);
    let (handler, flags) = (SigHandler::Handler(on_abort), SaFlags::SA_RESETHAND);
    let action = SigAction::new(handler, flags, SigSet::empty());
    // SAFETY: the handler only reads statics that are atomic, and makes system calls that may be made in one (signal-safety(7)).
    unsafe { sigaction(Signal::SIGABRT, &action) }?;
    Ok(())
}

/// The first thread has started all: what ends it now is a crash again.
pub fn serves() {
    IS_STARTING.store(false, Ordering::Relaxed);
}

/// Ends the process by the signal in all other cases, also where somebody else has sent it.
#[expect(unsafe_code, reason = "nothing else may be done at this end")]
extern "C" fn on_abort(_: libc::c_int) {
    let lacked = LACKED_BYTES.load(Ordering::Relaxed);
    let is_start = || IS_STARTING.load(Ordering::Relaxed) && gettid() == getpid();
    if lacked == BUFFER_BYTES.load(Ordering::Relaxed) || lacked > 0 && is_start() {
        // SAFETY: it ends the process and touches nothing of it.
        unsafe { libc::_exit(i32::from(LACKING)) }
    }
    // SAFETY: it touches nothing of the process. The signal does what it does by default since the handler was called, once that returns.
    unsafe { libc::raise(libc::SIGABRT) };
}
