//! `unmount`: returns when the mount is gone and the daemon has ended.

use std::process::ExitCode;
use std::time::Duration;

use super::cli::UnmountArgs;
use super::failure::Failure;
use crate::control::client;
use crate::machine::exit::Process;
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;
use crate::machine::unmount::unmount;

/// How long a daemon has to end after its mount is gone.
const END: Duration = Duration::from_secs(10);

/// Unmounts a view, also one whose daemon has died.
pub(super) fn run(arguments: &UnmountArgs) -> Result<ExitCode, Failure> {
    let path = mountpoint::resolve(&arguments.mountpoint)?;
    // A daemon that does not answer is no reason not to unmount.
    let daemon = RunDir::find_socket(&path).and_then(|socket| client::status(&socket).ok());
    // The keeper, where there is one, ends after its worker.
    let numbers = daemon.into_iter().flat_map(|status| [Some(status.pid), status.supervisor_pid]);
    let processes = numbers.flatten().map(Process::open).collect::<Result<Vec<_>, _>>()?;
    unmount(&path, arguments.lazy)?;
    if !arguments.lazy {
        for process in processes.into_iter().flatten() {
            process.wait(END)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
