//! What systemd keeps for a keeper, so that also the keeper's death is survived: the descriptor of each mount and its journal, in the file
//! descriptor store of the unit (`FileDescriptorStoreMax=`, `sd_notify(3)`). The next keeper is started with them.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tracing::{info, warn};

use super::kept::{KeptMount, KeptPlan};
use crate::daemon::views;
use crate::machine::mountinfo::MountTable;
use crate::machine::{descriptor, dying};

/// Under what names.
const DEVICE: &str = "fuse";
const JOURNAL: &str = "journal";
/// The process that is above all, and the manager of a machine.
const INIT: u32 = 1;
/// So long a killed process may take to let go of the mount.
const LETTING_GO: Duration = Duration::from_secs(5);

/// What of a name says which mount it is of, where there are several.
fn suffix(what: KeptPlan<'_>, mount: &KeptMount) -> Option<String> {
    match what {
        KeptPlan::One(_) => Some(String::new()),
        // Without a number nobody could tell whose it is.
        KeptPlan::Views(_) => mount.connection.map(|connection| format!("-{connection}")),
    }
}

/// Has a mount kept, where somebody is there who may do that. Who keeps nothing for this unit says so in its own log.
pub(super) fn put(what: KeptPlan<'_>, mount: &KeptMount) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").map(PathBuf::from) else { return };
    let Some(suffix) = suffix(what, mount) else { return };
    let descriptors = [(DEVICE, mount.device.as_fd()), (JOURNAL, mount.journal.as_fd())];
    for (name, descriptor) in descriptors {
        let text = format!("FDSTORE=1\nFDNAME={name}{suffix}\n");
        if let Err(error) = descriptor::send_text(&socket, &text, descriptor) {
            warn!(%error, name, "systemd was not given the mount to keep");
        }
    }
}

/// A mount is gone, or given up: it is not to be kept.
pub(super) fn forget(what: KeptPlan<'_>, mount: &KeptMount) {
    if let Some(suffix) = suffix(what, mount) {
        forget_named(&suffix);
    }
}

fn forget_named(suffix: &str) {
    for name in [DEVICE, JOURNAL] {
        let text = format!("FDSTOREREMOVE=1\nFDNAME={name}{suffix}");
        if let Err(error) = sd_notify::notify(&[NotifyState::Custom(&text)]) {
            warn!(%error, name, "systemd was not told that the mount is gone");
        }
    }
}

/// What was kept for this process, as far as it is mounted where it should be and nobody else serves it.
pub(super) fn left(what: KeptPlan<'_>) -> Vec<KeptMount> {
    let mut found: BTreeMap<String, [Option<OwnedFd>; 2]> = BTreeMap::new();
    for (number, name) in sd_notify::listen_fds_with_names().into_iter().flatten() {
        let kinds = [DEVICE, JOURNAL].into_iter().enumerate();
        let mut kinds = kinds.filter_map(|(kind, word)| Some((kind, name.strip_prefix(word)?)));
        let Some((kind, suffix)) = kinds.next() else { continue };
        found.entry(suffix.to_owned()).or_default()[kind] = descriptor::borrow(number).ok();
        // It has just been there.
        nix::unistd::close(number).unwrap_or_default();
    }
    let mut left = Vec::new();
    for (suffix, kept) in found {
        // One without the other was about to be given up.
        if let [Some(device), Some(journal)] = kept {
            if let Some(connection) = connection(what, &device, &suffix) {
                info!(connection, "the mount was kept by systemd: it is gone on with");
                let (journal, connection) = (File::from(journal), Some(connection));
                left.push(KeptMount { device, journal, connection });
                continue;
            }
            warn!(
                "a mount that systemd has kept is not there any more, or is served by another process"
            );
        }
        forget_named(&suffix);
    }
    left
}

/// The connection of a descriptor, if it is one that is mounted there and no process but this one and its manager holds it.
fn connection(what: KeptPlan<'_>, device: &OwnedFd, suffix: &str) -> Option<u32> {
    descriptor::expect_device(device, "descriptor from systemd").ok()?;
    let table = MountTable::read().ok()?;
    let said = descriptor::connection(device);
    let mounted = match what {
        KeptPlan::One(plan) => {
            table.topmost_at(&plan.mountpoint).filter(|mount| mount.is_ours())?.minor
        }
        KeptPlan::Views(plan) => {
            // Where it has not ended, its number is not another's.
            let connection = suffix.strip_prefix('-')?.parse().ok()?;
            views::superblock_at(&table, plan, connection)
                .filter(|_| !descriptor::has_ended(device))
                .map(|_| connection)?
        }
    };
    let is_it = said.is_none_or(|connection| connection == mounted);
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
