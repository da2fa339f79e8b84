//! One view of a directory of views, while it is shown.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::{info, warn};

use super::group::{Group, Traits};
use super::holdings::{Binding, BoundAs};
use super::note::Note;
use super::privileged::Privileged;
use crate::daemon::DaemonError;
use crate::daemon::fetch::Fetching;
use crate::daemon::kept_by::KeptBy;
use crate::daemon::opening::Caches;
use crate::daemon::operator::{Doors, Reload, Seen, Trouble};
use crate::daemon::start::{Plan, announce};
use crate::daemon::update;
use crate::daemon::update::Following;
use crate::daemon::updates::{Updates, Updating};
use crate::daemon::vitals::{Mounted, Vitals};
use crate::machine::mountinfo::MountTable;
use crate::snapshot::Snapshot;
use crate::sync::archive::Archive;
use crate::sync::fetch::Stop;
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
    /// The number of the superblock.
    pub(super) number: u64,
}

/// A view that is about to be shown.
pub(super) struct Joining {
    pub(super) plan: Plan,
    pub(super) traits: Traits,
    pub(super) place: Place,
    pub(super) means: Means,
}

/// What a view is kept up to date with.
pub(super) struct Means {
    pub(super) reload: Reload,
    pub(super) fetching: Option<Fetching>,
    /// Who replaces the process, if anybody does.
    pub(super) keeper: Option<Arc<KeptBy>>,
    pub(super) caches: Caches,
    /// The wish to end.
    pub(super) wish: Stop,
}

/// Why a view leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It will not come again: what it kept is forgotten.
    ForGood,
    /// It may come again.
    ForNow,
}

pub(super) struct ShownView {
    member: Member,
    mount_id: u64,
}

impl ShownView {
    /// Binds a view of a superblock to its mount point, and keeps it up to date from now on.
    pub(super) fn start(
        joining: Joining,
        group: &Group,
        note: &Note,
        privileged: &mut Privileged,
    ) -> Result<Self, DaemonError> {
        let Place { name, view, .. } = &joining.place;
        let BoundAs { mount_id, made } = privileged.bind(Binding {
            file: &note.file,
            number: group.number(),
            directory: group.directory_of(name),
            at: &joining.plan.mountpoint,
        })?;
        let note = Note { is_bound: true, made, ..note.clone() };
        view.note_place(name, &note.to_bytes());
        let member = Member::start(joining, group, false);
        let member = member.inspect_err(|_| privileged.unbind(&note.file))?;
        announce(&member.plan, &member.place.view.snapshot());
        Ok(Self { member, mount_id })
    }

    /// Keeps a view up to date that a worker before has bound.
    pub(super) fn resume(
        joining: Joining,
        group: &Group,
        mount_id: u64,
    ) -> Result<Self, DaemonError> {
        let member = Member::start(joining, group, true)?;
        Ok(Self { member, mount_id })
    }

    /// The view.
    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    /// The number of its superblock. There may be two with the same traits: one that has ended and is being left, and its successor.
    pub(super) fn superblock(&self) -> u64 {
        self.member.place.number
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
        table.at(&self.member.plan.mountpoint).any(|mount| mount.id == self.mount_id)
    }

    /// Says that it is about to end.
    pub(super) fn stop(&self) {
        self.member.vitals.stop();
    }

    /// Unmounts it, also while it is held, and ends what keeps it up to date.
    pub(super) fn end(self, file: &Path, group: &Group, leave: Leave, privileged: &mut Privileged) {
        let Member { plan, updates, updating, doors, archive, place, .. } = self.member;
        privileged.unbind(file);
        drop(doors);
        end(&updates, updating);
        if let Some(archive) = archive.filter(|_| leave == Leave::ForGood) {
            archive.forget();
        }
        group.remove(&place.name, &place.view);
        info!(mountpoint = %plan.mountpoint.display(), "unmounted");
    }
}

impl Member {
    fn start(
        Joining { plan, traits, place, means }: Joining,
        group: &Group,
        is_resumed: bool,
    ) -> Result<Self, DaemonError> {
        let Means { reload, fetching, keeper, caches, wish } = means;
        let (archive, blobs) = (caches.archive.clone(), caches.shared.blobs.clone());
        let vitals = Arc::new(Vitals::default());
        vitals.fetched(fetching.as_ref());
        let (view, counts) = (place.view.clone(), group.counts.clone());
        let seen = Seen::new(&plan, view.clone(), counts.clone(), vitals.clone(), keeper.clone());
        let trouble = seen.trouble.clone();
        let following = Following { caches, fetching, is_resumed, keeper, wish };
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
