//! From a file of the directory to what is to be mounted.

use std::fmt;
use std::path::{Path, PathBuf};

use super::note::Note;
use super::{Daemon, State, ViewsPlan};
use crate::config::resolved::{Config, Origin};
use crate::config::{self, ConfigError, Environment, Loaded};
use crate::control::ControlError;
use crate::daemon::kept_by::{widen, widen_to_file};
use crate::daemon::start::{Audience, Plan};
use crate::machine::mountinfo::MountTable;
use crate::machine::{mountpoint, passthrough};
use crate::view::PastView;

/// What a file says.
pub(super) struct Read {
    pub(super) plan: Plan,
    /// The file as it was read, for the next worker.
    pub(super) text: Vec<u8>,
}

impl ViewsPlan {
    /// Reads the text of a file, which is absolute.
    pub(super) fn read(file: &Path) -> Result<Vec<u8>, ControlError> {
        let text = config::read_file(file).map_err(|error| refused(&error))?;
        // It would be a view of nothing at the default mount point; most likely somebody is about to write it.
        if text.is_empty() {
            return Err(refused(&format_args!("`{}` is empty", file.display())));
        }
        Ok(text)
    }

    /// The configuration of a file with this text, with what the command line says in its place.
    pub(super) fn parse(&self, file: &Path, text: &[u8]) -> Result<Config, ControlError> {
        let origin = Origin::File(file.to_owned());
        let loaded = config::load_text(&origin, text, &Environment::of_process());
        let Loaded { mut config, .. } = loaded.map_err(|error| refused(&error))?;
        self.overrides.apply(&mut config);
        Ok(config)
    }

    fn plan_at(&self, mut config: Config, at: PathBuf) -> Result<Plan, ControlError> {
        config.mount.at.clone_from(&at);
        let allowed = || passthrough::allowed(&config.state.dir).map_err(|error| refused(&error));
        Ok(Plan {
            passthrough: self.has_passthrough.then(allowed).transpose()?,
            config,
            mountpoint: at,
            forbids_execution: self.forbids_execution,
            labels: self.labels.clone(),
            is_pinned: self.is_pinned,
            overrides: self.overrides,
            // Whoever serves many views looks at their files.
            stamp: None,
            metrics: None,
            audience: Audience::Everybody,
            views: Some(self.dir.clone()),
        })
    }

    /// The plan of a view as a worker before has served it: its configuration as it was read first and last.
    pub(super) fn earlier_plan(&self, note: &Note, view: &PastView) -> Option<Read> {
        let (first, last) = view.configurations()?;
        let plan = |text: &[u8]| {
            let config = self.parse(&note.file, text).ok()?;
            self.plan_at(config, note.at.clone()).ok()
        };
        let plan = plan(last)?.mounted_as(plan(first)?);
        Some(Read { plan, text: last.clone() })
    }
}

/// The mount point of a configuration, if it may be one.
pub(super) fn mountpoint_of(config: &Config, table: &MountTable) -> Result<PathBuf, ControlError> {
    let at = mountpoint::resolve_in(table, &config.mount.at).map_err(|error| refused(&error))?;
    let problems = config::check_real_mountpoint(config, &at);
    if !problems.is_empty() {
        return Err(refused(&ConfigError { problems }));
    }
    Ok(at)
}

impl Daemon {
    /// Reads a configuration. What it leads to is open to this process when this returns.
    pub(super) fn plan_of(&mut self, file: &Path) -> Result<Read, ControlError> {
        widen_to_file(self.keeper.as_deref(), file);
        let (config, text) = self.parsed.load(&self.plan, file)?;
        // It is asked for again once it has changed.
        self.parsed.forget(file);
        widen(self.keeper.as_deref(), &config);
        let table = MountTable::read().map_err(|error| refused(&error))?;
        let at = mountpoint_of(&config, &table)?;
        self.expect_free(file, &at)?;
        let plan = self.plan.plan_at(config, at)?;
        Ok(Read { plan, text })
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

#[cfg(test)]
impl ViewsPlan {
    /// The plan of a test.
    pub(super) fn sample(dir: &Path) -> Self {
        use crate::config::resolved::Overrides;
        Self {
            dir: dir.to_owned(),
            forbids_execution: false,
            labels: crate::machine::labels::Labels::default(),
            is_pinned: false,
            has_passthrough: false,
            metrics: None,
            overrides: Overrides::default(),
        }
    }
}
