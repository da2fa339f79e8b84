//! `demo`: sample sources, mounted, walked through, updated, unmounted. Leaves nothing behind, also where a signal ends it: its programs
//! have process groups of their own, so that what a terminal sends reaches this process only.

mod samples;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use super::failure::Failure;
use crate::machine::{fusermount, namespace, user};

/// How long a push may take to be seen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the whole story with a real mount.
pub(super) fn run() -> Result<ExitCode, Failure> {
    let how = prepare_to_mount()?;
    let interrupted = interrupted().map_err(Failure::new)?;
    let demo = Demo::new(interrupted)?;
    say(&format!(
        "Two sample sources become git repositories, and their union is mounted {how}.\n"
    ));
    for source in samples::SOURCES {
        demo.git(&demo.repository(source)?, &["init", "--quiet", "--initial-branch=main"])?;
        demo.commit(source)?;
    }
    demo.configure()?;
    let mounted = demo.mount()?;
    let outcome = demo.walk().and_then(|()| demo.update());
    let ended = mounted.unmount();
    outcome?;
    ended?;
    say(
        "\nUnmounted. Nothing is left of this demo. Next: write an overlays.yaml (docs/CONFIG.md), then\n\n  \
         overlayfs-mount check && overlayfs-mount mount\n",
    );
    Ok(ExitCode::SUCCESS)
}

/// The number of the signal that asks for the end, once there was one; 0 before.
fn interrupted() -> std::io::Result<Arc<AtomicUsize>> {
    let interrupted = Arc::new(AtomicUsize::new(0));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, interrupted.clone(), number)?;
    }
    Ok(interrupted)
}

/// Finds the way to mount on this machine; without privileges and without `fusermount3` in a user namespace of our own.
fn prepare_to_mount() -> Result<&'static str, Failure> {
    if user::has_sys_admin() {
        return Ok("by mount(2)");
    }
    let is_setuid = fusermount::find().is_ok_and(|found| found.is_setuid_root);
    if is_setuid && !user::has_no_new_privs() {
        return Ok("through fusermount3");
    }
    namespace::enter_user_and_mount_namespace()?;
    // For every program that the demo starts.
    let _handed_on = namespace::let_programs_mount()?;
    Ok("in a user namespace of its own")
}

/// Writes to standard error: the demo's story is no data.
fn say(text: &str) {
    anstream::stderr().write_all(text.as_bytes()).unwrap_or_default();
}

/// The demo's directory, removed at the end.
struct Demo {
    directory: TempDir,
    program: PathBuf,
    interrupted: Arc<AtomicUsize>,
}

