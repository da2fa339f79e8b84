//! What every test starts from: a directory of its own, git repositories in it, and a mount that is gone afterwards.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The variable that turns off the tests that need `/dev/fuse`.
pub(crate) const SKIP_FUSE: &str = "OVERLAYFS_MOUNT_SKIP_FUSE";

/// The longest that anything in a test may take, in seconds.
const PATIENCE: u64 = 60;
/// The variable that says another number: a machine whose processor is emulated takes long.
const PATIENCE_SECS: &str = "OVERLAYFS_MOUNT_PATIENCE";

/// The longest that anything in a test may take.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(times(PATIENCE_SECS, PATIENCE))
}

/// The variable that has tests try what they try for minutes instead of seconds.
const LONG: &str = "OVERLAYFS_MOUNT_LONG";

/// Whether tests are to take the time of their long forms.
pub(crate) fn is_long() -> bool {
    std::env::var_os(LONG).is_some_and(|value| value == "1")
}

/// How often a test does what it does: as this variable says, or so often in its short form.
pub(crate) fn times(variable: &str, short: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return short };
    let times = text.parse();
    assert!(times.is_ok(), "{variable}=`{text}` is no number: set one, or unset it");
    times.unwrap()
}

/// False, loudly, where the mounting tests were turned off; fails with the cure where `/dev/fuse` is missing.
pub(crate) fn can_mount() -> bool {
    if std::env::var_os(SKIP_FUSE).is_some_and(|value| value == "1") {
        eprintln!("SKIPPED: {SKIP_FUSE}=1 turns off every test that mounts");
        return false;
    }
    assert!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: `modprobe fuse`, or give the container the device; {SKIP_FUSE}=1 skips the tests that need it"
    );
    true
}

/// True if a program that some tests read a mount with is here. In CI it must be.
pub(crate) fn has_program(name: &str, cure: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {name}")])
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "`{name}` is not installed: {cure}");
        eprintln!("SKIPPED: `{name}` is not installed: {cure}");
    }
    found
}

/// Fails where the kernel is too old for what a test holds a promise of: what such a kernel lacks is nothing to be passed over
/// (`tests/kernels/expected.txt` lists it).
pub(crate) fn needs_kernel(oldest: (u32, u32), promise: &str) {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let found = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    assert!(
        found >= oldest,
        "needs Linux {}.{} or newer: {promise}; this is Linux {release}",
        oldest.0,
        oldest.1
    );
}

/// Whether tests of a mount that outlives its worker can run here; fails where the kernel is too old.
pub(crate) fn can_take_over() -> bool {
    needs_kernel(TAKEOVER.0, TAKEOVER.1);
    can_mount()
}

/// Whether calls of a mounted daemon can be made to fail here.
pub(crate) fn can_inject() -> bool {
    can_mount()
        && nix::unistd::geteuid().is_root()
        && has_program("strace", "apt-get install strace")
}

/// What [`needs_kernel`] asks of tests of a mount that outlives its worker.
pub(crate) const TAKEOVER: ((u32, u32), &str) =
    ((6, 9), "another process goes on with a mount, so a worker can be confined to its files");

/// Who empties the kernel's caches takes what all mounts have cached: nobody counts requests meanwhile.
static CACHES: RwLock<()> = RwLock::new(());

/// Held by a test that empties the kernel's caches.
pub(crate) fn empties_caches() -> RwLockReadGuard<'static, ()> {
    CACHES.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a test that counts what the kernel asks for.
pub(crate) fn counts_requests() -> RwLockWriteGuard<'static, ()> {
    CACHES.write().unwrap_or_else(PoisonError::into_inner)
}

