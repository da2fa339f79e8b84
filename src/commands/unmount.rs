//! `unmount`: returns when the mount is gone and the daemon has ended.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::failure::Failure;
use crate::control::client;
use crate::machine::exit::Process;
use crate::machine::holders;
use crate::machine::inherited;
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;
use crate::machine::stale::abort_abandoned;
use crate::machine::unmount::unmount;

/// Arguments of `unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    /// Detach it now, and let those who hold it finish
    #[arg(short = 'l', long)]
    pub lazy: bool,
}

/// How long a daemon has to end after its mount is gone.
const END: Duration = Duration::from_secs(10);

/// Unmounts a view, also one whose daemon has died.
pub(super) fn run(arguments: &UnmountArgs) -> Result<ExitCode, Failure> {
    let path = mountpoint::resolve(&arguments.mountpoint)?;
    // A shell in the mount has started us there, and hands over what it has open.
    inherited::let_go();
    // Whoever waits for it is told, and it is not asked.
    if abort_abandoned(&path)? {
        return Ok(ExitCode::SUCCESS);
    }
    // A daemon that does not answer is no reason not to unmount.
    let daemon = RunDir::find_socket(&path).and_then(|socket| client::status(&socket).ok());
    if daemon.as_ref().is_some_and(|status| status.views.is_some()) {
        unmount(&path, arguments.lazy)?;
        return wait_for_view(&path);
    }
    if !arguments.lazy {
        // The daemon would go on for them.
        holders::refuse_copies(&path)?;
    }
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

/// Waits until the daemon of many views has let go of this one. It goes on serving the others.
fn wait_for_view(path: &Path) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + END;
    while RunDir::find_socket(path).is_some_and(|socket| client::status(&socket).is_ok()) {
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "`{}` is unmounted, and its daemon has not let go of it",
                path.display()
            )));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(ExitCode::SUCCESS)
}
