//! `pass`: the privileged side of a mount that a daemon without privileges serves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::cli::LogFormat;
use super::failure::Failure;
use super::input;
use crate::daemon::{self, LogTo};
use crate::machine::labels::{Labelled, Labels, SecurityContext};
use crate::machine::mount::MountRequest;
use crate::machine::pass::Passing;
use crate::machine::{mountpoint, user};

/// Arguments of `pass`.
#[derive(Debug, Args)]
pub struct PassArgs {
    /// The socket over which the descriptor is handed
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// A user that may serve the view; repeat it for more (default: the calling user)
    #[arg(long = "allow-uid", value_name = "UID")]
    pub allowed: Vec<u32>,
    /// Let users other than the one who serves the view read it
    #[arg(long)]
    pub allow_other: bool,
    /// Nothing in the view may be executed
    #[arg(long)]
    pub noexec: bool,
    /// The label of the mount with all files, as `-o context=` of `mount`
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<SecurityContext>,
    /// Where to mount
    #[arg(value_name = "MOUNTPOINT", default_value = "/home/agent/github")]
    pub mountpoint: PathBuf,
}

/// Mounts for whoever comes and may, until a signal asks for the end.
pub(super) fn run(arguments: &PassArgs) -> Result<ExitCode, Failure> {
    if !user::has_sys_admin() {
        return Err(Failure::new("`pass` mounts, and this process has no CAP_SYS_ADMIN")
            .with_cure(
                "run it as root, or use `overlayfs-mount exec` or `mount` with fusermount3",
            ));
    }
    let mut labels = Labels::default();
    if let Some(context) = &arguments.context {
        labels.set(Labelled::Everything, context.clone());
    }
    labels.check()?;
    input::start_log(&LogTo::Stderr, LogFormat::Auto)?;
    let allowed = match arguments.allowed.as_slice() {
        [] => vec![user::effective_ids().0],
        allowed => allowed.to_vec(),
    };
    let request = MountRequest {
        mountpoint: mountpoint::resolve(&arguments.mountpoint)?,
        source_name: OsString::from("overlayfs-mount"),
        allow_other: arguments.allow_other,
        default_permissions: true,
        forbids_execution: arguments.noexec,
        labels,
    };
    let passing = Passing::listen(&arguments.socket, allowed, request)?;
    daemon::announce_to_systemd();
    passing.run()?;
    Ok(ExitCode::SUCCESS)
}
