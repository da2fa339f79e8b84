//! One view of a directory of views, while it is shown.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::{info, warn};

use super::group::{Group, Traits};
use crate::daemon::DaemonError;
use crate::daemon::attach::clear_stale;
use crate::daemon::fetch::Fetching;
use crate::daemon::opening::Caches;
use crate::daemon::operator::{Doors, Reload, Seen, Trouble};
use crate::daemon::start::{Plan, announce};
use crate::daemon::update;
use crate::daemon::update::Following;
use crate::daemon::updates::{Updates, Updating};
use crate::daemon::vitals::{Mounted, Vitals};
use crate::machine::MachineError;
use crate::machine::bind::bind;
use crate::machine::mountinfo::MountTable;
use crate::machine::mountpoint::{self, Claim};
use crate::machine::unmount::unmount;
use crate::snapshot::Snapshot;
use crate::sync::archive::Archive;
use crate::union::name::Name;
use crate::view::View;

/// A view that is shown.
pub(super) struct Member {
    pub(super) plan: Plan,
    pub(super) traits: Traits,
    pub(super) updates: Updates,
    pub(super) trouble: Trouble,
    pub(super) vitals: Arc<Vitals>,
    updating: JoinHandle<()>,
    doors: Doors,
    archive: Option<Arc<Archive>>,
    place: Place,
}

/// A view in its superblock, before and after it is bound to its mount point.
pub(super) struct Place {
    pub(super) name: Name,
    pub(super) view: Arc<View>,
}

/// A mount point with a view on it.
struct Bound {
    claim: Claim,
    mount_id: u64,
}

/// Why a view leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It will not come again: what it kept is forgotten.
    ForGood,
    /// It may come again.
    ForNow,
}

pub(super) struct Shown {
    member: Member,
    bound: Bound,
}

impl Shown {
    /// Binds a view of a superblock to its mount point, and keeps it up to date from now on.
    pub(super) fn start(
        plan: Plan,
        traits: Traits,
        group: &Group,
        place: Place,
        caches: Caches,
        (reload, fetching): (Reload, &mut Option<Fetching>),
    ) -> Result<Self, DaemonError> {
        let bound = attach(&plan.mountpoint, group, &place.name)?;
        let archive = caches.archive.clone();
        let blobs = caches.shared.blobs.clone();
        let vitals = Arc::new(Vitals::default());
        vitals.fetched(fetching.as_ref());
        let (view, counts) = (place.view.clone(), group.counts.clone());
        let seen = Seen::new(&plan, view.clone(), counts.clone(), vitals.clone(), None);
        let trouble = seen.trouble.clone();
        let fetching = fetching.take();
        let following = Following { caches, fetching, is_resumed: false, keeper: None };
        let started = update::start(&plan, view, following, group.kernel.clone(), vitals.clone())
            .and_then(|(updates, updating)| match Doors::open(&plan.mountpoint, seen, reload) {
                Ok(doors) => Ok((updates, updating, doors)),
                Err(error) => {
                    end(&updates, updating.thread);
                    Err(error)
                }
            });
        match started {
            Ok((updates, updating, doors)) => {
                announce(&plan, &place.view.snapshot());
                let Updating { thread: updating, alive } = updating;
                let (view, session) = (place.view.clone(), group.alive());
                vitals.mounted(Mounted { view, counts, blobs, session, updating: alive });
                let member = Member {
                    plan,
                    traits,
                    updates,
                    trouble,
                    vitals,
                    updating,
                    doors,
                    archive,
                    place,
                };
                Ok(Self { member, bound })
            }
            Err(error) => {
                detach(&plan.mountpoint);
                bound.claim.release();
                Err(error)
            }
        }
    }

    /// The view.
    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    /// The view, to be changed.
    pub(super) fn member_mut(&mut self) -> &mut Member {
        &mut self.member
    }

    /// What it shows now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.member.place.view.snapshot()
    }

    /// Whether it is still where it was bound to.
    pub(super) fn is_in(&self, table: &MountTable) -> bool {
        table.at(&self.member.plan.mountpoint).any(|mount| mount.id == self.bound.mount_id)
    }

    /// Says that it is about to end.
    pub(super) fn stop(&self) {
        self.member.vitals.stop();
    }

    /// Unmounts it, also while it is held, and ends what keeps it up to date.
    pub(super) fn end(self, group: &Group, leave: Leave) {
        let Self { member, bound } = self;
        let Member { plan, updates, updating, doors, archive, place, .. } = member;
        detach(&plan.mountpoint);
        drop(doors);
        end(&updates, updating);
        if let Some(archive) = archive.filter(|_| leave == Leave::ForGood) {
            archive.retain(&[]);
        }
        group.remove(&place.name, &place.view);
        bound.claim.release();
        info!(mountpoint = %plan.mountpoint.display(), "unmounted");
    }
}

fn end(updates: &Updates, updating: JoinHandle<()>) {
    updates.end();
    if updating.join().is_err() {
        warn!("the thread that kept the view up to date had panicked");
    }
}

fn attach(mountpoint: &Path, group: &Group, name: &Name) -> Result<Bound, DaemonError> {
    clear_stale(mountpoint)?;
    let claim = Claim::make(mountpoint)?;
    let bound = mountpoint::check(mountpoint)
        .and_then(|()| bind(&group.path_of(name), mountpoint))
        .and_then(|()| Ok(MountTable::read()?.topmost_at(mountpoint).map(|mount| mount.id)));
    match bound {
        Ok(Some(mount_id)) => Ok(Bound { claim, mount_id }),
        Ok(None) => {
            claim.release();
            Err(MachineError::NotMounted { path: mountpoint.to_owned() }.into())
        }
        Err(error) => {
            claim.release();
            Err(error.into())
        }
    }
}

fn detach(mountpoint: &Path) {
    match unmount(mountpoint, true) {
        Ok(()) | Err(MachineError::NotMounted { .. }) => {}
        Err(error) => warn!(%error, "a view could not be unmounted"),
    }
}
