//! Why a daemon did not start or did not end well.

use thiserror::Error;

use crate::control::ControlError;
use crate::fuse::SessionError;
use crate::machine::MachineError;
use crate::store::is_momentary;
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
    /// Only who may mount may bind.
    #[error("a directory of views can be served only with CAP_SYS_ADMIN")]
    Unprivileged,
    /// Another daemon has it.
    #[error("the views of `{}` are served by another daemon", dir.display())]
    ViewsTaken {
        /// The directory.
        dir: std::path::PathBuf,
    },
    /// The directory of views, or what is kept for it, cannot be used.
    #[error("`{}`: {error}", path.display())]
    Views {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// None of the views can be shown.
    #[error("none of the views of `{}` can be shown\n{}", dir.display(), problems.join("\n"))]
    NoView {
        /// The directory.
        dir: std::path::PathBuf,
        /// Why not each of them.
        problems: Vec<String>,
    },
    /// A view has no place in its superblock.
    #[error(transparent)]
    View(#[from] crate::view::ViewError),
    /// Who mounts for this process did not.
    #[error("{message}")]
    Broker {
        /// Why.
        message: String,
        /// What to type, if anything helps.
        cure: Option<String>,
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
    /// The journal that another worker left cannot be read. The next worker has another try where that may pass.
    pub(super) fn journal(error: std::io::Error) -> Self {
        if is_momentary(&error) {
            return Self::Start { step: "reading the journal of node numbers", error };
        }
        Self::Resume { reason: format!("the journal of node numbers: {error}") }
    }

    /// Whether the machine lacked memory, threads or descriptors, as it may not do soon.
    pub fn is_momentary(&self) -> bool {
        match self {
            Self::Session(SessionError::Threads(_)) => true,
            Self::Session(
                SessionError::Handshake(error)
                | SessionError::NoResend(error)
                | SessionError::Unwritten(error),
            )
            | Self::Machine(MachineError::Keeper { error, .. })
            | Self::Start { error, .. }
            | Self::Views { error, .. } => is_momentary(error),
            Self::Session(_)
            | Self::Build(_)
            | Self::Unfetched { .. }
            | Self::Machine(_)
            | Self::Control(_)
            | Self::Resume { .. }
            | Self::Unprivileged
            | Self::ViewsTaken { .. }
            | Self::NoView { .. }
            | Self::View(_)
            | Self::Broker { .. } => false,
        }
    }

    /// What to type, if anything helps.
    pub fn cure(&self) -> Option<String> {
        match self {
            Self::Machine(error) => error.cure(),
            Self::Control(error) => error.cure(),
            Self::Broker { cure, .. } => cure.clone(),
            Self::Session(SessionError::NoPassthrough) => Some(
                "use Linux 6.9 or newer with CONFIG_FUSE_PASSTHROUGH, or leave out `-o passthrough`".into(),
            ),
            // Each source's message carries its own.
            Self::Build(_)
            | Self::Unfetched { .. }
            | Self::NoView { .. }
            | Self::Session(_)
            | Self::Resume { .. }
            | Self::View(_) => None,
            Self::Start { .. } => Some(
                "give it more memory and threads: see `ulimit -a`, and `memory.max` and `pids.max` of its control group"
                    .to_owned(),
            ),
            Self::Unprivileged => Some(
                "run it as root, or mount each view by itself: `overlayfs-mount mount -c FILE`"
                    .to_owned(),
            ),
            Self::ViewsTaken { .. } => {
                Some("overlayfs-mount status lists its views; end it with SIGTERM".to_owned())
            }
            Self::Views { path, .. } => {
                Some(format!("name a directory that can be read: `ls -ld '{}'`", path.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_lacks_at_the_moment_is_no_reason_to_give_a_mount_up() {
        let errno = io::Error::from_raw_os_error;
        let threads = || SessionError::Threads(errno(libc::EAGAIN));
        assert!(DaemonError::from(threads()).is_momentary());
        assert!(DaemonError::journal(errno(libc::EMFILE)).is_momentary());
        assert!(!DaemonError::journal(io::Error::other("another version")).is_momentary());
        assert!(!DaemonError::from(SessionError::OtherAgreement).is_momentary());
        let keeper = |error| MachineError::Keeper { step: "starting a thread", error };
        assert!(DaemonError::from(keeper(errno(libc::EAGAIN))).is_momentary());
        assert!(!DaemonError::from(keeper(errno(libc::EPERM))).is_momentary());
    }
}
