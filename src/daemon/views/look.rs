//! Looking what happened to the files, the mounts and the superblocks.

use std::path::Path;

use tracing::warn;

use super::{Daemon, Group, Leave, State};
use crate::daemon::DaemonError;
use crate::machine::mountinfo::MountTable;

impl Daemon {
    /// Follows what happened to the files, the mounts and the superblocks.
    pub(super) fn look(&mut self) -> Result<(), DaemonError> {
        self.expect_answers()?;
        self.notice_unmounts();
        for file in self.directory.vanished() {
            drop(self.awaited.remove(&file));
            self.behind.remove(&file);
            self.base.forget_unmounted(&file);
            if let Some(state) = self.views.remove(&file) {
                self.leave(&file, state, Leave::ForGood);
            }
        }
        for file in self.directory.changed() {
            if !self.is_pinned(&file) {
                self.renew(&file, None);
            }
        }
        for file in self.due() {
            self.renew(&file, None);
        }
        let held: usize = self.groups.iter().chain(&self.retired).map(Group::sweep).sum();
        self.retired.retain(|group| !group.has_ended());
        if held == 0 && self.retired.is_empty() && !self.is_starting {
            self.let_go_of_estates();
        }
        self.roll.set(&self.views);
        Ok(())
    }

    /// Expects that all superblocks are answered as they should be, where another worker could do that.
    fn expect_answers(&self) -> Result<(), DaemonError> {
        let failure =
            self.keeper.as_ref().and_then(|_| self.groups.iter().find_map(Group::failure));
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Whether a view shows the set of its start for good.
    pub(super) fn is_pinned(&self, file: &Path) -> bool {
        self.plan.is_pinned && matches!(self.views.get(file), Some(State::Shown(_)))
    }

    /// Lets go of views that somebody unmounted, and of those whose superblock has ended.
    fn notice_unmounts(&mut self) {
        let has_moved = !self.events.has_mounts() || self.have_mounts_moved;
        if !has_moved && !self.groups.iter().any(Group::has_ended) {
            return;
        }
        self.have_mounts_moved = false;
        let Ok(table) = MountTable::read() else { return };
        let ended: Vec<u64> =
            self.groups.iter().filter(|group| group.has_ended()).map(Group::number).collect();
        let is_gone = |state: &State| match state {
            State::Shown(shown) => !shown.is_in(&table) || ended.contains(&shown.superblock()),
            State::Broken(_) | State::Unmounted => false,
        };
        let gone: Vec<_> = self
            .views
            .iter()
            .filter(|(_, state)| is_gone(state))
            .map(|(file, _)| file.clone())
            .collect();
        for file in gone {
            let Some(State::Shown(shown)) = self.views.insert(file.clone(), State::Unmounted)
            else {
                continue;
            };
            let is_unmounted = !shown.is_in(&table);
            if is_unmounted {
                self.base.note_unmounted(&file);
            }
            self.leave(&file, State::Shown(shown), Leave::ForNow);
            if !is_unmounted {
                warn!(file = %file.display(), "its superblock has ended; it is mounted anew");
                self.renew(&file, None);
            }
        }
    }
}
