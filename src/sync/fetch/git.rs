//! The `git` commands that `sync` runs, each with a clean environment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gix::refs::FullName;

use super::cause::FetchCause;
use super::child::{ChildRun, Cut, Ended};
use super::remote::Remote;
use crate::config::Transport;
use crate::sync::reach::local_remote;

/// The variables of ours that a child sees: where programs are, keys for ssh, the way out of a closed network.
const KEPT: [&str; 14] = [
    "PATH",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// The variables of a child that are the same everywhere.
const SET: [(&str, &str); 7] = [
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    // No `.netrc`, and no configuration of a user; ssh finds its own directory without it.
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    // The working directory of every child: no repository is found from it.
    ("GIT_CEILING_DIRECTORIES", "/"),
];

/// With more loose objects than this a mirror is packed.
pub(crate) const LOOSE_MAX: usize = 3000;
/// With more packs than this too.
pub(crate) const PACKS_MAX: usize = 40;

/// Settings that no configuration of a repository may change. Some are the numbers above.
const SETTINGS: [&str; 17] = [
    // Refs too: a ref that is renamed before its bytes are on the disk is empty after a loss of power (S101).
    "core.fsync=all",
    "credential.helper=",
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.ssh.allow=always",
    "protocol.file.allow=always",
    "fetch.fsckObjects=true",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
    "safe.directory=*",
    "gc.autoDetach=false",
    // By the age of files, not by when they were needed last: so a mirror is packed before a fetch (`mirror`).
    "gc.pruneExpire=2.weeks.ago",
    "gc.auto=3000",
    "gc.autoPackLimit=40",
    "advice.detachedHead=false",
];

/// Never asks anybody, gives up on a host that is silent, and leaves no process behind.
const SSH: &str = "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 \
                   -o ControlMaster=no -o ControlPath=none";

/// The variable by which the credential helper knows the token's file.
const TOKEN_FILE: &str = "OVERLAYFS_MOUNT_TOKEN_FILE";

/// How much of the history is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryDepth {
    /// The commits themselves.
    Tips,
    /// All, where there is all already or nothing yet.
    All,
    /// All, where there are only tips yet.
    Unshallow,
}

/// What a remote says that it has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Advertised {
    /// The full name of the branch that HEAD names.
    pub(crate) default_branch: Option<String>,
    /// Ids by full ref name; `HEAD` too.
    pub(crate) refs: BTreeMap<String, String>,
}

impl Advertised {
    /// A remote says what it likes: what can be no name of a ref is passed over.
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        let is_name = |name: &str| FullName::try_from(name).is_ok();
        for (left, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            match left.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" => {
                    let target = Some(target).filter(|name| name.starts_with("refs/"));
                    found.default_branch = target.filter(|name| is_name(name)).map(str::to_owned);
                }
                Some(_) => {}
                None if !is_name(name) => {}
                None => {
                    found.refs.insert(name.to_owned(), left.to_owned());
                }
            }
        }
        found
    }

    /// True if its ids are SHA-256.
    pub(crate) fn is_sha256(&self) -> bool {
        self.refs.values().any(|id| id.len() == 64)
    }

    /// The names of branches and tags as users write them.
    pub(crate) fn short_names(&self) -> Vec<String> {
        let short = |name: &String| {
            let short = ["refs/heads/", "refs/tags/"].iter().find_map(|at| name.strip_prefix(at));
            short.map(str::to_owned)
        };
        self.refs.keys().filter_map(short).collect()
    }
}

/// How a program is started that writes below some paths only, and reads, of what is not the machine's, these and some others: given
/// are the program, what it writes, and what it reads.
pub type GitLaunch = fn(&Path, &[PathBuf], &[PathBuf]) -> Command;

/// Starts a program with nothing to keep it to that.
pub fn as_itself(program: &Path, _writes: &[PathBuf], _reads: &[PathBuf]) -> Command {
    Command::new(program)
}

/// Runs `git`.
pub(crate) struct Git<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// How it is started.
    pub(crate) launch: GitLaunch,
    /// The lock of the cache. A child holds it as its standard input, so that it is locked for as long as one that
    /// outlives us may write.
    pub(crate) lock: &'a File,
    /// The file with the access token.
    pub(crate) token_file: &'a Path,
}

