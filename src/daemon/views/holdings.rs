//! What is mounted for the views: their superblocks, and each view where it is bound to.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::ViewsPlan;
use super::base::clear;
use crate::daemon::DaemonError;
use crate::daemon::attach::{clear_stale, raise_read_ahead};
use crate::machine::mount::MountRequest;
use crate::machine::mountinfo::MountTable;
use crate::machine::mountpoint::{self, Claim};
use crate::machine::private_mounts::{MountCopy, PrivateMounts};
use crate::machine::unmount::unmount;
use crate::machine::{MachineError, connections};

/// All that is mounted.
#[derive(Debug)]
pub(super) struct Holdings {
    superblocks: PrivateMounts,
    /// By file.
    bound: HashMap<PathBuf, Bound>,
    /// What was to be taken away and could not be reached: another view is mounted over a directory on the way to it.
    hidden: Vec<Bound>,
    /// Of each superblock that there was, what tells it from a later one with its number.
    connections: HashMap<u32, Option<u64>>,
}

/// A mount point with a view on it.
#[derive(Debug)]
struct Bound {
    at: PathBuf,
    claim: Claim,
    mount_id: u64,
}

/// A view that is to be seen at its mount point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding<'a> {
    /// The file of its configuration.
    pub(super) file: &'a Path,
    /// The number of its superblock.
    pub(super) number: u64,
    /// The directory that it is in its superblock; `None` where it is all of it.
    pub(super) directory: Option<&'a OsStr>,
    /// Its mount point.
    pub(super) at: &'a Path,
}

/// What came of binding a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BoundAs {
    pub(super) mount_id: u64,
    /// The directories that were made for it, the outermost first.
    pub(super) made: Vec<PathBuf>,
}

impl Holdings {
    /// What there is in a directory, for the views that are bound from there.
    pub(super) fn new(directory: PathBuf) -> Result<Self, DaemonError> {
        let superblocks = PrivateMounts::new(directory);
        let all = superblocks.all(&MountTable::read()?).into_iter();
        let connections =
            all.map(|(_, connection)| (connection, connections::identity(connection))).collect();
        Ok(Self { superblocks, bound: HashMap::new(), hidden: Vec::new(), connections })
    }

    /// Takes all away but these superblocks with what is bound from them.
    pub(super) fn clear(&mut self, but: &[u64]) -> Result<(), DaemonError> {
        let places: Vec<_> = but.iter().map(|number| self.superblocks.place(*number)).collect();
        let places: Vec<_> = places.iter().map(PathBuf::as_path).collect();
        clear(self.superblocks.directory(), &places)?;
        let table = MountTable::read()?;
        let is_gone = |_: &PathBuf, bound: &mut Bound| !bound.is_in(&table);
        for (_, bound) in self.bound.extract_if(is_gone) {
            bound.claim.release();
        }
        self.take_hidden_away();
        Ok(())
    }

    /// Mounts a superblock.
    pub(super) fn mount(
        &mut self,
        number: u64,
        plan: &ViewsPlan,
        is_for_others: bool,
    ) -> Result<OwnedFd, DaemonError> {
        let device = self.superblocks.mount(
            number,
            MountRequest {
                mountpoint: PathBuf::new(),
                source_name: plan.dir.clone().into_os_string(),
                allow_other: is_for_others,
                default_permissions: true,
                forbids_execution: plan.forbids_execution,
                labels: plan.labels.clone(),
            },
        )?;
        if let Some(connection) = self.connection(number)? {
            self.connections.insert(connection, connections::identity(connection));
        }
        Ok(device)
    }

    /// Binds a view to its mount point.
    pub(super) fn bind(&mut self, binding: Binding<'_>) -> Result<BoundAs, DaemonError> {
        let Binding { file, number, directory, at } = binding;
        self.unbind(file);
        let table = clear_stale(at)?;
        let claim = Claim::make_in(&table, at)?;
        let bound = mountpoint::check_in(&table, at)
            .and_then(|()| self.superblocks.bind(number, directory, at));
        match bound {
            Ok(MountCopy { mount_id, connection }) => {
                // It serves: the handshake, in which the kernel sets its own, is over.
                raise_read_ahead(Some(connection));
                let made = claim.made().to_vec();
                self.bound.insert(file.to_owned(), Bound { at: at.to_owned(), claim, mount_id });
                Ok(BoundAs { mount_id, made })
            }
            Err(error) => {
                claim.release();
                Err(error.into())
            }
        }
    }

    /// Knows from now on what an earlier process has bound.
    pub(super) fn adopt(&mut self, file: &Path, at: &Path, bound: BoundAs) {
        let BoundAs { mount_id, made } = bound;
        let bound = Bound { at: at.to_owned(), claim: Claim::again(made), mount_id };
        self.bound.insert(file.to_owned(), bound);
    }

    /// Takes the view of a file away from where it was bound to, also while it is held.
    pub(super) fn unbind(&mut self, file: &Path) {
        let Some(bound) = self.bound.remove(file) else { return };
        self.hidden.extend(bound.take_away());
        self.take_hidden_away();
    }

    /// Takes away what could not be reached before, until nothing more can be (S131).
    fn take_hidden_away(&mut self) {
        let mut before = usize::MAX;
        while !self.hidden.is_empty() && self.hidden.len() < before {
            before = self.hidden.len();
            self.hidden = self.hidden.drain(..).filter_map(Bound::take_away).collect();
        }
    }

    /// Takes a superblock away. It ends when nobody holds a view of it any more.
    pub(super) fn take_away(&mut self, number: u64) -> Result<(), DaemonError> {
        Ok(self.superblocks.detach(number)?)
    }

    /// Cuts off whoever holds a superblock, also one that was taken away.
    pub(super) fn abort(&self, connection: u32) -> Result<(), DaemonError> {
        if self.connections.get(&connection) == Some(&connections::identity(connection)) {
            return Ok(connections::abort(connection)?);
        }
        let path = self.superblocks.directory().to_owned();
        Err(MachineError::NotMounted { path }.into())
    }

    fn connection(&self, number: u64) -> Result<Option<u32>, DaemonError> {
        let all = self.superblocks.all(&MountTable::read()?);
        Ok(all.into_iter().find(|(one, _)| *one == number).map(|(_, connection)| connection))
    }

    /// The numbers of all superblocks, and the connections.
    pub(super) fn superblocks(&self) -> Result<Vec<(u64, u32)>, DaemonError> {
        Ok(self.superblocks.all(&MountTable::read()?))
    }
}

impl Bound {
    /// Unmounts it, and removes what was made for it. What cannot be reached is given back.
    fn take_away(self) -> Option<Self> {
        let is_there = || MountTable::read().is_ok_and(|table| self.is_in(&table));
        if is_there() {
            match unmount(&self.at, true) {
                Err(MachineError::NotMounted { .. }) if is_there() => return Some(self),
                Ok(()) | Err(MachineError::NotMounted { .. }) => {}
                Err(error) => warn!(%error, "a view could not be unmounted"),
            }
        }
        self.claim.release();
        None
    }

    fn is_in(&self, table: &MountTable) -> bool {
        table.at(&self.at).any(|mount| mount.id == self.mount_id)
    }
}
