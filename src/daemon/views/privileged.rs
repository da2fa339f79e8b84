//! Who mounts, binds and unmounts for the views: this process, or a broker where this one is confined.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use super::ViewsPlan;
use super::holdings::{Binding, BoundAs, Holdings};
use super::requests::{DIED, Reply, Request};
use crate::daemon::DaemonError;
use crate::machine::broker::Line;

/// Who mounts.
#[derive(Debug)]
pub(super) enum Privileged {
    /// This process.
    Own(Holdings),
    /// Another one, which is asked.
    Broker(Asking),
}

/// The line to a broker.
#[derive(Debug)]
pub(super) struct Asking {
    line: Line,
    asked: AtomicU64,
}

impl Privileged {
    /// Takes all away but these superblocks with what is bound from them.
    pub(super) fn clear(&mut self, but: &[u64]) -> Result<(), DaemonError> {
        match self {
            Self::Own(holdings) => holdings.clear(but),
            Self::Broker(broker) => broker.ask(&Request::Clear { but: but.to_vec() }).map(drop),
        }
    }

    /// Mounts a superblock for the view of a file and those that are like it.
    pub(super) fn mount(
        &mut self,
        number: u64,
        file: &Path,
        plan: &ViewsPlan,
        is_for_others: bool,
    ) -> Result<OwnedFd, DaemonError> {
        match self {
            Self::Own(holdings) => holdings.mount(number, plan, is_for_others),
            Self::Broker(broker) => {
                let (_, device) = broker.ask(&Request::Mount { number, name: name_of(file) })?;
                device.ok_or_else(Asking::gone)
            }
        }
    }

    /// Binds a view to its mount point.
    pub(super) fn bind(&mut self, binding: Binding<'_>) -> Result<BoundAs, DaemonError> {
        match self {
            Self::Own(holdings) => holdings.bind(binding),
            Self::Broker(broker) => {
                let Binding { file, number, at, .. } = binding;
                match broker.ask(&Request::Bind { number, name: name_of(file), at: at.to_owned() })
                {
                    Ok((Reply::Bound(bound), _)) => Ok(bound),
                    outcome => {
                        // Who has died may have bound it before.
                        self.unbind(file);
                        outcome.and(Err(Asking::gone()))
                    }
                }
            }
        }
    }

    /// Knows from now on what an earlier worker has bound; a broker knows it.
    pub(super) fn adopt(&mut self, file: &Path, at: &Path, bound: BoundAs) {
        match self {
            Self::Own(holdings) => holdings.adopt(file, at, bound),
            Self::Broker(_) => {}
        }
    }

    /// Takes the view of a file away from where it was bound to, also while it is held.
    pub(super) fn unbind(&mut self, file: &Path) {
        match self {
            Self::Own(holdings) => holdings.unbind(file),
            Self::Broker(broker) => {
                if let Err(error) = broker.ask(&Request::Unbind { name: name_of(file) }) {
                    warn!(%error, "a view could not be unmounted");
                }
            }
        }
    }

    /// Takes a superblock away.
    pub(super) fn take_away(&mut self, number: u64) -> Result<(), DaemonError> {
        match self {
            Self::Own(holdings) => holdings.take_away(number),
            Self::Broker(broker) => broker.ask(&Request::TakeAway { number }).map(drop),
        }
    }

    /// Cuts off whoever holds a superblock.
    pub(super) fn abort(&mut self, connection: u32) -> Result<(), DaemonError> {
        match self {
            Self::Own(holdings) => holdings.abort(connection),
            Self::Broker(broker) => broker.ask(&Request::Abort { connection }).map(drop),
        }
    }
}

impl Asking {
    /// Asks over this line from now on.
    pub(super) fn new(line: Line) -> Self {
        // Answers to an earlier worker have other numbers.
        let asked = AtomicU64::new(u64::from(std::process::id()) << 32);
        Self { line, asked }
    }

    /// Waits for the answer as long as there is a broker. No time bounds it: what was given up might be done later, and one that waits for a
    /// mount point's disk is followed by none that would not. Its death ends the wait: the keeper notices each, and says so (`DIED`) after it,
    /// hence after whatever that broker has read; a request that it has not read is for the next one. There is room for the word, since
    /// the line was emptied before. Once the keeper is gone too, the line itself ends with the last broker.
    fn ask(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), DaemonError> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        self.line.drain();
        self.line.send(&request.to_bytes(id), None).map_err(|_| Self::gone())?;
        loop {
            let message = self.line.receive().ok().flatten().ok_or_else(Self::gone)?;
            match Reply::parse(&message.bytes) {
                Some((answered, Reply::Refused { message, cure })) if answered == id => {
                    return Err(DaemonError::Broker { message, cure });
                }
                Some((answered, reply)) if answered == id => {
                    return Ok((reply, message.descriptor));
                }
                Some((DIED, _)) => return Err(Self::gone()),
                Some(_) | None => {}
            }
        }
    }

    fn gone() -> DaemonError {
        DaemonError::Broker {
            message: "the process that mounts has ended".to_owned(),
            cure: Some(
                "it is tried again where another one takes its place; the log says more".to_owned(),
            ),
        }
    }
}

fn name_of(file: &Path) -> std::ffi::OsString {
    file.file_name().unwrap_or_default().to_owned()
}
