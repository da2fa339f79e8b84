//! What keeps sources from being served, each with its cure.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::resolved::{Origin, SourceSpec};
use crate::snapshot::{Fault, SourceState};
use crate::store::StoreError;

/// At most so many refs are proposed in the place of one that is not there.
const PROPOSALS_MAX: usize = 10;

/// The sources without which no snapshot can be built.
#[derive(Debug, Clone, Error)]
pub struct BuildError {
    /// All of them, bottom first; never empty.
    pub sources: Vec<SourceError>,
}

/// Prints each source's error and cure on lines of their own.
impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, source) in self.sources.iter().enumerate() {
            if index > 0 {
                f.write_str("\nerror: ")?;
            }
            write!(f, "{source}\n  cure: {}", source.cure())?;
        }
        Ok(())
    }
}

/// A source that cannot be served.
#[derive(Debug, Clone, Error)]
#[error("source `{label}`: {cause}")]
pub struct SourceError {
    /// What commands call the source.
    pub label: String,
    /// Its ref as configured.
    pub git_ref: Option<String>,
    /// Where it is configured: a file name with a line, or the command line.
    pub configured_at: String,
    /// Whether nothing is mounted without the source.
    pub is_required: bool,
    /// What is wrong.
    pub cause: SourceCause,
}

/// A place where a repository was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The place.
    pub path: PathBuf,
    /// Why it is not the repository.
    pub problem: String,
}

/// Why a source cannot be served.
#[derive(Debug, Clone, Error)]
pub enum SourceCause {
    /// It is at none of its places.
    #[error("not found; tried {}", list_tried(tried))]
    NotFound {
        /// Every place in the order of the look-up.
        tried: Vec<Tried>,
    },
    /// Something is at its places and is none that may be served.
    #[error("cannot be opened; tried {}", list_tried(tried))]
    NotOpened {
        /// Every place in the order of the look-up, as far as it went.
        tried: Vec<Tried>,
        /// Whether it may pass by itself.
        is_momentary: bool,
    },
    /// What is at its places is private, and the view is public.
    #[error("only a private one is there, and this view is public; tried {}", list_tried(tried))]
    Private {
        /// Every place in the order of the look-up.
        tried: Vec<Tried>,
        /// Where a public one belongs; nothing where the place is written in the configuration.
        public: Option<PathBuf>,
    },
    /// The repository lacks the ref.
    #[error("ref `{git_ref}` is not in `{}`", place.display())]
    NoSuchRef {
        /// The ref as configured.
        git_ref: String,
        /// The repository.
        place: PathBuf,
        /// The refs that it has, the most similar first.
        available: Vec<String>,
    },
    /// The ref leads to something else than a commit.
    #[error("ref `{git_ref}` of `{}`: {problem}", place.display())]
    NotACommit {
        /// The ref as configured.
        git_ref: String,
        /// The repository.
        place: PathBuf,
        /// What it leads to.
        problem: String,
        /// The other refs that it has, the most similar first.
        available: Vec<String>,
    },
    /// The repository's HEAD leads to no commit.
    #[error("HEAD of `{}` {problem}", place.display())]
    NoHead {
        /// The repository.
        place: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The refs that it has.
        available: Vec<String>,
    },
    /// What the ref leads to, or the commit's tree, cannot be read.
    #[error("ref `{git_ref}` of `{}`: {problem}", place.display())]
    Unreadable {
        /// The ref, or `HEAD`.
        git_ref: String,
        /// The repository or directory.
        place: PathBuf,
        /// What failed.
        problem: String,
        /// Whether it may pass by itself.
        is_momentary: bool,
    },
    /// Its work tree is asked for, and the repository has none.
    #[error("`{}` has no work tree", place.display())]
    NoWorkTree {
        /// The repository.
        place: PathBuf,
    },
    /// The directory cannot be read.
    #[error("directory `{}`: {problem}", place.display())]
    Directory {
        /// The directory.
        place: PathBuf,
        /// What failed.
        problem: String,
        /// Whether it is not there at all.
        is_absent: bool,
        /// Whether it may pass by itself.
        is_momentary: bool,
    },
    /// This process can read no directory.
    #[error("directory `{}`: {}", place.display(), StoreError::NoOpenat2)]
    NoOpenat2 {
        /// The directory.
        place: PathBuf,
    },
}

impl SourceCause {
    /// Whether it may pass by itself.
    pub(super) fn is_momentary(&self) -> bool {
        match self {
            Self::NotOpened { is_momentary, .. }
            | Self::Unreadable { is_momentary, .. }
            | Self::Directory { is_momentary, .. } => *is_momentary,
            Self::NotFound { .. }
            | Self::Private { .. }
            | Self::NoSuchRef { .. }
            | Self::NotACommit { .. }
            | Self::NoHead { .. }
            | Self::NoWorkTree { .. }
            | Self::NoOpenat2 { .. } => false,
        }
    }
}

fn list_tried(tried: &[Tried]) -> String {
    let each = tried.iter().map(|tried| format!("`{}` ({})", tried.path.display(), tried.problem));
    each.collect::<Vec<_>>().join(", ")
}

