//! What is open to the workers: which of the files and directories they may change, so that nothing of it is believed.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::Refusal;
use crate::daemon::DaemonError;
use crate::daemon::views::ViewsPlan;
use crate::daemon::views::directory::files_of;
use crate::machine::confinement;
use crate::machine::mountinfo::{Mount, MountTable};
use crate::machine::walk::passes_through;
use crate::sync::Stamp;
use crate::sync::reach::Reach;

/// What all views lead to, and what they led to before: what was once open to a worker counts for good.
pub(super) struct Open {
    /// How the files looked that were read.
    seen: HashMap<PathBuf, Stamp>,
    /// Where a worker may make and remove files.
    changed: BTreeSet<PathBuf>,
    /// Where it may write to files that are there.
    written: BTreeSet<PathBuf>,
}

impl Open {
    /// The run directory, and nothing that was learnt yet.
    pub(super) fn new(run_dir: &Path) -> Self {
        let changed = run_dir.canonicalize().into_iter().collect();
        Self { seen: HashMap::new(), changed, written: BTreeSet::new() }
    }

    /// Looks what the files of the views lead to.
    pub(super) fn learn(&mut self, plan: &ViewsPlan) {
        for file in files_of(&plan.dir).unwrap_or_default() {
            let stamp = Stamp::of(&file);
            if self.seen.get(&file) == Some(&stamp) {
                continue;
            }
            let Ok((config, _)) = plan.load(&file) else { continue };
            let Reach { lend, write, .. } = Reach::of(&config);
            let is_whole =
                [&config.state.dir, &config.repo_cache.path].iter().all(|path| path.exists());
            self.changed.extend(write);
            self.written.extend(lend);
            // What is not there yet may come.
            if is_whole {
                self.seen.insert(file, stamp);
            }
        }
    }

    /// The file of a view is the operator's.
    pub(super) fn expect_file(&self, file: &Path) -> Result<(), Refusal> {
        expect_out_of_reach(file, &[&self.changed, &self.written])
    }

    /// A mount point is where no worker can turn it elsewhere.
    pub(super) fn expect_mountpoint(&self, at: &Path) -> Result<(), Refusal> {
        expect_out_of_reach(at, &[&self.changed])
    }
}

/// A path goes through nothing that a worker decides about: no directory of these, and no view.
fn expect_out_of_reach(path: &Path, open: &[&BTreeSet<PathBuf>]) -> Result<(), Refusal> {
    if confinement::is_off() {
        return Ok(());
    }
    let table = MountTable::read().map_err(DaemonError::from)?;
    let is_open = |directory: &Path| {
        open.iter().any(|paths| paths.iter().any(|path| directory.starts_with(path)))
            || table.find(directory).is_some_and(Mount::is_ours)
    };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if !passes_through(&absolute, is_open) {
        return Ok(());
    }
    let message = format!("`{}` is in reach of the process that serves the views", path.display());
    let cure = format!(
        "keep the directory of views and the mount points apart from `state.dir`, sources and views, or set {}=off",
        confinement::VARIABLE
    );
    Err(Refusal { message, cure: Some(cure), is_odd: true })
}
