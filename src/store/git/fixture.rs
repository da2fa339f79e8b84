//! Git repositories for tests, made by the `git` program.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory in which repositories are made; it goes with the value.
pub(crate) struct Fixture {
    dir: TempDir,
}

/// A repository below a [`Fixture`].
pub(crate) struct Made {
    /// Its work tree, or the repository itself if it is bare.
    pub(crate) path: PathBuf,
    home: PathBuf,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Initialises a repository with branch `main` and no commits.
    pub(crate) fn init(&self, path: &str, options: &[&str]) -> Made {
        let made = self.at(path);
        fs::create_dir_all(&made.path).unwrap();
        let always: &[&str] = &["init", "-q", "-b", "main"];
        made.git(&[always, options, &["."]].concat());
        made
    }

    /// A repository with these files in one commit.
    pub(crate) fn with_files(&self, path: &str, files: &[(&str, &str)]) -> Made {
        let made = self.init(path, &[]);
        made.commit(files);
        made
    }

    /// What is already at a path.
    pub(crate) fn at(&self, path: &str) -> Made {
        Made { path: self.path().join(path), home: self.path().to_owned() }
    }
}

/// Writes a program into a file. A child writes it: a descriptor of ours would go into what other threads
/// start meanwhile, and what somebody has open for writing cannot be run (ETXTBSY).
pub(crate) fn write_program(path: &Path, text: &str) {
    let mut child = Command::new("sh")
        .args(["-euc", "cat >\"$0\"; chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", path.display());
}

impl Made {
    /// Runs git there and gives its trimmed output.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, b"")
    }

    /// Runs git with bytes as its input.
    pub(crate) fn git_with(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child = Command::new("git")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
            .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.org")])
            .env("GIT_AUTHOR_DATE", "1700000000 +0000")
            .env("GIT_COMMITTER_DATE", "1700000001 +0000")
            .current_dir(&self.path)
            .args(["-c", "advice.nestedTag=false"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests need the git program");
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?} in {}", self.path.display());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes files and commits them; `!` before a path makes it executable, `@` a link. Gives the commit's id.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.path.join(name.trim_start_matches(['!', '@']));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name.starts_with('@') {
                std::os::unix::fs::symlink(content, &path).unwrap();
            } else {
                fs::write(&path, content).unwrap();
            }
            if name.starts_with('!') {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "commit"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Stores a blob and gives its id.
    pub(crate) fn blob(&self, content: &[u8]) -> String {
        self.git_with(&["hash-object", "-w", "--stdin"], content)
    }

    /// Stores a tree with these entries (mode, name, id), whatever they are, and gives its id.
    pub(crate) fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(super::oid(id.as_bytes()).unwrap().as_bytes());
        }
        self.object("tree", &bytes)
    }

    /// Stores any object, whatever it holds, and gives its id.
    pub(crate) fn object(&self, kind: &str, bytes: &[u8]) -> String {
        self.git_with(&["hash-object", "-t", kind, "-w", "--literally", "--stdin"], bytes)
    }

    /// Commits a tree and gives the commit's id; `main` points to it.
    pub(crate) fn commit_tree(&self, tree: &str) -> String {
        let commit = self.git(&["commit-tree", "-m", "made", tree]);
        self.git(&["update-ref", "refs/heads/main", &commit]);
        commit
    }
}
