//! Why a fetch failed, from what `git` says, each with its cure.

use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::remote::Remote;
use super::said::gist;

/// What git and the system say of a full disk.
const FULL: [&str; 3] = ["No space left on device", "Out of diskspace", "Disk quota exceeded"];

/// Why a source could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchCause {
    /// The URL is of a protocol that is not spoken.
    #[error("`{url}` is no https, ssh or file URL")]
    Protocol {
        /// The URL as configured, without its password.
        url: String,
    },
    /// There is no URL, and the name alone gives none.
    #[error("`{repo}` has no `url`")]
    NoUrl {
        /// The repository.
        repo: String,
    },
    /// Two sources say that one repository is at two places.
    #[error("`{repo}` is listed with two URLs, `{first}` and `{second}`")]
    TwoUrls {
        /// The repository.
        repo: String,
        /// The URL of the first source.
        first: String,
        /// Another one.
        second: String,
    },
    /// The `git` program cannot be run.
    #[error("the `git` program cannot be run: {problem}")]
    NoGit {
        /// What failed.
        problem: String,
    },
    /// The remote lacks the ref.
    #[error("ref `{git_ref}` is not in `{remote}`")]
    NoSuchRef {
        /// The ref as configured.
        git_ref: String,
        /// The remote.
        remote: String,
        /// Refs that it has, the most similar first.
        available: Vec<String>,
    },
    /// The remote's HEAD names nothing.
    #[error("`{remote}` has no default branch")]
    NoHead {
        /// The remote.
        remote: String,
        /// Branches that it has.
        available: Vec<String>,
    },
    /// There is no repository, or none that we may know of.
    #[error("there is no repository at `{remote}`: {said}")]
    NoRemote {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// The remote wants a token and there is none, or it takes not the one that there is.
    #[error("`{remote}` did not let us in: {said}")]
    NoAccess {
        /// The remote.
        remote: String,
        /// Whether the token file could be read and held something.
        had_token: bool,
        /// What git said.
        said: String,
    },
    /// ssh found no key that the remote takes.
    #[error("`{remote}` takes none of this user's ssh keys: {said}")]
    NoKey {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// ssh does not know the host.
    #[error("ssh does not know the host of `{remote}`: {said}")]
    UnknownHost {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// Nobody whom this machine trusts vouches for the remote's certificate.
    #[error("the certificate of `{remote}` is not trusted: {said}")]
    Untrusted {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// The remote does not answer.
    #[error("`{remote}` cannot be reached: {said}")]
    Unreachable {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// A repository of this machine belongs to another user.
    #[error("`{remote}` belongs to another user: {said}")]
    ForeignOwner {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// The cache is full.
    #[error("no space is left for the repo cache: {said}")]
    DiskFull {
        /// What git or the system said.
        said: String,
    },
    /// The remote sent what git refuses.
    #[error("`{remote}` sent malformed objects: {said}")]
    Malformed {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// The remote cannot read its own objects.
    #[error("`{remote}` is damaged: {said}")]
    Damaged {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
    /// It took too long.
    #[error("`{remote}` took longer than {} s", timeout.as_secs_f32())]
    Late {
        /// The remote.
        remote: String,
        /// The most time that it had.
        timeout: Duration,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// Something that we did not make is where the mirror belongs.
    #[error("`{place}` was not made by `sync` and is left alone")]
    Foreign {
        /// What is in the way.
        place: String,
    },
    /// A directory or file of the cache cannot be written.
    #[error("`{place}`: {problem}")]
    Cache {
        /// What was to be written.
        place: String,
        /// What the system said.
        problem: String,
    },
    /// What a ref leads to is no commit.
    #[error("`{git_ref}` of `{remote}`: {problem}")]
    NotACommit {
        /// The ref.
        git_ref: String,
        /// The remote.
        remote: String,
        /// What it leads to.
        problem: String,
    },
    /// What was fetched cannot be read.
    #[error("`{git_ref}` of `{place}` was fetched and cannot be read: {problem}")]
    Unreadable {
        /// The ref, or `HEAD`.
        git_ref: String,
        /// The mirror.
        place: String,
        /// What failed.
        problem: String,
    },
    /// Anything else that git says.
    #[error("fetching `{remote}`: {said}")]
    Other {
        /// The remote.
        remote: String,
        /// What git said.
        said: String,
    },
}

impl FetchCause {
    /// Finds the cause in what `git` said (with `LC_ALL=C`).
    pub(super) fn of(said: &[u8], remote: &Remote, has_token: impl FnOnce() -> bool) -> Self {
        let all = String::from_utf8_lossy(said);
        let has = |marks: &[&str]| marks.iter().any(|mark| all.contains(mark));
        let said = gist(&all);
        let remote = remote.to_string();
        if has(&FULL) {
            return Self::DiskFull { said };
        }
        if has(&["Authentication failed", "could not read Username", "could not read Password"])
            || has(&["error: 401", "error: 403", "HTTP Basic: Access denied"])
        {
            return Self::NoAccess { remote, had_token: has_token(), said };
        }
        if has(&["Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
            return Self::UnknownHost { remote, said };
        }
        if has(&["Permission denied (publickey", "Too many authentication failures"]) {
            return Self::NoKey { remote, said };
        }
        if has(&["dubious ownership"]) {
            return Self::ForeignOwner { remote, said };
        }
        // The last is what servers of the first version of the protocol say.
        if has(&["couldn't find remote ref", "not our ref", "request for unadvertised object"]) {
            return Self::NoSuchRef { git_ref: String::new(), remote, available: Vec::new() };
        }
        if has(&["Repository not found", "' not found", "does not appear to be a git repository"])
            || has(&["' does not exist", "not a git repository"])
        {
            return Self::NoRemote { remote, said };
        }
        if has(&["repository corruption on the remote side", "remote: fatal: unable to read"]) {
            return Self::Damaged { remote, said };
        }
        // A pack that ends too early is no malformed one, though git says both of it.
        if has(&["fsck error", "error in object", "inflate", "bad pack header"])
            || has(&["invalid index-pack output", "index-pack failed", "unpack-objects died"])
                && !has(&["early EOF", "hung up unexpectedly", "unexpected disconnect"])
        {
            return Self::Malformed { remote, said };
        }
        if has(&["certificate verification failed", "SSL certificate problem", "certificate has"]) {
            return Self::Untrusted { remote, said };
        }
        if has(&["Could not resolve", "Connection refused", "Failed to connect", "timed out"])
            || has(&["unable to access", "Connection reset", "early EOF", "Connection closed"])
            || has(&["unexpectedly", "Operation too slow", "No route to host"])
        {
            return Self::Unreachable { remote, said };
        }
        Self::Other { remote, said }
    }

    /// As [`of`](Self::of), of a command that spoke to nobody.
    pub(super) fn of_local(said: &[u8]) -> Self {
        let all = String::from_utf8_lossy(said);
        let (place, said) = ("the repo cache".to_owned(), gist(&all));
        if FULL.iter().any(|mark| all.contains(mark)) {
            return Self::DiskFull { said };
        }
        Self::Cache { place, problem: said }
    }

    /// The cause of a failure of our own to write to the cache.
    pub(in crate::sync) fn of_cache(place: &Path, error: &io::Error) -> Self {
        let (place, problem) = (place.display().to_string(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { said: format!("`{place}`: {problem}") }
            }
            _ => Self::Cache { place, problem },
        }
    }

    /// What to do about it; `at` says where the source is configured.
    pub fn cure(&self, at: &str, token_file: &Path) -> String {
        let token_file = token_file.display();
        match self {
            Self::Protocol { .. } | Self::NoUrl { .. } => {
                format!("set `url` ({at}), as `https://git.example/owner/repo.git`")
            }
            Self::TwoUrls { .. } => format!("give all of them the same `url` ({at})"),
            Self::NoGit { .. } => "install git and put it on PATH, as `apt install git`; where it is, give this process more memory and processes (`ulimit -a`)".to_owned(),
            Self::NoSuchRef { available, .. } | Self::NoHead { available, .. }
                if !available.is_empty() =>
            {
                format!("set `ref` ({at}) to one of: {}", available.join(", "))
            }
            Self::NoSuchRef { .. } => format!("correct `ref` ({at}), or push it"),
            Self::NoHead { .. } => format!("push a first commit, or set `ref` ({at})"),
            Self::NoRemote { .. } => format!(
                "correct `repo` or `url` ({at}); a private repository needs a token in `{token_file}` that may read it"
            ),
            Self::NoAccess { had_token: true, .. } => format!("put a valid token that may read it into `{token_file}`"),
            Self::NoAccess { had_token: false, .. } => {
                format!("put a token that may read it into `{token_file}`, or correct `url` ({at})")
            }
            Self::NoKey { .. } => {
                "load a key that may read it, as `ssh-add KEY`, or set `GIT_SSH_COMMAND`".to_owned()
            }
            Self::UnknownHost { .. } => {
                "check the host's key, then `ssh-keyscan HOST >>~/.ssh/known_hosts`".to_owned()
            }
            Self::Untrusted { .. } => {
                "have `GIT_SSL_CAINFO` name a PEM file with the certificate of who vouches for it"
                    .to_owned()
            }
            Self::Unreachable { remote, .. } | Self::Late { remote, .. } => {
                format!("check the network, for example with `git ls-remote {remote}`")
            }
            Self::ForeignOwner { .. } => {
                "run `sync` as the owner of that repository, or serve it over ssh".to_owned()
            }
            Self::DiskFull { .. } => {
                "free space, or set `repoCache.path` to a larger file system".to_owned()
            }
            Self::Malformed { remote, .. } => {
                format!("see `git fsck` in a full clone of `{remote}`, and rewrite what it names")
            }
            Self::Damaged { remote, .. } => {
                format!(
                    "see `git fsck` where `{remote}` is, and push to it what it names"
                )
            }
            Self::Stopped => "run `sync` again".to_owned(),
            Self::Foreign { place } => format!(
                "move `{place}` away and `sync` clones anew, or let who made it update it, without `sync`"
            ),
            Self::Cache { place, .. } => {
                format!("make `{place}` writable for this user, or set `repoCache.path`")
            }
            Self::NotACommit { .. } => format!("set `ref` ({at}) to one that leads to a commit"),
            Self::Unreadable { place, .. } => format!("`rm -r '{place}'`, and `sync` clones anew"),
            Self::Other { .. } => format!("see what git says; `repo` and `url` are at {at}"),
        }
    }
}
