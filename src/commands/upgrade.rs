//! `upgrade`: has the program that is on disk now take over, without an error to anybody who uses the view.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::{output, reload, status};
use crate::control::client;
use crate::machine::run_dir::RunDir;
use crate::machine::{mountpoint, program};

/// Arguments of `upgrade`.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// Where it is mounted (default: the only mount)
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
}

/// How long the new program may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Replaces the worker of one view.
pub(super) fn run(arguments: &UpgradeArgs) -> Result<ExitCode, Failure> {
    let path = match &arguments.mountpoint {
        Some(path) => mountpoint::resolve(path)?,
        None => reload::the_only_one()?,
    };
    // Says what is wrong where nobody answers.
    let before = status::one(&path)?;
    let socket = RunDir::find_socket(&path).ok_or_else(|| Failure::new("the daemon has ended"))?;
    let now = client::upgrade(&socket, PATIENCE)?;
    if program::was_replaced(now.pid) {
        let what = "the new program took over and could not go on; the old one goes on";
        return Err(Failure::new(what).with_cure("the log says why it could not"));
    }
    output::write(format!("process {} took over from {}\n", now.pid, before.pid).as_bytes())
}
