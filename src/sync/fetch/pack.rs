//! The `git` commands that pack objects of other repositories into one of ours.
//!
//! They run in the repository of ours, which borrows the objects: no configuration, ref, hook or replacement of a lender is read, nothing is
//! written into one, and no object that a partial clone lacks is fetched.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;

use super::child::{ChildRun, Cut};
use super::git::{as_itself, clean};

/// Settings that decide what is packed, whatever the lenders have beside their objects: indices of others over commits and packs are
/// not trusted.
const SETTINGS: [&str; 8] = [
    "safe.directory=*",
    "core.commitGraph=false",
    "core.multiPackIndex=false",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "pack.threads=1",
    "pack.writeReverseIndex=true",
    "protocol.allow=never",
];

/// Why objects could not be packed.
#[derive(Debug, Error)]
pub enum PackCause {
    /// The `git` program cannot be run.
    #[error("the `git` program cannot be run: {0}")]
    NoGit(std::io::Error),
    /// It took too long.
    #[error("packing took longer than {} s", .0.as_secs())]
    Late(Duration),
    /// Somebody asked to stop.
    #[error("it was stopped")]
    Stopped,
    /// Git could not do it: an object lacks, or is damaged, or there is no room.
    #[error("{0}")]
    Failed(String),
}

/// A repository of ours that borrows objects.
pub(crate) struct Borrower<'a> {
    /// The `git` program.
    pub(crate) program: &'a Path,
    /// The repository of ours.
    pub(crate) git_dir: &'a Path,
    /// The object directories that lend.
    pub(crate) lenders: &'a [PathBuf],
}

impl Borrower<'_> {
    /// Runs a command with this file as its input; gives its output.
    pub(crate) fn run(
        &self,
        arguments: &[&OsStr],
        input: File,
        child: &ChildRun<'_>,
    ) -> Result<Vec<u8>, PackCause> {
        let mut command = clean(as_itself(self.program, &[], &[]));
        command.stdin(Stdio::from(input)).env("GIT_NO_LAZY_FETCH", "1");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if !self.lenders.is_empty() {
            let quoted: Vec<_> = self.lenders.iter().map(|lender| quoted(lender)).collect();
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted.join(OsStr::new(":")));
        }
        command.arg("--git-dir").arg(self.git_dir).args(arguments);
        match child.run(command) {
            Ok(ended) if ended.status.success() => Ok(ended.stdout),
            Ok(ended) => Err(PackCause::Failed(said(&ended.stderr))),
            Err(Cut::Late) => Err(PackCause::Late(child.timeout)),
            Err(Cut::Stopped) => Err(PackCause::Stopped),
            Err(Cut::NotStarted(error)) => Err(PackCause::NoGit(error)),
        }
    }
}

/// A path as git takes it in a list with colons (git(1), `GIT_ALTERNATE_OBJECT_DIRECTORIES`).
fn quoted(path: &Path) -> OsString {
    let mut quoted = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    OsString::from_vec(quoted)
}

/// What git said last, on one line, with nothing that a terminal would obey.
fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let last: Vec<_> = lines.rev().take(2).collect();
    let text = last.into_iter().rev().collect::<Vec<_>>().join(": ");
    if text.is_empty() {
        "git failed and did not say why".to_owned()
    } else {
        text.escape_debug().to_string()
    }
}
