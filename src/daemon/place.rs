//! What is at a mount point: before a view is mounted there, and right after.

use std::path::Path;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::DaemonError;
use crate::machine::mountinfo::MountTable;
use crate::machine::stale::{Liveness, detach, probe};
use crate::machine::{connections, read_ahead};

/// How long a mount that may be dead has for its answer.
const PROBE: Duration = Duration::from_secs(2);

/// The number by which the kernel knows the connection of the mount just made.
pub(super) fn connection(mountpoint: &Path) -> Option<u32> {
    let table = MountTable::read().ok()?;
    table.topmost_at(mountpoint).map(|mount| mount.minor)
}

/// Makes reads of large files fewer and larger, where that is allowed. Not before the handshake, in which the kernel sets its own.
pub(super) fn raise_read_ahead(mountpoint: &Path) {
    let Some(mount) =
        MountTable::read().ok().and_then(|table| table.topmost_at(mountpoint).cloned())
    else {
        return;
    };
    if let Err(error) = read_ahead::raise(&mount) {
        debug!(%error, "the kernel reads ahead no further than by itself");
    }
}

/// Detaches a view of ours whose daemon has died. A second mount over it would succeed silently and hide it.
pub(super) fn clear_stale(mountpoint: &Path) -> Result<(), DaemonError> {
    loop {
        let table = MountTable::read()?;
        let Some(mount) = table.topmost_at(mountpoint).filter(|mount| mount.is_ours()) else {
            return Ok(());
        };
        match probe(mountpoint, PROBE) {
            Liveness::Dead => {
                warn!(mountpoint = %mountpoint.display(), "a mount was here whose daemon has died: detached");
                detach(mountpoint)?;
            }
            // Taken by a daemon that lives: `mount` refuses with the cure.
            Liveness::Alive | Liveness::Silent | Liveness::Forbidden => {
                let waiting = connections::waiting(mount.minor);
                info!(mountpoint = %mountpoint.display(), ?waiting, "a view is mounted here already");
                return Ok(());
            }
        }
    }
}