impl SourceError {
    /// Puts a cause together with where its source is configured.
    pub(super) fn new(label: &str, spec: &SourceSpec, origin: &Origin, cause: SourceCause) -> Self {
        let configured_at = configured_at(spec.line, origin);
        Self {
            label: label.to_owned(),
            git_ref: spec.git_ref.clone(),
            configured_at,
            is_required: spec.is_required,
            cause,
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        let at = &self.configured_at;
        // A source of the command line has no keys.
        let or_place = if self.is_required && at != ON_COMMAND_LINE {
            format!(", correct its place ({at}), or set `required: false`")
        } else {
            format!(", or correct its place ({at})")
        };
        match &self.cause {
            SourceCause::NotFound { tried } => {
                let first = tried.first().map(|tried| tried.path.display().to_string());
                let first = first.unwrap_or_default();
                format!("put it at `{first}`{or_place}")
            }
            SourceCause::NotOpened { is_momentary: true, .. }
            | SourceCause::Unreadable { is_momentary: true, .. }
            | SourceCause::Directory { is_momentary: true, .. } => {
                "try again, as a view that is mounted does by itself; if it stays, raise the limit that is reached (descriptors, memory), or look at the disk".to_owned()
            }
            SourceCause::NotOpened { is_momentary: false, .. } => {
                format!("repair it{or_place}")
            }
            SourceCause::Private { public, .. } => {
                let put = match public {
                    Some(place) => {
                        format!("put a repository that everybody may see at `{}`", place.display())
                    }
                    None => format!("name a directory that everybody may see ({at})"),
                };
                format!("{put}, or remove `visibility: public` ({at}): a public view leaves a private source out")
            }
            SourceCause::NoSuchRef { available, .. } if !available.is_empty() => {
                format!("set `ref` ({at}) to one of: {}", available.join(", "))
            }
            SourceCause::NotACommit { available, .. } => {
                format!("set `ref` ({at}) to one that leads to a commit{}", perhaps(available))
            }
            SourceCause::NoHead { available, .. } if !available.is_empty() => {
                format!("set `ref` ({at}), for example to one of: {}", available.join(", "))
            }
            SourceCause::NoSuchRef { place, .. } | SourceCause::NoHead { place, .. } => {
                format!("fetch into `{}`: it has no refs at all", place.display())
            }
            SourceCause::Unreadable { place, is_momentary: false, .. } => {
                format!("run `git -C '{}' fsck`, then fetch what is lacking", place.display())
            }
            SourceCause::NoWorkTree { .. } => {
                format!("remove `mode: worktree` ({at}), or put a checkout there")
            }
            SourceCause::Directory { place, is_absent: true, is_momentary: false, .. } => {
                format!("create `{}`, or correct `path` ({at})", place.display())
            }
            SourceCause::Directory { place, is_absent: false, is_momentary: false, .. } => {
                format!("put a directory at `{}` that the daemon may read ({at})", place.display())
            }
            SourceCause::NoOpenat2 { .. } => {
                "use Linux 5.10 or newer, and no filter of system calls that takes openat2 away, as `RestrictSUIDSGID=yes` of a systemd unit does"
                    .to_owned()
            }
        }
    }

    /// Whether it may pass by itself: no descriptors, no memory, or a disk that fails.
    pub fn is_momentary(&self) -> bool {
        self.cause.is_momentary()
    }

    /// The state of a source that is not required.
    pub(super) fn state(&self) -> SourceState {
        let fault = Fault { error: self.to_string(), cure: Some(self.cure()) };
        let is_missing = match &self.cause {
            SourceCause::NotFound { .. }
            | SourceCause::NoSuchRef { .. }
            | SourceCause::NoHead { .. }
            | SourceCause::Directory { is_absent: true, .. } => true,
            SourceCause::NotOpened { .. }
            | SourceCause::Private { .. }
            | SourceCause::NotACommit { .. }
            | SourceCause::Unreadable { .. }
            | SourceCause::NoWorkTree { .. }
            | SourceCause::NoOpenat2 { .. }
            | SourceCause::Directory { is_absent: false, .. } => false,
        };
        if is_missing { SourceState::Missing(fault) } else { SourceState::Broken(fault) }
    }
}

/// Where a source of the command line is configured.
const ON_COMMAND_LINE: &str = "--source";

/// Where something is configured: a file name with a line, or the command line.
pub(super) fn configured_at(line: Option<usize>, origin: &Origin) -> String {
    let file = match origin {
        Origin::File(path) | Origin::Values(path) => {
            path.file_name().map(|name| name.to_string_lossy().into_owned())
        }
        Origin::CommandLine => None,
    };
    match (file, line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file,
        (None, _) => ON_COMMAND_LINE.to_owned(),
    }
}

/// Some refs as a proposal, where there are any.
fn perhaps(available: &[String]) -> String {
    if available.is_empty() {
        return String::new();
    }
    format!(", perhaps one of: {}", available.join(", "))
}

/// The refs most similar to the one asked for, the nearest first.
pub(super) fn nearest(wanted: &str, mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    // Each is looked at once: there may be a hundred thousand. The bits of numbers that are not negative have their order.
    let distance = |name: &String| {
        let likeness = (strsim::jaro_winkler(wanted, name) * 1000.0).round();
        (1000.0 - likeness).max(0.0).to_bits()
    };
    names.sort_by_cached_key(distance);
    names.truncate(PROPOSALS_MAX);
    names
}