impl Git<'_> {
    /// Asks a remote which of these it has, its HEAD, branches and tags: of others there may be millions, as where each review of a change is a
    /// ref.
    pub(crate) fn ls_remote<'b>(
        &self,
        remote: &Remote,
        names: impl Iterator<Item = &'b str>,
        child: &ChildRun<'_>,
    ) -> Result<Advertised, FetchCause> {
        let mut command = self.speaking(remote, None)?;
        command.args(["ls-remote", "--symref", "--end-of-options", remote.url()]);
        command.args(["HEAD", "refs/heads/*", "refs/tags/*"]).args(names);
        let ended = self.run(command, Some(remote), child)?;
        Ok(Advertised::parse(&String::from_utf8_lossy(&ended.stdout)))
    }

    /// Fetches into a repository, all refs or none.
    pub(crate) fn fetch(
        &self,
        git_dir: &Path,
        remote: &Remote,
        refspecs: &[String],
        depth: HistoryDepth,
        child: &ChildRun<'_>,
    ) -> Result<(), FetchCause> {
        let mut command = self.speaking(remote, Some(git_dir))?;
        command.args(["fetch", "--progress", "--atomic", "--no-tags", "--no-auto-maintenance"]);
        command.args(["--no-write-fetch-head", "--no-recurse-submodules"]);
        match depth {
            HistoryDepth::Tips => command.arg("--depth=1"),
            HistoryDepth::All => &mut command,
            HistoryDepth::Unshallow => command.arg("--unshallow"),
        };
        command.args(["--end-of-options", remote.url()]).args(refspecs);
        self.run(command, Some(remote), child).map(drop)
    }

    /// Makes an empty bare repository.
    pub(crate) fn init(
        &self,
        git_dir: &Path,
        is_sha256: bool,
        child: &ChildRun<'_>,
    ) -> Result<(), FetchCause> {
        let parent = git_dir.parent().unwrap_or(git_dir);
        let mut command = self.command(None, &[parent], &[])?;
        command.args(["init", "--quiet", "--bare", "--template=", "--initial-branch=main"]);
        command.arg(if is_sha256 { "--object-format=sha256" } else { "--object-format=sha1" });
        command.arg("--end-of-options").arg(git_dir);
        self.run(command, None, child).map(drop)
    }

    /// Runs a command in a repository that speaks to nobody.
    pub(crate) fn local<I, S>(
        &self,
        git_dir: &Path,
        arguments: I,
        child: &ChildRun<'_>,
    ) -> Result<(), FetchCause>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.command(Some(git_dir), &[git_dir], &[])?;
        command.args(arguments);
        self.run(command, None, child).map(drop)
    }

    /// The start of a command that speaks to a remote.
    fn speaking(&self, remote: &Remote, git_dir: Option<&Path>) -> Result<Command, FetchCause> {
        let mut reads = vec![self.token_file.to_owned()];
        if remote.transport() == &Transport::File {
            reads.extend(local_remote(remote.url()));
        }
        let writes: Vec<&Path> = git_dir.into_iter().collect();
        let mut command = self.command(git_dir, &writes, &reads)?;
        match remote.transport() {
            Transport::Https { origin, has_user } => {
                // For this host only: whoever is redirected to asks in vain.
                let setting = format!("credential.{origin}.helper={}", helper(*has_user));
                command.args(["-c", &setting]).env(TOKEN_FILE, self.token_file);
            }
            Transport::Ssh if std::env::var_os("GIT_SSH_COMMAND").is_none() => {
                command.env("GIT_SSH_COMMAND", SSH);
            }
            Transport::Ssh | Transport::File => {}
        }
        Ok(command)
    }

    fn command(
        &self,
        git_dir: Option<&Path>,
        writes: &[&Path],
        reads: &[PathBuf],
    ) -> Result<Command, FetchCause> {
        let writes: Vec<PathBuf> = writes.iter().map(|path| path.to_path_buf()).collect();
        let mut command = clean((self.launch)(self.program, &writes, reads));
        let lock = self.lock.try_clone().map_err(|error| not_run(&error))?;
        command.stdin(Stdio::from(lock));
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        if let Some(git_dir) = git_dir {
            command.arg("--git-dir").arg(git_dir);
        }
        Ok(command)
    }

    fn run(
        &self,
        command: Command,
        remote: Option<&Remote>,
        child: &ChildRun<'_>,
    ) -> Result<Ended, FetchCause> {
        let name = || remote.map_or_else(|| "the repo cache".to_owned(), ToString::to_string);
        match child.run(command) {
            Ok(ended) if ended.status.success() => Ok(ended),
            Ok(ended) => Err(match remote {
                Some(remote) => FetchCause::of(&ended.stderr, remote, || self.has_token()),
                None => FetchCause::of_local(&ended.stderr),
            }),
            Err(Cut::Late) => Err(FetchCause::Late { remote: name(), timeout: child.timeout }),
            Err(Cut::Stopped) => Err(FetchCause::Stopped),
            Err(Cut::NotStarted(error)) => Err(not_run(&error)),
        }
    }

    fn has_token(&self) -> bool {
        std::fs::read(self.token_file).is_ok_and(|token| !token.trim_ascii().is_empty())
    }
}

