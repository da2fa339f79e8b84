//! What systemd keeps for a keeper, so that also the keeper's death is survived: the descriptor of the mount and the journal, in the file
//! descriptor store of the unit (`FileDescriptorStoreMax=`, `sd_notify(3)`). The next keeper is started with both.

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{info, warn};

use super::kept::KeptMount;
use crate::machine::mountinfo::MountTable;
use crate::machine::{descriptor, dying};

/// Under what names.
const DEVICE: &str = "fuse";
const JOURNAL: &str = "journal";
/// The process that is above all, and the manager of a machine.
const INIT: u32 = 1;
/// So long a killed process may take to let go of the mount.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Has a mount kept, where somebody is there who may do that. Who keeps nothing for this unit says so in its own log.
pub(super) fn put(mount: &KeptMount) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").map(PathBuf::from) else { return };
    let descriptors = [(DEVICE, mount.device.as_fd()), (JOURNAL, mount.journal.as_fd())];
    for (name, descriptor) in descriptors {
        let text = format!("FDSTORE=1\nFDNAME={name}\n");
        if let Err(error) = descriptor::send_text(&socket, &text, descriptor) {
            warn!(%error, name, "systemd was not given the mount to keep");
        }
    }
}

/// The mount is gone, or given up: it is not to be kept.
pub(super) fn forget() {
    for name in [DEVICE, JOURNAL] {
        let text = format!("FDSTOREREMOVE=1\nFDNAME={name}");
        if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&text)]) {
            warn!(%error, name, "systemd was not told that the mount is gone");
        }
    }
}

/// What was kept for this process, if it is what is mounted there and nobody else serves it.
pub(super) fn left(mountpoint: &Path) -> Option<KeptMount> {
    let given: Vec<_> = sd_notify::listen_fds_with_names().ok()?.collect();
    let take = |wanted: &str| {
        let (number, _) = given.iter().find(|(_, name)| name == wanted)?;
        descriptor::borrow(*number).ok()
    };
    let kept = (take(DEVICE), take(JOURNAL));
    for (number, _) in given.iter().filter(|(_, name)| [DEVICE, JOURNAL].contains(&name.as_str())) {
        // It has just been there.
        nix::unistd::close(*number).unwrap_or_default();
    }
    let (device, journal) = match kept {
        (Some(device), Some(journal)) => (device, File::from(journal)),
        (None, None) => return None,
        _ => {
            forget();
            return None;
        }
    };
    let connection = connection(&device, mountpoint);
    if connection.is_none() {
        warn!(
            "the mount that systemd has kept is not there any more, or is served by another process"
        );
        forget();
    } else {
        info!(mountpoint = %mountpoint.display(), "the mount was kept by systemd: it is gone on with");
    }
    Some(KeptMount { device, journal, connection: Some(connection?) })
}

/// The connection of a descriptor, if it is the one that is mounted there and no process but this one and its manager holds it.
fn connection(device: &OwnedFd, mountpoint: &Path) -> Option<u32> {
    descriptor::expect_device(device, "descriptor from systemd").ok()?;
    let table = MountTable::read().ok()?;
    let mounted = table.topmost_at(mountpoint).filter(|mount| mount.is_ours())?.minor;
    let is_it = descriptor::connection(device).is_none_or(|connection| connection == mounted);
    let manager = nix::unistd::getppid().as_raw().try_into().unwrap_or(INIT);
    let known = [std::process::id(), manager, INIT];
    (is_it && is_free(mounted, device, &known)).then_some(mounted)
}

/// Whether nobody but these holds a connection. Who was killed may need a moment to let go of it, and looks alive on its last way.
fn is_free(connection: u32, device: &OwnedFd, known: &[u32]) -> bool {
    let until = Instant::now() + LETTING_GO;
    while dying::is_held_by_others(connection, device.as_fd(), known) {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}
