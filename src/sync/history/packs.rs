//! The objects of one source's history: packs of our own that only ever get more.
//!
//! `repository/` is bare, without refs, and has all packs; each new commit adds one with what earlier ones lack. Once they are many, the small
//! ones become one. `served/<n>/` is a `.git` that the view shows: its packs are hard links, so that it stays as it was.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::HistoryError;
use super::layout::{self, Boundary, GitDirectoryForm};
use super::record::{HistoryRecord, Tip};
use crate::sync::fetch::{Borrower, ChildRun, PackCause};

/// From so many packs on the small ones are made one.
const PACKS_MAX: usize = 16;
/// The files of a pack in the order in which they are put: whoever sees the index finds the rest.
const PACK_FILES: [&str; 3] = ["pack", "rev", "idx"];

/// The directory of one history.
#[derive(Debug)]
pub(super) struct Packs {
    dir: PathBuf,
    form: GitDirectoryForm,
    pub(super) record: HistoryRecord,
    /// Grows with the objects.
    pub(super) serial: u64,
    next: u64,
}

/// How the objects of a repository are packed.
pub(super) struct Packing<'a> {
    pub(super) program: &'a Path,
    pub(super) lenders: &'a [PathBuf],
    pub(super) child: ChildRun<'a>,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    move |error| HistoryError::Io { step, path: path.to_owned(), error }
}

