//! Threads that begin without a stack for signals.
//!
//! Rust's library gives each thread a stack for the handler that says that a stack has overflowed, and ends the whole process where that
//! stack cannot be mapped: in a thread that has started already, so that nobody can be given an error. It installs that handler, and maps
//! these stacks, only where SIGSEGV or SIGBUS would do what they do by default when the program begins. So they do something else then, and
//! the default again before anything is done. An overflow ends the process as before, by SIGSEGV, with nothing said.

use nix::sys::signal::{SigHandler, Signal, signal};

/// What the library asks for before it decides.
const ASKED_FOR: [Signal; 2] = [Signal::SIGSEGV, Signal::SIGBUS];

/// To be called before Rust's library begins: from the program's `.init_array`, which the loader calls before `main`.
pub extern "C" fn forgo() {
    set(SigHandler::SigIgn);
}

/// To be called first in `main`: programs that are started inherit what is ignored.
pub fn begin() {
    set(SigHandler::SigDfl);
}

/// Nothing is lost where the kernel refuses, which it does for no signal that is asked for here.
#[expect(unsafe_code, reason = "what a signal does is set")]
fn set(handler: SigHandler) {
    for asked in ASKED_FOR {
        // SAFETY: neither of the two is code of ours, which would have to be fit for a handler. Nobody relies on another one yet.
        unsafe { signal(asked, handler) }.map(drop).unwrap_or_default();
    }
}
