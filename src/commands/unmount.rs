//! `unmount`: returns when the mount is gone and the daemon has ended.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::failure::Failure;
use crate::control::{ControlError, client};
use crate::machine::exit::Process;
use crate::machine::holders;
use crate::machine::inherited;
use crate::machine::mountinfo::{Mount, MountTable};
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
    if arguments.lazy {
        // What its daemon does then is not waited for, and it need not be asked.
        unmount(&path, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    if MountTable::read()?.topmost_at(&path).is_some_and(Mount::is_of_many) {
        unmount(&path, false)?;
        return wait_for_view(&path);
    }
    // A daemon that does not answer is no reason not to unmount.
    let socket = RunDir::find_socket(&path);
    let daemon = socket.as_deref().map(client::status);
    // The keeper, where there is one, ends after its worker. One that does not answer is waited for as well.
    let numbers = match &daemon {
        Some(Ok(status)) if status.views.is_some() => {
            unmount(&path, false)?;
            return wait_for_view(&path);
        }
        Some(Ok(status)) => [Some(status.pid), status.supervisor_pid],
        Some(Err(ControlError::Silent { socket })) => [client::listener(socket), None],
        Some(Err(_)) | None => [None, None],
    };
    // The daemon would go on for them.
    holders::refuse_copies(&path)?;
    let processes = numbers.into_iter().flatten().map(Process::open);
    let processes = processes.collect::<Result<Vec<_>, _>>()?;
    unmount(&path, false)?;
    for process in processes.into_iter().flatten() {
        process.wait(END).map_err(|error| {
            Failure::from(error).within(format!("`{}` is unmounted", path.display()))
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until the daemon of many views has let go of this one. It goes on serving the others.
fn wait_for_view(path: &Path) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + END;
    while let Some(socket) = RunDir::find_socket(path) {
        let answer = client::status(&socket);
        if matches!(answer, Err(ControlError::NoDaemon { .. })) {
            break;
        }
        if Instant::now() >= deadline {
            let gone =
                format!("`{}` is unmounted, and its daemon has not let go of it", path.display());
            return Err(match client::listener(&socket).filter(|_| answer.is_err()) {
                Some(pid) => Failure::new(format!("{gone}: process {pid} does not answer"))
                    .with_cure(format!(
                        "kill -CONT {pid}, if it was stopped; kill -KILL {pid} ends its other views too"
                    )),
                None => Failure::new(gone).with_cure("its log says what it is doing"),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(ExitCode::SUCCESS)
}
