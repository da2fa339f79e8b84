//! How a command fails: a message with its cure on standard error, and an exit status.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use super::output::Lines;
use crate::config::ConfigError;
use crate::control::ControlError;
use crate::daemon::DaemonError;
use crate::machine::MachineError;
use crate::store::StoreError;
use crate::sync::BuildError;
use crate::sync::cycle::RoundError;
use crate::union::name::Printable;

/// The exit status of a command that failed.
pub(super) const FAILED: u8 = 1;
/// The exit status for wrong usage and wrong configuration.
pub(super) const USAGE: u8 = 2;

/// A command that did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit status.
    pub(super) status: u8,
    message: String,
    cure: Option<String>,
}

impl Failure {
    /// A failure of the machine, a source, or a file.
    pub(super) fn new(message: impl Display) -> Self {
        Self { status: FAILED, message: message.to_string(), cure: None }
    }

    /// Wrong usage.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { status: USAGE, message: message.to_string(), cure: None }
    }

    /// Adds what to type.
    pub(super) fn with_cure(mut self, cure: impl Display) -> Self {
        self.cure = Some(cure.to_string());
        self
    }

    /// Says first what was tried.
    pub(super) fn within(self, what: impl Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// What failed, without the cure.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub(super) fn cure(&self) -> Option<&str> {
        self.cure.as_deref()
    }

    /// Sets another exit status, for commands whose statuses mean something else.
    pub(super) fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// Standard output could not be written to.
    #[expect(clippy::needless_pass_by_value, reason = "it is used as `map_err(Failure::output)`")]
    pub(super) fn output(error: io::Error) -> Self {
        Self::new(format!("writing the output: {error}"))
            .with_cure("make room there, or send it elsewhere")
    }

    /// Writes the message as a warning: what was asked was done.
    pub(super) fn warn(&self) {
        let mut text = format!("warning: {}\n", Lines(self.message.trim_end()));
        if let Some(cure) = &self.cure {
            text.push_str("  cure: ");
            text += &Printable(cure).to_string();
            text.push('\n');
        }
        anstream::stderr().write_all(text.as_bytes()).unwrap_or_default();
    }

    /// Message and cure, as they are printed.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.message.starts_with("error") {
            text.push_str("error: ");
        }
        text += &Lines(self.message.trim_end()).to_string();
        text.push('\n');
        if let Some(cure) = &self.cure {
            text.push_str("  cure: ");
            text += &Printable(cure).to_string();
            text.push('\n');
        }
        if env::current_dir().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            text.push_str("note: the working directory was removed, and relative paths lead nowhere\n  cure: cd to one that is there, or give absolute paths\n");
        }
        text
    }

    /// Writes message and cure to standard error.
    pub(super) fn report(&self) -> ExitCode {
        // Where standard error is closed nobody reads it; the exit status says it all the same.
        anstream::stderr().write_all(self.text().as_bytes()).unwrap_or_default();
        ExitCode::from(self.status)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Every source with its own cure, as if each were the only one.
impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let each =
            error.sources.iter().map(|source| format!("{source}\n  cure: {}", source.cure()));
        Self::new(each.collect::<Vec<_>>().join("\nerror: "))
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        Self { cure: cure(&error), ..Self::new(&error) }
    }
}

/// The cure, and the check of `doctor` that says more.
fn cure(error: &MachineError) -> Option<String> {
    let cure = error.cure()?;
    Some(match error.check() {
        Some(check) if cure == "overlayfs-mount doctor" => format!("{cure} (check `{check}`)"),
        Some(check) => format!("{cure} (`overlayfs-mount doctor`, check `{check}`, says more)"),
        None => cure,
    })
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self { cure: error.cure(), ..Self::new(&error) }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let error = match error {
            DaemonError::Build(error) => return error.into(),
            DaemonError::Machine(error) => return error.into(),
            error => error,
        };
        Self { cure: error.cure(), ..Self::new(&error) }
    }
}

impl From<RoundError> for Failure {
    fn from(error: RoundError) -> Self {
        Self { cure: Some(error.cure()), ..Self::new(&error) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error)
    }
}