impl Demo {
    fn new(interrupted: Arc<AtomicUsize>) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("overlayfs-mount-demo-")
            .tempdir()
            .map_err(|error| failed(format!("making a temporary directory: {error}")))?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("finding this program: {error}")))?;
        Ok(Self { directory, program, interrupted })
    }

    /// Fails once a signal asks for the end, with the status that a shell gives then.
    fn expect_time(&self) -> Result<(), Failure> {
        match u8::try_from(self.interrupted.load(Ordering::Relaxed)).unwrap_or_default() {
            0 => Ok(()),
            signal => {
                let failure = Failure::new(format!("signal {signal} has ended the demo"));
                Err(failure.with_status(128 + signal))
            }
        }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn view(&self) -> PathBuf {
        self.path("view")
    }

    /// The repository of a sample source; its directory is made if need be.
    fn repository(&self, source: &samples::Sample) -> Result<PathBuf, Failure> {
        let repository = self.path(&format!("repos/{}", source.name));
        fs::create_dir_all(&repository)
            .map_err(|error| failed(format!("making `{}`: {error}", repository.display())))?;
        Ok(repository)
    }

    /// Writes a sample source and commits it.
    fn commit(&self, source: &samples::Sample) -> Result<(), Failure> {
        let repository = self.repository(source)?;
        for (path, text) in source.files {
            let path = repository.join(path);
            let parent = path.parent().unwrap_or(&repository);
            fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)).map_err(|error| {
                failed(format!("writing a sample: {}: {error}", path.display()))
            })?;
        }
        self.git(&repository, &["add", "--all"])?;
        self.git(&repository, &["commit", "--quiet", "--message=sample"])
    }

    fn configure(&self) -> Result<(), Failure> {
        let mut text =
            String::from("overlays:\n  sources:          # first = bottom, last = top\n");
        for source in samples::SOURCES {
            writeln!(text, "    - repo: {}\n      visibility: public", source.name)
                .map_err(Failure::new)?;
            if let Some(prompt) = source.prompt_path {
                writeln!(text, "      promptPath: {prompt}").map_err(Failure::new)?;
            }
        }
        text.push_str("repoCache: {path: repos}\nstate: {dir: state}\n");
        say(&format!("\noverlays.yaml:\n{text}"));
        fs::write(self.path("overlays.yaml"), text)
            .map_err(|error| failed(format!("writing the configuration: {error}")))
    }

    fn mount(&self) -> Result<DemoMount<'_>, Failure> {
        self.expect_time()?;
        self.ourselves(&["mount", "-c"], &[&self.path("overlays.yaml"), &self.view()])?;
        Ok(DemoMount { demo: self, is_mounted: true })
    }

    /// Shows what a reader sees.
    fn walk(&self) -> Result<(), Failure> {
        self.expect_time()?;
        say("\nThe union, as `find` sees it:\n");
        let mut files = Vec::new();
        collect(&self.view(), &mut files)?;
        for path in &files {
            say(&format!("  {}\n", path.strip_prefix(self.view()).unwrap_or(path).display()));
        }
        self.show("tools/slack/slack.py", "the team's `slack` hides the base's, category and all")?;
        self.show(
            ".agents/skills/review/SKILL.md",
            "skills are whole: the base's checklist.md is gone",
        )?;
        let hidden = self.view().join(".agents/skills/review/checklist.md");
        if hidden.exists() {
            return Err(Failure::new(format!("`{}` is hidden and can be read", hidden.display())));
        }
        say("\n$ overlayfs-mount explain tools/productivity/slack\n");
        let path = PathBuf::from("tools/productivity/slack");
        let configuration = self.path("overlays.yaml");
        let said = self.ourselves(&["explain", "-c"], &[&configuration, &path])?;
        say(&String::from_utf8_lossy(&said.stdout));
        Ok(())
    }

    /// Shows that a push is seen as a whole, and that what was left can still be read.
    fn update(&self) -> Result<(), Failure> {
        const SKILL: &str = ".agents/skills/review/SKILL.md";
        let left = self.read(".overlay/revision")?;
        say("\nThe team pushes another `review`. Nothing is asked of the view:\n");
        self.commit(&samples::UPDATE)?;
        let pushed = Instant::now();
        let [(_, expected)] = samples::UPDATE.files else {
            return Err(Failure::new("the update has one file"));
        };
        while self.read(SKILL)? != *expected {
            self.expect_time()?;
            if pushed.elapsed() > PATIENCE {
                return Err(Failure::new(format!(
                    "the push was not seen within {} s",
                    PATIENCE.as_secs()
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
        let seen = pushed.elapsed().as_millis();
        self.show(SKILL, &format!("seen {seen} ms after the push"))?;
        let left = format!(".overlay/revisions/{}/{SKILL}", left.trim_end());
        self.show(&left, "the revision set that was left is kept, whole")
    }

    fn read(&self, path: &str) -> Result<String, Failure> {
        fs::read_to_string(self.view().join(path))
            .map_err(|error| Failure::new(format!("reading `{path}` from the view: {error}")))
    }

    fn show(&self, path: &str, why: &str) -> Result<(), Failure> {
        let text = self.read(path)?;
        say(&format!("\n$ cat {path}     # {why}\n{text}"));
        Ok(())
    }

    /// Runs git on a sample repository, untouched by whatever the user configured.
    fn git(&self, repository: &Path, arguments: &[&str]) -> Result<(), Failure> {
        self.expect_time()?;
        let output = Command::new("git")
            .process_group(0)
            .current_dir(repository)
            .args([
                "-c",
                "user.name=demo",
                "-c",
                "user.email=demo@localhost",
                "-c",
                "commit.gpgsign=false",
            ])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .map_err(|error| {
                Failure::new(format!("running git: {error}"))
                    .with_cure("install git, for example with `apt-get install git`")
            })?;
        if output.status.success() {
            return Ok(());
        }
        // It may have got the signal too, before it had a process group of its own.
        self.expect_time()?;
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("git {}: {}", arguments.join(" "), said.trim_end())))
    }

    /// Runs this program again.
    fn ourselves(&self, arguments: &[&str], paths: &[&Path]) -> Result<Output, Failure> {
        let mut command = Command::new(&self.program);
        command.process_group(0);
        command.args(arguments).args(paths).current_dir(self.directory.path());
        // Sockets and logs go with everything else.
        command.env("OVERLAYFS_MOUNT_RUN_DIR", self.path("run"));
        let output = command.output().map_err(|error| {
            Failure::new(format!("running `{}`: {error}", self.program.display()))
        })?;
        if output.status.success() {
            return Ok(output);
        }
        self.expect_time()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim_end();
        let said = said.strip_prefix("error: ").unwrap_or(said);
        // Its cure is on the lines below.
        Err(Failure::new(format!("`overlayfs-mount {}`: {said}", arguments[0])))
    }
}

/// The mount of the demo, taken back on every way out.
struct DemoMount<'a> {
    demo: &'a Demo,
    is_mounted: bool,
}

impl DemoMount<'_> {
    fn unmount(mut self) -> Result<(), Failure> {
        self.is_mounted = false;
        self.demo.ourselves(&["unmount"], &[&self.demo.view()]).map(drop)
    }
}

impl Drop for DemoMount<'_> {
    fn drop(&mut self) {
        if self.is_mounted {
            // In order where that can be: then the daemon has ended, and nothing comes into the directory that is removed.
            let view = self.demo.view();
            let ended = self.demo.ourselves(&["unmount"], &[&view]);
            let outcome = ended.or_else(|_| self.demo.ourselves(&["unmount", "--lazy"], &[&view]));
            if let Err(failure) = outcome {
                failure.report();
            }
        }
    }
}

/// A step that needs nothing but a directory to write to.
fn failed(what: String) -> Failure {
    Failure::new(what)
        .with_cure("set TMPDIR to a directory that you may write to, on a disk with room")
}

/// All files below a directory, sorted.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("listing `{}`: {error}", directory.display()));
    let entries = fs::read_dir(directory).map_err(failed)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