impl Packs {
    /// Takes over what an earlier daemon left in a directory, or starts anew.
    pub(super) fn open(dir: PathBuf, is_sha256: bool) -> Result<Self, HistoryError> {
        let record = HistoryRecord::read(&dir).map_err(failed("reading what is known in", &dir))?;
        // What was served ended with the daemon that served it; without a record nothing is known of the packs.
        let stale = if record.is_some() {
            vec![dir.join("served"), dir.join("incoming")]
        } else {
            vec![dir.clone()]
        };
        for path in stale {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("removing", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let form = GitDirectoryForm { is_sha256, is_bare: true };
        let packs = Self { form, record: record.unwrap_or_default(), serial: 0, next: 0, dir };
        let repository = packs.repository();
        layout::write(&repository, form, "ref: refs/heads/none")
            .map_err(failed("making", &repository))?;
        packs.remove_strangers();
        Ok(packs)
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    fn pack_dir(&self) -> PathBuf {
        self.repository().join("objects/pack")
    }

    /// Removes what a daemon that was killed had not finished.
    fn remove_strangers(&self) {
        let known: HashSet<&str> = self.record.packs.iter().map(String::as_str).collect();
        for entry in fs::read_dir(self.pack_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let stem = Path::new(&name).file_stem().and_then(OsStr::to_str);
            if !stem.is_some_and(|stem| known.contains(stem)) {
                // Of no harm but for its room.
                fs::remove_file(entry.path()).unwrap_or_default();
            }
        }
    }

    /// Gets all objects that a commit reaches.
    pub(super) fn add(
        &mut self,
        commit: &str,
        boundary: &Boundary,
        means: &Packing<'_>,
    ) -> Result<(), HistoryError> {
        let shallow = self.repository().join("shallow");
        fs::write(&shallow, boundary.text()).map_err(failed("writing", &shallow))?;
        let mut revisions = format!("{commit}\n");
        // What was cut elsewhere may lack what lies between.
        let cut_alike = self.record.tips.iter().filter(|tip| tip.boundary == boundary.name());
        for tip in cut_alike {
            revisions.extend(["^", &tip.commit, "\n"]);
        }
        let new = self.pack(&["--revs"], &revisions, means)?;
        self.put(&new)?;
        let shallow = if boundary.is_empty() {
            Vec::new()
        } else {
            let input =
                File::open("/dev/null").map_err(failed("opening", Path::new("/dev/null")))?;
            let arguments = ["rev-list", "--end-of-options", commit].map(OsStr::new);
            let repository = self.repository();
            let own = Borrower { program: means.program, git_dir: &repository, lenders: &[] };
            boundary.within(&own.run(&arguments, input, &means.child)?)
        };
        let tip = Tip { commit: commit.to_owned(), boundary: boundary.name(), shallow };
        // The same objects once more, as where the boundary is another one, are the same pack.
        let new = new.into_iter().filter(|name| !self.record.packs.contains(name));
        let new: Vec<_> = new.collect();
        self.serial += u64::from(!new.is_empty());
        self.record.packs.extend(new);
        self.record.tips.push(tip);
        self.write_record()
    }

    fn write_record(&mut self) -> Result<(), HistoryError> {
        self.record.write(&self.dir).map_err(failed("writing in", &self.dir))
    }

    /// Makes one of the small packs where there are many. That there are many is no error.
    pub(super) fn tidy(&mut self, means: &Packing<'_>) {
        if self.record.packs.len() < PACKS_MAX {
            return;
        }
        let (small, large) = self.small_and_large();
        let names: String = small.iter().flat_map(|name| [name.as_str(), ".pack\n"]).collect();
        let own = Packing { lenders: &[], child: ChildRun { ..means.child }, ..*means };
        let merged = self.pack(&["--stdin-packs"], &names, &own);
        let Ok(merged) = merged.and_then(|merged| self.put(&merged).map(|()| merged)) else {
            return;
        };
        self.record.packs = large;
        self.record.packs.extend(merged);
        self.record.packs.sort();
        self.record.packs.dedup();
        if self.write_record().is_ok() {
            self.remove_strangers();
        }
    }

    /// The packs that together are less than half of the next larger one, and the others.
    fn small_and_large(&self) -> (Vec<String>, Vec<String>) {
        let size = |name: &String| {
            let file = self.pack_dir().join(format!("{name}.pack"));
            fs::metadata(file).map_or(0, |metadata| metadata.len())
        };
        let mut packs: Vec<_> = self.record.packs.iter().map(|name| (size(name), name)).collect();
        packs.sort();
        let (mut sum, mut small) = (0, 0);
        for (position, (bytes, _)) in packs.iter().enumerate() {
            if position >= PACKS_MAX / 2 && *bytes > sum * 2 {
                break;
            }
            sum += bytes;
            small = position + 1;
        }
        let names =
            |packs: &[(u64, &String)]| packs.iter().map(|(_, name)| (*name).clone()).collect();
        (names(&packs[..small]), names(&packs[small..]))
    }

    /// Makes packs beside those that are there; gives their names, of which there may be none.
    fn pack(
        &self,
        arguments: &[&str],
        input: &str,
        means: &Packing<'_>,
    ) -> Result<Vec<String>, HistoryError> {
        let incoming = self.dir.join("incoming");
        fs::remove_dir_all(&incoming).unwrap_or_default();
        fs::create_dir(&incoming).map_err(failed("making", &incoming))?;
        let list = incoming.join("input");
        fs::write(&list, input).map_err(failed("writing", &list))?;
        let input = File::open(&list).map_err(failed("opening", &list))?;
        let mut all: Vec<&OsStr> = ["pack-objects", "-q", "--non-empty", "--delta-base-offset"]
            .into_iter()
            // Deltas that the lender has are taken over; new ones are not searched for.
            .chain(["--window=0", "--no-use-bitmap-index"])
            .chain(arguments.iter().copied())
            .map(OsStr::new)
            .collect();
        let base = incoming.join("pack");
        all.push(base.as_os_str());
        let repository = self.repository();
        let borrower =
            Borrower { program: means.program, git_dir: &repository, lenders: means.lenders };
        borrower.run(&all, input, &means.child)?;
        let entries = fs::read_dir(&incoming).map_err(failed("reading", &incoming))?;
        let mut names = Vec::new();
        for entry in entries {
            // One that is not seen would be told of as packed.
            let path = entry.map_err(failed("reading", &incoming))?.path();
            if path.extension() == Some(OsStr::new("idx"))
                && let Some(name) = path.file_stem().and_then(OsStr::to_str)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Puts new packs to the others; those that are there already stay.
    fn put(&self, names: &[String]) -> Result<(), HistoryError> {
        let (from, to) = (self.dir.join("incoming"), self.pack_dir());
        for name in names {
            for ending in PACK_FILES {
                let file = format!("{name}.{ending}");
                match fs::rename(from.join(&file), to.join(&file)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("renaming", &from.join(&file))(error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Makes a `.git` with this HEAD and all objects that there are.
    pub(super) fn serve(&mut self, tip: &Tip) -> Result<PathBuf, HistoryError> {
        let dir = self.dir.join("served").join(self.next.to_string());
        self.next += 1;
        let filled = self.fill(&dir, tip);
        // What is there of it may be what fills the disk.
        filled.inspect_err(|_| fs::remove_dir_all(&dir).unwrap_or_default()).map(|()| dir)
    }

    fn fill(&self, dir: &Path, tip: &Tip) -> Result<(), HistoryError> {
        let form = GitDirectoryForm { is_bare: false, ..self.form };
        layout::write(dir, form, &tip.commit).map_err(failed("making", dir))?;
        if !tip.shallow.is_empty() {
            fs::write(dir.join("shallow"), layout::text(&tip.shallow))
                .map_err(failed("writing in", dir))?;
        }
        let (from, to) = (self.pack_dir(), dir.join("objects/pack"));
        for name in &self.record.packs {
            for ending in PACK_FILES {
                let file = format!("{name}.{ending}");
                match fs::hard_link(from.join(&file), to.join(&file)) {
                    // Git before 2.31 writes no `.rev`.
                    Err(error) if ending == "rev" && error.kind() == io::ErrorKind::NotFound => {}
                    linked => linked.map_err(failed("linking", &to.join(&file)))?,
                }
            }
        }
        Ok(())
    }
}

impl From<PackCause> for HistoryError {
    fn from(cause: PackCause) -> Self {
        Self::Packing(cause)
    }
}
