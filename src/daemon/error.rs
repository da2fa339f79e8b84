//! Why a daemon did not start or did not end well.

use thiserror::Error;

use crate::control::ControlError;
use crate::fuse::SessionError;
use crate::machine::MachineError;
use crate::sync::BuildError;

/// Why a daemon did not start or did not end well.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// A source that is required cannot be served.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A source that is required is not in the repo cache and could not be brought there.
    #[error("{error}\nnot fetched: {}", problems.join("\nnot fetched: "))]
    Unfetched {
        /// What is missing.
        error: BuildError,
        /// Why it could not be fetched, a line each.
        problems: Vec<String>,
    },
    /// This machine does not let us mount.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The kernel and we did not come together.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The control socket cannot be served.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What another worker left cannot be gone on with.
    #[error("the mount cannot be taken over: {reason}")]
    Resume {
        /// What is missing.
        reason: String,
    },
    /// A thread or a signal handler could not be set up.
    #[error("{step}: {error}")]
    Start {
        /// What was tried.
        step: &'static str,
        /// What the operating system said.
        error: std::io::Error,
    },
}

impl DaemonError {
    /// What to type, if anything helps.
    pub fn cure(&self) -> Option<String> {
        match self {
            Self::Machine(error) => error.cure(),
            Self::Control(error) => error.cure(),
            Self::Session(SessionError::NoPassthrough) => Some(
                "use Linux 6.9 or newer with CONFIG_FUSE_PASSTHROUGH, or leave out `-o passthrough`".into(),
            ),
            // Each source's message carries its own.
            Self::Build(_)
            | Self::Unfetched { .. }
            | Self::Session(_)
            | Self::Resume { .. }
            | Self::Start { .. } => None,
        }
    }
}
