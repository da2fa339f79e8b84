//! The files of a git directory that is no clone of any: HEAD, a configuration that says nothing, and room for refs and objects.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::union::hex::Hex;

/// What every git directory of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GitDirectoryForm {
    /// Whether its ids are SHA-256.
    pub(super) is_sha256: bool,
    /// Whether there is no work tree around it.
    pub(super) is_bare: bool,
}

/// Makes a git directory with nothing in it; what is there already stays.
pub(super) fn write(dir: &Path, form: GitDirectoryForm, head: &str) -> io::Result<()> {
    for below in ["objects/pack", "objects/info", "refs/heads", "refs/tags"] {
        fs::create_dir_all(dir.join(below))?;
    }
    let (version, extension) =
        if form.is_sha256 { (1, "[extensions]\n\tobjectformat = sha256\n") } else { (0, "") };
    let core = format!(
        "[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = {}\n",
        form.is_bare
    );
    fs::write(dir.join("config"), core + extension)?;
    fs::write(dir.join("HEAD"), format!("{head}\n"))
}

/// Where the history of a repository ends before its beginning: the commits that a shallow clone has without their parents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Boundary(Vec<String>);

/// More bytes of a boundary are not read.
const BOUNDARY_BYTES_MAX: u64 = 64 << 20;

impl Boundary {
    /// Reads that of a repository, by the git directory that its work trees share.
    pub(super) fn of(common_dir: &Path) -> io::Result<Self> {
        let mut options = fs::OpenOptions::new();
        // Not to wait for the other end of a pipe.
        let opened =
            options.read(true).custom_flags(libc::O_NONBLOCK).open(common_dir.join("shallow"));
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened?,
        };
        let mut text = String::new();
        file.take(BOUNDARY_BYTES_MAX).read_to_string(&mut text)?;
        let is_id = |line: &&str| {
            matches!(line.len(), 40 | 64) && line.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let mut commits: Vec<_> = text.lines().filter(is_id).map(str::to_owned).collect();
        commits.sort();
        commits.dedup();
        Ok(Self(commits))
    }

    /// True if all of the history is there.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names it.
    pub(super) fn name(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let digest: [u8; 32] = Sha256::digest(self.text()).into();
        Hex(&digest[..16]).to_string()
    }

    /// As git writes it.
    pub(super) fn text(&self) -> String {
        text(&self.0)
    }

    /// Those of its commits that a list of ids, a line each, names too.
    pub(super) fn within(&self, ids: &[u8]) -> Vec<String> {
        let ids = String::from_utf8_lossy(ids);
        let found =
            ids.lines().filter(|id| self.0.binary_search_by(|own| own.as_str().cmp(id)).is_ok());
        let mut found: Vec<_> = found.map(str::to_owned).collect();
        found.sort();
        found
    }
}

/// The file `shallow` that says where a history ends.
pub(super) fn text(commits: &[String]) -> String {
    commits.iter().flat_map(|commit| [commit.as_str(), "\n"]).collect()
}
