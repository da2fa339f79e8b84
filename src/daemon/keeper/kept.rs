//! What is kept: one mount, which the keeper makes, or those that the worker of many views makes and hands over.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tracing::warn;

use super::{Keeping, hang, store};
use crate::daemon::start::Plan;
use crate::daemon::views::{self, ViewsPlan};
use crate::machine::mountinfo::MountTable;
use crate::machine::worker::ToKeep;
use crate::machine::{connections, descriptor};

/// For whom mounts are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeptPlan<'a> {
    /// One view.
    One(&'a Plan),
    /// The views of a directory.
    Views(&'a ViewsPlan),
}

/// A mount that is kept.
pub(super) struct KeptMount {
    pub(super) device: OwnedFd,
    pub(super) journal: File,
    /// The number by which the kernel knows the connection.
    pub(super) connection: Option<u32>,
}

impl KeptMount {
    /// Whether the kernel speaks over it still.
    pub(super) fn is_there(&self) -> bool {
        !descriptor::has_ended(&self.device)
    }

    /// Ends its connection.
    pub(super) fn abort(&self) {
        let Some(connection) = self.connection else { return };
        warn!(connection, "still held: aborting the connection");
        if let Err(error) = connections::abort(connection) {
            warn!(%error, cure = error.cure(), "the connection could not be aborted");
        }
    }
}

impl Keeping<'_> {
    /// Keeps a mount that a worker made, and no longer those that are gone.
    pub(super) fn keep(&mut self, ToKeep { device, connection, journal }: ToKeep) {
        self.forget_those_that_ended();
        let connection = connection.filter(|said| self.is_of(&device, *said));
        let mount = KeptMount { device, journal, connection };
        store::put(self.what, &mount);
        self.mounts.push(mount);
        if self.worker.as_ref().is_some_and(|serving| serving.since.is_some()) {
            self.watch();
        }
    }

    /// Whether a descriptor can be of this connection: what a worker says is not to lead to another's.
    fn is_of(&self, device: &OwnedFd, connection: u32) -> bool {
        let is_mounted = match self.what {
            KeptPlan::One(_) => false,
            KeptPlan::Views(plan) => MountTable::read()
                .is_ok_and(|table| views::superblock_at(&table, plan, connection).is_some()),
        };
        is_mounted && descriptor::connection(device).is_none_or(|known| known == connection)
    }

    /// Keeps no mount that is gone.
    pub(super) fn forget_those_that_ended(&mut self) {
        for ended in self.mounts.extract_if(.., |mount| !mount.is_there()) {
            store::forget(self.what, &ended);
        }
    }

    /// Asks each mount from now on whether anybody answers, and no longer those that are gone.
    pub(super) fn watch(&mut self) {
        let plan = match self.what {
            KeptPlan::One(plan) => return self.watch_at(plan.mountpoint.clone()),
            KeptPlan::Views(plan) => plan,
        };
        let Ok(table) = MountTable::read() else { return };
        let connections = self.mounts.iter().filter_map(|mount| mount.connection);
        let place = |connection| views::superblock_at(&table, plan, connection);
        let places: Vec<_> = connections.filter_map(place).collect();
        self.watched.retain(|(watched, _)| places.contains(watched));
        for place in places {
            self.watch_at(place);
        }
    }

    /// By its place: the kernel gives the number of a connection that has ended to another one.
    fn watch_at(&mut self, place: PathBuf) {
        if self.watched.iter().all(|(watched, _)| *watched != place) {
            let asked = hang::watch(&place, &self.sender);
            self.watched.push((place, asked));
        }
    }
}
