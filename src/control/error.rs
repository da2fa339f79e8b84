//! The one error of this room.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a daemon and an operator did not come together.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no daemon answers on `{}`", .socket.display())]
    NoDaemon {
        /// The control socket.
        socket: PathBuf,
    },
    /// This user may not ask.
    #[error("`{}` is closed to this user", .socket.display())]
    Forbidden {
        /// The control socket.
        socket: PathBuf,
    },
    /// Another daemon listens already.
    #[error("another daemon listens on `{}`", .socket.display())]
    InUse {
        /// The control socket.
        socket: PathBuf,
    },
    /// The socket cannot be made.
    #[error("control socket `{}` cannot be made: {error}", .socket.display())]
    Listen {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Metrics cannot be served there.
    #[error("metrics cannot be served at `{address}`: {error}")]
    Bind {
        /// Where they should be.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The daemon did not answer in time.
    #[error("the daemon on `{}` has not answered", .socket.display())]
    Silent {
        /// The control socket.
        socket: PathBuf,
    },
    /// The conversation broke off.
    #[error("the daemon on `{}` cannot be asked: {error}", .socket.display())]
    Io {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The daemon answered something that this version does not understand.
    #[error("the daemon on `{}` answered what this version does not understand: {reason}", .socket.display())]
    Answer {
        /// The control socket.
        socket: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The daemon could not do what it was asked.
    #[error("{message}")]
    Refused {
        /// What failed, and where.
        message: String,
        /// What to do about it.
        cure: Option<String>,
    },
}

impl ControlError {
    /// What to do about it, in words to act on.
    pub fn cure(&self) -> Option<String> {
        match self {
            Self::NoDaemon { .. } => Some(
                "overlayfs-mount mount; if the mount is there without its daemon, `overlayfs-mount unmount --lazy` first"
                    .to_owned(),
            ),
            Self::Forbidden { .. } => Some("ask as the user who mounted, or as root".to_owned()),
            Self::InUse { .. } => Some("overlayfs-mount unmount, or mount elsewhere".to_owned()),
            Self::Listen { .. } => Some("set OVERLAYFS_MOUNT_RUN_DIR to a directory of yours with mode 0700".to_owned()),
            Self::Bind { error, .. } => Some(match error.kind() {
                io::ErrorKind::AddrInUse => "another process listens there (`ss -ltnp` names it): end it, or give another port to `--metrics`".to_owned(),
                io::ErrorKind::AddrNotAvailable => "give an address of this machine to `--metrics`, as 127.0.0.1:9100".to_owned(),
                io::ErrorKind::PermissionDenied => "give a port above 1023 to `--metrics`".to_owned(),
                _ => "give `--metrics` a port, as 9100, or an address of this machine, as 127.0.0.1:9100".to_owned(),
            }),
            Self::Silent { .. } => Some("ask again; the daemon's log says what it is doing".to_owned()),
            Self::Answer { .. } => Some("use the same version of overlayfs-mount as the daemon, or mount again".to_owned()),
            Self::Refused { cure, .. } => cure.clone(),
            Self::Io { .. } => None,
        }
    }

    /// What went wrong, and on a line of its own what to do about it.
    pub fn with_cure(&self) -> String {
        match self.cure() {
            Some(cure) => format!("{self}\n  cure: {cure}"),
            None => self.to_string(),
        }
    }
}
