//! `mount`: returns when the view can be read, or says what failed and leaves nothing mounted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::cli::MountArgs;
use super::failure::Failure;
use super::input;
use crate::config::resolved::{Access, AllowOther, Config, Links};
use crate::config::{self, ConfigError};
use crate::daemon::{self, DaemonError, LogTo, Plan, Stopped};
use crate::machine::background::{self, Launch, Ready};
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;

/// Mounts, in the foreground or behind a process that returns.
pub(super) fn run(arguments: &MountArgs) -> Result<ExitCode, Failure> {
    if arguments.foreground {
        let plan = plan(arguments)?;
        start_log(&plan, arguments.log.as_deref(), true)?;
        return finish(daemon::run(&plan, || {
            daemon::announce_to_systemd();
            Ok(())
        }));
    }
    if !background::is_launched() {
        // Wrong usage and configuration are said here, before anything is started.
        plan(arguments)?;
        return match background::launch()? {
            Launch::Ready(_pid) => Ok(ExitCode::SUCCESS),
            Launch::Failed(status) => Ok(ExitCode::from(status)),
        };
    }
    let ready = Ready::detach_self()?;
    let plan = plan_quietly(arguments)?;
    start_log(&plan, arguments.log.as_deref(), false)?;
    finish(daemon::run(&plan, || ready.announce().map_err(DaemonError::from)))
}

fn finish(outcome: Result<Stopped, DaemonError>) -> Result<ExitCode, Failure> {
    match outcome? {
        Stopped::Unmounted | Stopped::Signal(_) => Ok(ExitCode::SUCCESS),
    }
}

fn plan(arguments: &MountArgs) -> Result<Plan, Failure> {
    complete(arguments, input::config(&arguments.config)?)
}

/// As [`plan`], for the process whose caller has seen the warnings already.
fn plan_quietly(arguments: &MountArgs) -> Result<Plan, Failure> {
    complete(arguments, input::config_quietly(&arguments.config)?)
}

/// Applies mount options and finds the real mount point.
fn complete(arguments: &MountArgs, mut config: Config) -> Result<Plan, Failure> {
    let mut options = Options { log: None };
    for option in &arguments.options {
        options.apply(option, &mut config)?;
    }
    let wanted = arguments.mountpoint.as_deref().unwrap_or(&config.mount.at);
    let mountpoint = mountpoint::resolve(wanted)?;
    let problems = config::check_mountpoint(&config, &mountpoint);
    if !problems.is_empty() {
        return Err(ConfigError { problems }.into());
    }
    config.mount.at.clone_from(&mountpoint);
    Ok(Plan { config, mountpoint })
}

/// What `-o` says beyond the configuration.
struct Options {
    log: Option<PathBuf>,
}

/// What mount(8), fstab and systemd give to every helper and what means nothing here, or is so anyway.
const IGNORED: [&str; 20] = [
    "ro",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "nofail",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "defaults",
    "relatime",
    "noatime",
    "default_permissions",
];

impl Options {
    fn apply(&mut self, option: &str, config: &mut Config) -> Result<(), Failure> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if IGNORED.contains(&name) || name.starts_with("x-") || name == "comment" || name.is_empty()
        {
            return Ok(());
        }
        let mount = &mut config.mount;
        match (name, value) {
            ("allow_other", "") => mount.allow_other = AllowOther::Yes,
            ("uid", value) => mount.uid = Some(number(name, value)?),
            ("gid", value) => mount.gid = Some(number(name, value)?),
            ("links", "all") => mount.links = Links::All,
            ("links", "inside") => mount.links = Links::Inside,
            ("xattrs", "") => mount.has_xattrs = true,
            ("nosources", "") => mount.shows_sources = false,
            ("access", "all") => config.access = Access::All,
            ("access", "public") => config.access = Access::Public,
            ("access", "none") => config.access = Access::None,
            ("log", value) if !value.is_empty() => self.log = Some(value.into()),
            _ => return Err(unknown(option)),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u32, Failure> {
    value.parse().map_err(|_| {
        Failure::usage(format!("mount option `{name}={value}`: `{value}` is not a number"))
            .with_cure(format!("give a numeric id, as `-o {name}=1000`"))
    })
}

fn unknown(option: &str) -> Failure {
    Failure::usage(format!("mount option `{option}` is not known")).with_cure(
        "use allow_other, uid=N, gid=N, links=all|inside, xattrs, nosources, access=all|public|none, or log=FILE",
    )
}

fn start_log(plan: &Plan, file: Option<&Path>, is_foreground: bool) -> Result<(), Failure> {
    let to = match file {
        Some(path) => LogTo::File(path.to_owned()),
        None if is_foreground => LogTo::Stderr,
        None => {
            let run_dir = RunDir::of_user()?;
            run_dir.create()?;
            LogTo::JournalOr(run_dir.log(&plan.mountpoint))
        }
    };
    daemon::start_log(&to).map_err(|error| {
        Failure::new(format!("the log cannot be written to {to}: {error}"))
            .with_cure("name another file with `--log FILE`")
    })
}