/// A directory of a test's own.
pub(crate) struct Sandbox {
    directory: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("overlayfs-mount-it-").tempdir().unwrap();
        let sandbox = Self { directory };
        for name in ["home", "run", "repos"] {
            fs::create_dir(sandbox.path(name)).unwrap();
        }
        sandbox
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(below)
    }

    /// A command with an environment that nothing outside the test decides.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory.path())
            .env_remove("OVERLAYFS_MOUNT_CONFIG")
            .env_remove("OVERLAYFS_MOUNT_METRICS")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("GIT_DIR")
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("OVERLAYFS_MOUNT_RUN_DIR", self.path("run/ours"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "test")
            .env("GIT_AUTHOR_EMAIL", "test@localhost")
            .env("GIT_COMMITTER_NAME", "test")
            .env("GIT_COMMITTER_EMAIL", "test@localhost")
            .env("GIT_AUTHOR_DATE", "2024-05-01T12:00:00Z")
            .env("GIT_COMMITTER_DATE", "2024-05-01T12:00:00Z")
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C");
        command
    }

    /// The program under test.
    pub(crate) fn overlay(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_overlayfs-mount"));
        command.args(arguments);
        command
    }

    /// Runs the program under test to its end, which must be a success, and gives its standard output.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.overlay(arguments).output().unwrap();
        assert_success(&output, &format!("{arguments:?}"));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program under test, which must fail with this status, and gives its standard error.
    pub(crate) fn fail(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.overlay(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        said
    }

    /// Runs a shell script in the sandbox, with `$VIEW` as the mount point; it must succeed. Gives its standard output.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.shell_output(script);
        assert_success(&output, script);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `status` says of the view.
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.succeed(&["status", "view", "--json"])).unwrap()
    }

    /// Writes a program into a file of the sandbox. A child writes it: a descriptor of ours would go into what other tests start
    /// meanwhile, and what somebody has open for writing cannot be run (ETXTBSY).
    pub(crate) fn program(&self, path: &str, content: &[u8]) {
        let mut command = self.command("sh");
        command.args(["-euc", "cat >\"$0\"; chmod 755 \"$0\"", path]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        assert!(child.wait().unwrap().success(), "{path}");
    }

    /// Runs a shell script in the sandbox to whatever end, within [`patience`].
    pub(crate) fn shell_output(&self, script: &str) -> Output {
        let patience = if is_long() { patience() * 15 } else { patience() };
        let seconds = patience.as_secs().to_string();
        let mut command = self.command("timeout");
        command.args(["-s", "KILL", &seconds, "sh", "-euc", script]).env("VIEW", self.view());
        command.output().unwrap()
    }

    /// A new repository below the repo cache, without commits.
    pub(crate) fn repo(&self, name: &str) -> Repo<'_> {
        let path = self.path("repos").join(name);
        fs::create_dir_all(&path).unwrap();
        let repo = Repo { sandbox: self, path };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// A repository that was made before.
    pub(crate) fn existing(&self, name: &str) -> Repo<'_> {
        Repo { sandbox: self, path: self.path("repos").join(name) }
    }

    /// Where views are mounted.
    pub(crate) fn view(&self) -> PathBuf {
        self.path("view")
    }

    /// Writes `overlays.yaml`: these sources, the sandbox's repo cache, state directory and mount point, and whatever follows.
    pub(crate) fn configure(&self, sources: &str, rest: &str) {
        let text = format!(
            "overlays:\n  sources:\n{sources}\nrepoCache: {{path: repos}}\nstate: {{dir: state}}\n\
             mount: {{at: view{}}}\n",
            if rest.is_empty() { String::new() } else { format!(", {rest}") },
        );
        fs::write(self.path("overlays.yaml"), text).unwrap();
    }

    /// Changes the text of `overlays.yaml`, and gives what it was.
    pub(crate) fn edit(&self, change: impl FnOnce(&str) -> String) -> String {
        let file = self.path("overlays.yaml");
        let before = fs::read_to_string(&file).unwrap();
        let after = change(&before);
        assert_ne!(after, before, "nothing of `overlays.yaml` is changed");
        fs::write(file, after).unwrap();
        before
    }

    /// Mounts what `overlays.yaml` says.
    pub(crate) fn mount(&self) -> Mount<'_> {
        self.mount_with(&[])
    }

    /// Mounts what `overlays.yaml` says and waits until it is known of each git source whether it is pinned.
    pub(crate) fn mount_pinned(&self) -> Mount<'_> {
        let mount = self.mount();
        wait_for("the pins", || {
            let text = self.succeed(&["status", "view", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            let is_known = |source: &serde_json::Value| {
                source["state"] != "ready" || !source["pinned"].is_null()
            };
            status["sources"].as_array().unwrap().iter().all(is_known)
        });
        mount
    }

    /// Mounts with more arguments.
    pub(crate) fn mount_with(&self, arguments: &[&str]) -> Mount<'_> {
        let guard = Mount { sandbox: self };
        let mut all = vec!["mount"];
        all.extend(arguments);
        self.succeed(&all);
        guard
    }

    /// For who mounts by other means: what is mounted goes with the value.
    pub(crate) fn guard(&self) -> Mount<'_> {
        Mount { sandbox: self }
    }

    /// Mounts by a command of the caller's.
    pub(crate) fn mount_by(&self, command: &mut Command) -> Mount<'_> {
        let guard = Mount { sandbox: self };
        assert_success(&command.output().unwrap(), "mount");
        guard
    }

    /// Mounts in the grammar of mount(8)'s helpers.
    pub(crate) fn mount_helper(&self, arguments: &[&str]) -> Mount<'_> {
        let guard = Mount { sandbox: self };
        self.succeed(arguments);
        guard
    }

    /// The mounts of ours that are below the sandbox, as `/proc/self/mountinfo` lists them.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let directory = self.directory.path().canonicalize().unwrap();
        let ours = table.lines().filter(|line| line.contains(directory.to_str().unwrap()));
        ours.map(str::to_owned).collect()
    }
}

