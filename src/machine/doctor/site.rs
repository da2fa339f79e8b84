//! The place where a view is to be mounted.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, eaccess};

use super::CheckOutcome;
use crate::machine::mountinfo::MountTable;
use crate::machine::site::Site;
use crate::machine::stale::{Liveness, probe};
use crate::machine::user;

pub(super) fn mount_point(path: &Path) -> CheckOutcome {
    let Ok(table) = MountTable::read() else { return CheckOutcome::ok("not known without /proc") };
    let shown = path.display();
    if let Some(mount) = table.topmost_at(path).filter(|mount| mount.is_ours()) {
        let origin = mount.source.to_string_lossy().into_owned();
        return match probe(path, Duration::from_secs(1)) {
            Liveness::Alive | Liveness::Forbidden => CheckOutcome::warn(
                format!("a view of `{origin}` is mounted on `{shown}`"),
                format!("overlayfs-mount unmount '{shown}', before another one is mounted there"),
            ),
            Liveness::Dead | Liveness::Silent => CheckOutcome::warn(
                format!("nobody answers for the view on `{shown}`"),
                format!("overlayfs-mount unmount --lazy '{shown}'"),
            ),
        };
    }
    let site = match Site::find(path) {
        Ok(site) => site,
        Err(error) => {
            return CheckOutcome::fail(error.to_string(), error.cure().unwrap_or_default());
        }
    };
    let existing = site.existing().display();
    if site.is_covered() {
        return CheckOutcome::fail(
            format!("`{shown}` does not exist, and cannot be made in `{existing}`"),
            format!("mkdir -p '{shown}' as who may, or use `overlayfs-mount exec`"),
        );
    }
    if site.is_missing() {
        return CheckOutcome::ok(format!(
            "`{shown}` will be made in `{existing}`, and removed again"
        ));
    }
    if !user::has_sys_admin() && eaccess(path, AccessFlags::W_OK).is_err() {
        return CheckOutcome::fail(
            format!("`{shown}` cannot be written to by this user, and fusermount3 asks for that"),
            format!("make `{shown}` a directory of this user, or use `overlayfs-mount exec`"),
        );
    }
    match fs::read_dir(path).map(Iterator::count) {
        Ok(0) | Err(_) => CheckOutcome::ok(format!("`{shown}` is there")),
        Ok(entries) => CheckOutcome::ok(format!(
            "`{shown}` is there; a view hides the {entries} entries in it"
        )),
    }
}

pub(super) fn propagation(path: &Path) -> CheckOutcome {
    let (Ok(table), Ok(site)) = (MountTable::read(), Site::find(path)) else {
        return CheckOutcome::ok("not known");
    };
    let Some(mount) = table.find(site.existing()) else { return CheckOutcome::ok("not known") };
    let on = mount.mountpoint.display();
    let is_shared =
        mount.propagation.iter().any(|word| word.to_string_lossy().starts_with("shared:"));
    if is_shared {
        return CheckOutcome::ok(format!(
            "`{on}` is shared: name spaces that follow it see the view"
        ));
    }
    CheckOutcome::warn(
        format!("`{on}` is not shared: only this mount name space sees the view"),
        format!(
            "for others `mount --make-rshared '{on}'` as root; in Kubernetes `mountPropagation: Bidirectional` here, `HostToContainer` there"
        ),
    )
}
