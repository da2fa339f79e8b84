//! The program: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    overlayfs_mount::commands::run(&arguments)
}