fn assert_success(output: &Output, what: &str) {
    assert!(
        output.status.success(),
        "{what}: {}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A mounted view, unmounted and its daemon ended when this goes away, whatever happened.
pub(crate) struct Mount<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Mount<'a> {
    /// Sees to it that nothing stays of what a test mounts by other means.
    pub(crate) fn guard(sandbox: &'a Sandbox) -> Self {
        Self { sandbox }
    }
}

impl Mount<'_> {
    /// The number of the daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        let text = self.sandbox.succeed(&["status", "view", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
    }

    /// Unmounts as a user would. Another test's mount name space, which began as a copy of this one, may hold it for as long as that test
    /// takes.
    pub(crate) fn unmount(self) {
        let output = self.sandbox.overlay(&["unmount", "view"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let held = said.split_once(" has not ended: it may be held in another mount name space");
        if let Some((before, _)) = held {
            let pid = before.rsplit(' ').next().unwrap();
            let place = Path::new("/proc").join(pid);
            wait_for("the end of the daemon", || !place.exists());
        } else {
            assert_success(&output, "unmount view");
        }
        assert_eq!(self.sandbox.mounts(), Vec::<String>::new());
        std::mem::forget(self);
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        for line in self.sandbox.mounts() {
            let fields: Vec<&str> = line.split(' ').collect();
            let minor = fields[2].split(':').nth(1).unwrap();
            if line.contains(" - fuse.overlayfs-mount ") && std::thread::panicking() {
                // A daemon that hangs must not hang those who wait for it. Without the control file system there is nothing to write to.
                let abort = format!("/sys/fs/fuse/connections/{minor}/abort");
                fs::write(abort, "1").unwrap_or_default();
            }
            let status = Command::new("umount").args(["-l", fields[4]]).status();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("{} stays mounted", fields[4]);
            }
        }
    }
}

/// A git repository of a test.
pub(crate) struct Repo<'a> {
    sandbox: &'a Sandbox,
    pub(crate) path: PathBuf,
}

impl Repo<'_> {
    /// Runs git in it, which must succeed, and gives its standard output without the last newline.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output =
            self.sandbox.command("git").current_dir(&self.path).args(arguments).output().unwrap();
        assert_success(&output, &format!("git {arguments:?}"));
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs a shell script in it, which must succeed, and gives its standard output without the last newline.
    pub(crate) fn shell(&self, script: &str) -> String {
        let mut command = self.sandbox.command("sh");
        let output = command.current_dir(&self.path).args(["-euc", script]).output().unwrap();
        assert_success(&output, script);
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Writes a file into the work tree.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Writes an executable file into the work tree.
    pub(crate) fn script(&self, path: &str, content: &str) -> &Self {
        self.write(path, content);
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Makes a link in the work tree.
    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// Makes a package with a marker and one module.
    pub(crate) fn package(&self, path: &str, content: &str) -> &Self {
        self.write(&format!("{path}/pyproject.toml"), format!("[project]\nname = \"{path}\"\n"));
        self.write(&format!("{path}/main.py"), content)
    }

    /// Makes a skill.
    pub(crate) fn skill(&self, name: &str, content: &str) -> &Self {
        self.write(&format!(".agents/skills/{name}/SKILL.md"), content)
    }

    /// Commits the whole work tree and gives the commit's id.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all", "--force"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=test"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

/// Waits for a condition, and fails with `what` if it does not come.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
