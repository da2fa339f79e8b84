//! Mapped files that are cut under the process that reads them.
//!
//! The library that reads git maps packs and their indices. The kernel answers a read of a page that such a file no longer has with
//! SIGBUS (mmap(2)), which would end the daemon, and the next one, since the request is asked again. Here the page is given zeros
//! instead: what is read of git is compared with its id (S100), so that they become an error of that one object.

use std::ffi::c_void;
use std::io;
use std::ptr::without_provenance_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{SysconfVar, sysconf};

/// How large a page is. Zero before [`give_zeros`].
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// How many pages were given zeros.
static PAGES: AtomicU64 = AtomicU64::new(0);

/// From now on a page of a mapped file that is not there is one of zeros.
///
/// # Errors
/// The kernel refuses the handler.
#[expect(unsafe_code, reason = "a handler of a signal that the kernel sends for an instruction")]
pub fn give_zeros() -> io::Result<()> {
    let page =
        sysconf(SysconfVar::PAGE_SIZE)?.and_then(|page| usize::try_from(page).ok()).unwrap_or(4096);
    PAGE_BYTES.store(page, Ordering::Relaxed);
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(on_bus_error), flags, SigSet::empty());
    // SAFETY: the handler only reads statics that are atomic, and makes system calls that may be made in one (signal-safety(7)).
    unsafe { sigaction(Signal::SIGBUS, &action) }?;
    Ok(())
}

/// How many pages were missing so far.
pub fn pages() -> u64 {
    PAGES.load(Ordering::Relaxed)
}

#[expect(unsafe_code, reason = "what the kernel says of a signal comes as a pointer")]
extern "C" fn on_bus_error(_: libc::c_int, said: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a pointer to what it says, which holds until the handler returns.
    let (code, address) = unsafe { ((*said).si_code, (*said).si_addr().addr()) };
    if code != libc::BUS_ADRERR || !fill(address) {
        // The instruction is run again, and this time it kills.
        // SAFETY: as above; the default action is no code of ours.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

/// Puts a page of zeros where there is none.
#[expect(unsafe_code, reason = "no safe call replaces a page")]
fn fill(address: usize) -> bool {
    let page = PAGE_BYTES.load(Ordering::Relaxed);
    let start = without_provenance_mut::<c_void>(address - address % page.max(1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the kernel has just said that nothing can be read at this page, so that no value is there which would be lost. It stays
    // a part of whoever mapped it, and goes when that is unmapped. It can only be read, as the files that are mapped.
    let put = unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) };
    PAGES.fetch_add(1, Ordering::Relaxed);
    put != libc::MAP_FAILED
}
