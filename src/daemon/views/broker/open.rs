//! What is open to the workers: which of the files and directories they may change, so that nothing of it is believed.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::Refusal;
use crate::daemon::views::ViewsPlan;
use crate::daemon::views::directory::files_of;
use crate::daemon::views::parsed::Parsed;
use crate::machine::confinement;
use crate::machine::mountinfo::{Mount, MountTable};
use crate::machine::walk::passes_through;
use crate::sync::Stamp;
use crate::sync::reach::Reach;

/// What all views lead to, and what they led to before: what was once open to a worker counts for good.
pub(super) struct Open {
    /// The files that were read.
    seen: HashMap<PathBuf, Seen>,
    /// Where a worker may make and remove files.
    changed: BTreeSet<PathBuf>,
    /// Where it may write to files that are there.
    written: BTreeSet<PathBuf>,
}

/// A file that was read.
struct Seen {
    /// How it looked.
    stamp: Stamp,
    /// What it leads to and was not there: it may come.
    missing: Vec<PathBuf>,
}

impl Seen {
    fn is_still(&self, stamp: &Stamp) -> bool {
        self.stamp == *stamp && !self.missing.iter().any(|path| path.exists())
    }
}

impl Open {
    /// The run directory, and nothing that was learnt yet.
    pub(super) fn new(run_dir: &Path) -> Self {
        let changed = run_dir.canonicalize().into_iter().collect();
        Self { seen: HashMap::new(), changed, written: BTreeSet::new() }
    }

    /// Looks what the files of the views lead to.
    pub(super) fn learn(&mut self, plan: &ViewsPlan, parsed: &mut Parsed) {
        let Ok(files) = files_of(&plan.dir) else { return };
        parsed.retain(&files);
        for file in files {
            let stamp = Stamp::of(&file);
            if self.seen.get(&file).is_some_and(|seen| seen.is_still(&stamp)) {
                continue;
            }
            let Ok((config, _)) = parsed.load(plan, &file) else { continue };
            // Looked at first: what comes in between is looked at again.
            let missing = [config.state.dir.clone(), config.repo_cache.path.clone()];
            let missing = missing.into_iter().filter(|path| !path.exists()).collect();
            let Reach { lend, write, .. } = Reach::of(&config);
            self.changed.extend(write);
            self.written.extend(lend);
            self.seen.insert(file, Seen { stamp, missing });
        }
    }

    /// The file of a view is the operator's.
    pub(super) fn expect_file(&self, file: &Path, table: &MountTable) -> Result<(), Refusal> {
        expect_out_of_reach(file, &[&self.changed, &self.written], table)
    }

    /// A mount point is where no worker can turn it elsewhere.
    pub(super) fn expect_mountpoint(&self, at: &Path, table: &MountTable) -> Result<(), Refusal> {
        expect_out_of_reach(at, &[&self.changed], table)
    }
}

/// A path goes through nothing that a worker decides about: no directory of these, and no view.
fn expect_out_of_reach(
    path: &Path,
    open: &[&BTreeSet<PathBuf>],
    table: &MountTable,
) -> Result<(), Refusal> {
    if confinement::is_off() {
        return Ok(());
    }
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
