//! The privileged side of a mount that somebody else serves: it mounts, hands the descriptor over a socket, and unmounts.
//!
//! Of the other side only its user is looked at, as the kernel tells it, and whether it is there still. Nothing that it sends is read.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tracing::{info, warn};

use super::mount::{MountRequest, mount_for};
use super::mountinfo::{Mount, MountTable};
use super::mountpoint::{self, Claim};
use super::stale::{Liveness, probe};
use super::unmount::unmount;
use super::{MachineError, descriptor};

/// A place where a view may be served by others.
#[derive(Debug)]
pub struct Passing {
    socket: PathBuf,
    listener: UnixListener,
    signals: SignalFd,
    /// The users that may serve.
    allowed: Vec<u32>,
    request: MountRequest,
    claim: Claim,
}

impl Passing {
    /// Makes the mount point if it is missing, and listens on a socket. Whom the directory lets in may connect; only the `allowed` are given
    /// anything.
    ///
    /// # Errors
    /// The mount point cannot be made or is no directory, the socket cannot be made, or somebody listens there.
    pub fn listen(
        socket: &Path,
        allowed: Vec<u32>,
        request: MountRequest,
    ) -> Result<Self, MachineError> {
        let failed =
            |step| move |error| MachineError::Pass { path: socket.to_owned(), step, error };
        let wanted: SigSet =
            [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
        let claim = claim(&request.mountpoint)?;
        wanted.thread_block().map_err(io::Error::from).map_err(failed("signals"))?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let signals = signals.map_err(io::Error::from).map_err(failed("signals"))?;
        let is_socket =
            fs::symlink_metadata(socket).is_ok_and(|found| found.file_type().is_socket());
        if is_socket && UnixStream::connect(socket).is_err() {
            // Left by one that was killed.
            fs::remove_file(socket).map_err(failed("removing an old one"))?;
        }
        let listener = UnixListener::bind(socket).map_err(failed("listening"))?;
        fs::set_permissions(socket, Permissions::from_mode(0o666))
            .map_err(failed("opening it to others"))?;
        Ok(Self { socket: socket.to_owned(), listener, signals, allowed, request, claim })
    }

    /// Mounts for one after the other who comes, and unmounts when that one goes, until a signal asks for the end.
    ///
    /// # Errors
    /// Waiting fails. That a mount is refused is logged, and the other side sees it.
    pub fn run(self) -> Result<(), MachineError> {
        let outcome = self.serve();
        self.claim.release();
        fs::remove_file(&self.socket).unwrap_or_default();
        outcome
    }

    fn serve(&self) -> Result<(), MachineError> {
        let mut served: Option<UnixStream> = None;
        loop {
            let [is_over, has_come, has_gone] = self.wait(served.as_ref())?;
            if has_gone || is_over {
                if served.take().is_some() {
                    self.unmount();
                }
                if is_over {
                    return Ok(());
                }
            }
            if has_come {
                match self.listener.accept() {
                    Ok((peer, _)) if served.is_none() => served = self.admit(peer),
                    Ok(_) => warn!("refused: the view is served already"),
                    Err(error) => warn!(%error, "who came is gone"),
                }
            }
        }
    }

    /// Waits for the end, somebody who comes, or the end of who is there.
    fn wait(&self, served: Option<&UnixStream>) -> Result<[bool; 3], MachineError> {
        let mut polled = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        // That it hangs up is said unasked, and what it sends is not read.
        polled.extend(served.map(|peer| PollFd::new(peer.as_fd(), PollFlags::empty())));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                let path = self.socket.clone();
                return Err(MachineError::Pass { path, step: "waiting", error: error.into() });
            }
        }
        let happened = |at: usize| polled.get(at).is_some_and(|one| one.any().unwrap_or(false));
        Ok([happened(0), happened(1), happened(2)])
    }

    /// Mounts for somebody who may serve; `None` if nothing is mounted.
    fn admit(&self, peer: UnixStream) -> Option<UnixStream> {
        let ids = match getsockopt(&peer, PeerCredentials) {
            Ok(found) => (found.uid(), found.gid()),
            Err(error) => {
                warn!(%error, "who came is not known");
                return None;
            }
        };
        if !self.allowed.contains(&ids.0) {
            warn!(uid = ids.0, "refused: this user may not serve the view");
            return None;
        }
        let path = &self.request.mountpoint;
        self.clear_dead();
        let mounted = mountpoint::check(path).and_then(|()| mount_for(ids, &self.request));
        let fd = match mounted {
            Ok(fd) => fd,
            Err(error) => {
                warn!(%error, cure = error.cure(), "not mounted");
                return None;
            }
        };
        if let Err(error) = descriptor::send(&peer, &fd) {
            warn!(%error, "the descriptor was not passed");
            self.unmount();
            return None;
        }
        info!(uid = ids.0, mountpoint = %path.display(), "mounted and passed");
        Some(peer)
    }

    /// Detaches a view that was left when both sides were killed.
    fn clear_dead(&self) {
        let path = &self.request.mountpoint;
        let is_ours = MountTable::read()
            .is_ok_and(|table| table.topmost_at(path).is_some_and(Mount::is_ours));
        if is_ours && probe(path, PROBE) == Liveness::Dead {
            self.unmount();
        }
    }

    fn unmount(&self) {
        match unmount(&self.request.mountpoint, true) {
            Ok(()) => info!(mountpoint = %self.request.mountpoint.display(), "unmounted"),
            Err(MachineError::NotMounted { .. }) => {}
            Err(error) => warn!(%error, cure = error.cure(), "not unmounted"),
        }
    }
}

/// Claims a mount point on which something can be mounted. A view that is there may end until somebody comes.
fn claim(mountpoint: &Path) -> Result<Claim, MachineError> {
    let claim = Claim::make(mountpoint)?;
    match mountpoint::check(mountpoint) {
        Ok(()) | Err(MachineError::MountpointTaken { .. }) => Ok(claim),
        Err(error) => {
            claim.release();
            Err(error)
        }
    }
}

/// Fetches a descriptor from the privileged side. The mount lasts as long as the socket that is returned, or that side.
///
/// # Errors
/// Nobody listens, or this user is not served.
pub fn fetch(socket: &Path) -> Result<(OwnedFd, UnixStream), MachineError> {
    let failed = |step| move |error| MachineError::Pass { path: socket.to_owned(), step, error };
    let stream = UnixStream::connect(socket).map_err(failed("connecting"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed("connecting"))?;
    let fd = descriptor::receive(&stream).map_err(failed("receiving a descriptor"))?;
    let fd = fd.ok_or_else(|| {
        let reason = "closed without passing a descriptor: another one is served, this user is not \
                      allowed, or nothing could be mounted (its log says which)";
        failed("receiving a descriptor")(io::Error::other(reason))
    })?;
    descriptor::expect_device(&fd, &format!("descriptor from `{}`", socket.display()))?;
    Ok((fd, stream))
}

/// How long the privileged side may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a mount that may be dead has for its answer.
const PROBE: Duration = Duration::from_secs(2);
