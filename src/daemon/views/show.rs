//! Views that come, change their place, and go, with the superblocks that they are in.

use std::path::Path;
use std::sync::Arc;

use super::group::{Group, Mounting, Traits};
use super::member::{Leave, Place, Shown};
use super::reading::refused;
use super::{Daemon, Estate, State};
use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::daemon::DaemonError;
use crate::daemon::copy::Copying;
use crate::daemon::opening::Caches;
use crate::daemon::start::Plan;
use crate::snapshot::Snapshot;
use crate::sync::archive::Archive;
use crate::sync::build::rebuild;
use crate::sync::pin::Pins;
use crate::sync::{Shared, beside};
use crate::union::name::Name;
use crate::view::{self, ViewError};

impl Daemon {
    /// Shows what a plan says, in place if that is possible.
    pub(super) fn follow(&mut self, file: &Path, plan: Plan) -> Result<ReloadReport, ControlError> {
        let traits = Traits::of(&plan.config, file);
        if let Some(State::Shown(shown)) = self.views.get_mut(file) {
            let member = shown.member_mut();
            if member.plan.mountpoint == plan.mountpoint && member.traits == traits {
                let report = member.updates.reload()?;
                member.plan = plan;
                return Ok(report);
            }
        }
        let revision = self.show(file, plan, traits).map_err(|error| refused(&error))?;
        let (previous, changed, changes, warnings) = Default::default();
        Ok(ReloadReport { revision, previous, changed, changes, warnings })
    }

    /// Mounts a view, in place of the one that its file said before. Returns the id of its revision set.
    fn show(&mut self, file: &Path, plan: Plan, traits: Traits) -> Result<String, DaemonError> {
        let mut caches = self.caches(&plan);
        let rebuilt = rebuild(&plan.config, &caches.shared, None, None)?;
        let snapshot = beside(rebuilt.snapshot, &self.snapshots(&traits));
        let revision = snapshot.id.to_string();
        let archive = Archive::open(&caches.pins, Some(file), &plan.config, caches.shared.clone())
            .map(Arc::new);
        caches.archive.clone_from(&archive);
        // Only now: what cannot be built leaves the old view.
        if let Some(state @ State::Shown(_)) = self.views.remove(file) {
            self.leave(state, Leave::ForNow);
        }
        let name = name_of(file)?;
        let archive = archive.map(|archive| archive as Arc<dyn view::Archive>);
        let position = self.groups.iter().position(|group| group.traits == traits);
        let (position, view) = if let Some(position) = position {
            (position, self.groups[position].add(&name, snapshot, archive)?)
        } else {
            let mounting = Mounting {
                place: self.base.next(),
                source: self.plan.dir.clone(),
                forbids_execution: self.plan.forbids_execution,
            };
            let (group, view) = Group::mount(&traits, mounting, &name, snapshot, archive)?;
            self.groups.push(group);
            (self.groups.len() - 1, view)
        };
        let group = &mut self.groups[position];
        let place = Place { name: name.clone(), view: view.clone() };
        let reload = self.events.reload(file);
        match Shown::start(plan, traits, group, place, caches, reload) {
            Ok(shown) => {
                group.members += 1;
                self.views.insert(file.to_owned(), State::Shown(Box::new(shown)));
                Ok(revision)
            }
            Err(error) => {
                group.remove(&name, &view);
                self.retire(position);
                Err(error)
            }
        }
    }

    /// What the views of a superblock show now.
    fn snapshots(&self, traits: &Traits) -> Vec<Arc<Snapshot>> {
        let shown = self.views.values().filter_map(|state| match state {
            State::Shown(shown) if shown.member().traits == *traits => Some(shown),
            State::Shown(_) | State::Broken(_) | State::Unmounted => None,
        });
        shown.map(|shown| shown.snapshot()).collect()
    }

    /// Ends a view, and the superblock with its last one.
    pub(super) fn leave(&mut self, state: State, leave: Leave) {
        let State::Shown(shown) = state else { return };
        let traits = &shown.member().traits;
        let Some(position) = self.groups.iter().position(|group| group.traits == *traits) else {
            return;
        };
        let group = &mut self.groups[position];
        group.members -= 1;
        shown.end(group, leave);
        self.retire(position);
    }

    /// Takes a superblock away that has no view.
    fn retire(&mut self, position: usize) {
        if self.groups[position].members == 0 {
            let group = self.groups.swap_remove(position);
            group.detach();
            self.retired.push(group);
        }
    }

    fn caches(&mut self, plan: &Plan) -> Caches {
        let dir = &plan.config.state.dir;
        if !self.estates.contains_key(dir) {
            let pins = Arc::new(Pins::open(dir, Some(&self.plan.dir)));
            let left = if self.is_starting { pins.left() } else { Vec::new() };
            let copying = Arc::new(Copying::new(pins.clone()));
            let shared = Arc::new(Shared::new(&plan.config));
            let estate = Estate { shared, pins, copying, left: Some(left.into()) };
            self.estates.insert(dir.clone(), estate);
        }
        let Estate { shared, pins, copying, left } = &self.estates[dir];
        let (shared, pins, copying) = (shared.clone(), pins.clone(), copying.clone());
        let (notices, left) = (self.notices.clone(), left.clone());
        Caches { shared, pins, copying, notices, archive: None, left }
    }
}

/// What a view is called in its superblock.
fn name_of(file: &Path) -> Result<Name, DaemonError> {
    let name = file.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
    Name::new(name).map_err(|_| ViewError::NameTooLong.into())
}