/// A command that sees nothing of our environment but what it needs.
pub(super) fn clean(mut command: Command) -> Command {
    command.env_clear().envs(SET).current_dir("/");
    for name in KEPT {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn not_run(error: &std::io::Error) -> FetchCause {
    FetchCause::NoGit { problem: error.to_string() }
}

/// The credential helper: the first line of the token's file, for `get` only. `read` and `printf` are part of the shell,
/// so that the token is in nobody's arguments. A URL that names its user keeps it; hosts that take tokens take any.
fn helper(has_user: bool) -> String {
    let user = if has_user { "" } else { "username=x-access-token\\n" };
    format!(
        "!f() {{ test \"$1\" = get && test -r \"${TOKEN_FILE}\" || return 0; token=; \
         IFS=' \t\r' read -r token <\"${TOKEN_FILE}\"; test -n \"$token\" || return 0; \
         printf '{user}password=%s\\n' \"$token\"; }}; f"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;
    use crate::sync::fetch::Stop;

    #[test]
    fn what_a_remote_has_is_read() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let found = Advertised::parse(&format!(
            "ref: refs/heads/next\tHEAD\n{id}\tHEAD\n{id}\trefs/heads/next\n{id}\trefs/tags/v1\n{id}\trefs/tags/v1^{{}}\n"
        ));
        assert_eq!(found.default_branch.as_deref(), Some("refs/heads/next"));
        assert_eq!(found.short_names(), ["next", "v1"]);
        assert_eq!(found.refs.len(), 3);
        assert!(!found.is_sha256());
    }

    /// What `git credential fill` finds for a URL, with the settings of a fetch from `remote`.
    fn credential(remote: &str, asked: &str, token: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let (lock, token_file) = (directory.path().join("lock"), directory.path().join("to ken'"));
        std::fs::write(&token_file, token).unwrap();
        let lock = File::create(lock).unwrap();
        let git = Git {
            program: Path::new("git"),
            launch: as_itself,
            lock: &lock,
            token_file: &token_file,
        };
        let mut command = git.speaking(&Remote::parse(remote).unwrap(), None).unwrap();
        command.args(["credential", "fill"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "url={asked}\n").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn the_token_is_read_by_the_helper_and_given_to_the_remotes_host_only() {
        let remote = "https://git.example/a/b.git";
        for token in [&b"s3cr3t"[..], b"s3cr3t\n", b" s3cr3t\r\nmore\n"] {
            let given = credential(remote, remote, token);
            assert!(given.contains("username=x-access-token\npassword=s3cr3t\n"), "{given:?}");
        }
        for elsewhere in ["https://evil.example/a", "http://git.example/a/b.git"] {
            assert_eq!(credential(remote, elsewhere, b"s3cr3t"), "");
        }
        assert_eq!(credential(remote, remote, b"\n"), "");
        let named = credential("https://me@git.example/a", "https://me@git.example/a", b"s3cr3t");
        assert!(named.contains("username=me\npassword=s3cr3t\n"), "{named:?}");
    }

    #[test]
    fn a_child_sees_no_token_and_nothing_of_our_environment() {
        let directory = tempfile::tempdir().unwrap();
        let (seen, stub) = (directory.path().join("seen"), directory.path().join("git"));
        let script = format!("#!/bin/sh\n{{ env; echo \"$@\"; }} >'{}'\n", seen.display());
        crate::store::git::fixture::write_program(&stub, &script);
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, "s3cr3t").unwrap();
        let lock = File::create(directory.path().join("lock")).unwrap();
        let git = Git { program: &stub, launch: as_itself, lock: &lock, token_file: &token_file };
        let stop = Stop::default();
        let child = ChildRun { timeout: Duration::from_secs(60), stop: &stop, hear: &|_| {} };
        let remote = Remote::parse("https://git.example/a/b.git").unwrap();
        git.fetch(directory.path(), &remote, &["+a:b".to_owned()], HistoryDepth::Tips, &child)
            .unwrap();
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(seen.contains("--depth=1") && seen.contains("GIT_TERMINAL_PROMPT=0"), "{seen}");
        assert!(!seen.contains("s3cr3t") && !seen.contains("CARGO"), "{seen}");
    }
}
