//! From a file of the directory to what is to be mounted.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Daemon, State};
use crate::config::resolved::Config;
use crate::config::{self, ConfigError, Environment};
use crate::control::ControlError;
use crate::daemon::start::{Audience, Plan};
use crate::machine::{mountpoint, passthrough};
use crate::sync::Stamp;

impl Daemon {
    /// Reads a configuration.
    pub(super) fn plan_of(&self, file: &Path) -> Result<Plan, ControlError> {
        let stamp = Stamp::of(file);
        // It would be a view of nothing at the default mount point; most likely somebody is about to write it.
        if fs::metadata(file).is_ok_and(|found| found.len() == 0) {
            return Err(refused(&format_args!("`{}` is empty", file.display())));
        }
        let loaded = config::load_file(file, &Environment::of_process());
        let mut config = loaded.map_err(|error| refused(&error))?.config;
        self.plan.overrides.apply(&mut config);
        let at = mountpoint::resolve(&config.mount.at).map_err(|error| refused(&error))?;
        let problems = config::check_mountpoint(&config, &at);
        if !problems.is_empty() {
            return Err(refused(&ConfigError { problems }));
        }
        self.expect_free(file, &at)?;
        config.mount.at.clone_from(&at);
        let allowed = || passthrough::allowed(&config.state.dir).map_err(|error| refused(&error));
        let passthrough = self.plan.has_passthrough.then(allowed).transpose()?;
        Ok(Plan { passthrough, ..self.plan_with(config, at, stamp) })
    }

    fn plan_with(&self, config: Config, mountpoint: PathBuf, stamp: Stamp) -> Plan {
        Plan {
            passthrough: None,
            config,
            mountpoint,
            forbids_execution: self.plan.forbids_execution,
            is_pinned: self.plan.is_pinned,
            overrides: self.plan.overrides,
            stamp,
            metrics: None,
            audience: Audience::Everybody,
            views: Some(self.plan.dir.clone()),
        }
    }

    /// Two views of one mount point would hide one another.
    fn expect_free(&self, file: &Path, at: &Path) -> Result<(), ControlError> {
        let is_there = |(other, state): &(&PathBuf, &State)| match state {
            State::Shown(shown) => *other != file && shown.member().plan.mountpoint == at,
            State::Broken(_) | State::Unmounted => false,
        };
        let Some((other, _)) = self.views.iter().find(is_there) else { return Ok(()) };
        Err(ControlError::Refused {
            message: format!(
                "the mount point `{}` of `{}` is that of `{}` too",
                at.display(),
                file.display(),
                other.display()
            ),
            cure: Some("give each file another `mount.at`".to_owned()),
        })
    }
}

/// The answer to an operator that something failed.
pub(super) fn refused(error: &dyn fmt::Display) -> ControlError {
    ControlError::Refused { message: error.to_string(), cure: None }
}
