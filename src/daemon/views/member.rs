//! One view of a directory of views, while it is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::{info, warn};

use super::group::{Group, Traits};
use super::note::Note;
use crate::daemon::DaemonError;
use crate::daemon::attach::clear_stale;
use crate::daemon::fetch::Fetching;
use crate::daemon::kept_by::KeptBy;
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

/// What a view is kept up to date with.
pub(super) struct Means {
    pub(super) reload: Reload,
    pub(super) fetching: Option<Fetching>,
    /// Who replaces the process, if anybody does.
    pub(super) keeper: Option<Arc<KeptBy>>,
    pub(super) caches: Caches,
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
        means: Means,
        note: &Note,
    ) -> Result<Self, DaemonError> {
        let bound = attach(&plan.mountpoint, group, &place.name)?;
        let note = Note { is_bound: true, made: bound.claim.made().to_vec(), ..note.clone() };
        place.view.note_place(&place.name, &note.to_bytes());
        let mountpoint = plan.mountpoint.clone();
        match Member::start(plan, traits, group, place, means, false) {
            Ok(member) => {
                announce(&member.plan, &member.place.view.snapshot());
                Ok(Self { member, bound })
            }
            Err(error) => {
                detach(&mountpoint);
                bound.claim.release();
                Err(error)
            }
        }
    }

    /// Keeps a view up to date that a worker before has bound.
    pub(super) fn resume(
        plan: Plan,
        traits: Traits,
        group: &Group,
        place: Place,
        means: Means,
        (mount_id, made): (u64, Vec<PathBuf>),
    ) -> Result<Self, DaemonError> {
        let member = Member::start(plan, traits, group, place, means, true)?;
        let bound = Bound { claim: Claim::again(made), mount_id };
        Ok(Self { member, bound })
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

impl Member {
    fn start(
        plan: Plan,
        traits: Traits,
        group: &Group,
        place: Place,
        Means { reload, fetching, keeper, caches }: Means,
        is_resumed: bool,
    ) -> Result<Self, DaemonError> {
        let (archive, blobs) = (caches.archive.clone(), caches.shared.blobs.clone());
        let vitals = Arc::new(Vitals::default());
        vitals.fetched(fetching.as_ref());
        let (view, counts) = (place.view.clone(), group.counts.clone());
        let seen = Seen::new(&plan, view.clone(), counts.clone(), vitals.clone(), keeper);
        let trouble = seen.trouble.clone();
        // What closes files to a worker is not done to one that mounts.
        let following = Following { caches, fetching, is_resumed, keeper: None };
        let kernel = group.kernel.clone();
        let (updates, updating) =
            update::start(&plan, view.clone(), following, kernel, vitals.clone())?;
        let Updating { thread: updating, alive } = updating;
        let doors = match Doors::open(&plan.mountpoint, seen, reload) {
            Ok(doors) => doors,
            Err(error) => {
                end(&updates, updating);
                return Err(error);
            }
        };
        vitals.mounted(Mounted { view, counts, blobs, session: group.alive(), updating: alive });
        Ok(Self { plan, traits, updates, trouble, vitals, updating, doors, archive, place })
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
