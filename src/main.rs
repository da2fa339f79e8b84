//! The program: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    overlayfs_mount::commands::run(std::env::args_os().collect())
}
