//! The program: arguments in, exit status out.

use std::process::ExitCode;

use overlayfs_mount::machine::lacking::Noting;
use overlayfs_mount::machine::signal_stacks;

/// Says of a worker that it has ended for want of memory.
#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// Runs before Rust's library begins, which then gives no thread a stack that the process would end for the lack of.
#[used]
#[expect(unsafe_code, reason = "there is no other way to be called before `main`")]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = signal_stacks::forgo;

fn main() -> ExitCode {
    signal_stacks::begin();
    let arguments: Vec<_> = std::env::args_os().collect();
    overlayfs_mount::commands::run(&arguments)
}
