//! A process that mounts for a confined worker, and takes its word for nothing.
//!
//! A worker names a view, by its file, and a superblock, by its number. Where the view is to be seen this process reads in the file itself,
//! with what the command line says in its place. It goes through no directory that the worker may change, and binds nothing but what is of
//! a superblock of this daemon. So a worker that was taken over can put its own views where the operator wants them, and take them away.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::ViewsPlan;
use super::directory::{files_of, is_view};
use super::group::is_for_others;
use super::holdings::{BoundAs, Holdings};
use super::reading::mountpoint_of;
use super::requests::{DIED, Reply, Request, number_of};
use crate::config::resolved::Config;
use crate::control::ControlError;
use crate::daemon::DaemonError;
use crate::machine::broker::{Line, outlast_signals};
use crate::machine::confinement;
use crate::machine::mountinfo::{Mount, MountTable};
use crate::machine::run_dir::RunDir;
use crate::machine::walk::passes_through;
use crate::sync::Stamp;
use crate::sync::reach::Reach;

/// Mounts for workers until nobody is left who could ask.
///
/// # Errors
/// This process cannot begin, or the line is broken.
pub fn run_broker(plan: &ViewsPlan, line: &Line) -> Result<(), DaemonError> {
    confinement::no_core_dumps();
    outlast_signals()?;
    let run_dir = RunDir::make()?;
    let mut broker = Broker::new(plan.clone(), run_dir.path(), run_dir.views(&plan.dir))?;
    broker.adopt()?;
    let failed = |error| DaemonError::Start { step: "speaking to the worker", error };
    while let Some(message) = line.receive().map_err(failed)? {
        let (id, (reply, device)) = match Request::parse(&message.bytes) {
            Some((id, request)) => (id, broker.answer(&request)),
            None => (number_of(&message.bytes).unwrap_or(DIED), (Reply::not_understood(), None)),
        };
        line.send(&reply.to_bytes(id), device.as_ref().map(AsFd::as_fd)).map_err(failed)?;
    }
    Ok(())
}

/// What tells a worker that who should have answered has died.
pub(in crate::daemon) fn died() -> Vec<u8> {
    Reply::Done.to_bytes(DIED)
}

/// So many different refusals are said in the log.
const SAID_MAX: usize = 1000;

/// What one knows.
struct Broker {
    plan: ViewsPlan,
    holdings: Holdings,
    directory: PathBuf,
    /// How the files looked that were read.
    seen: HashMap<PathBuf, Stamp>,
    /// Where a worker may make and remove files.
    changed: BTreeSet<PathBuf>,
    /// Where it may write to files that are there.
    written: BTreeSet<PathBuf>,
    /// Whether other users may use a superblock, by its number, where this process has mounted it.
    for_others: HashMap<u64, bool>,
    /// What was refused, and is in the log.
    said: BTreeSet<String>,
}

/// Why nothing was done.
struct Refusal {
    message: String,
    cure: Option<String>,
    /// Whether no worker asks for that, as long as it is ours and the operator has not put things where they should not be.
    is_odd: bool,
}

impl From<DaemonError> for Refusal {
    fn from(error: DaemonError) -> Self {
        Self { message: error.to_string(), cure: error.cure(), is_odd: false }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self { message: error.to_string(), cure: error.cure(), is_odd: false }
    }
}

impl Broker {
    fn new(plan: ViewsPlan, run_dir: &Path, directory: PathBuf) -> Result<Self, DaemonError> {
        let holdings = Holdings::new(directory.clone())?;
        let changed = run_dir.canonicalize().into_iter().collect();
        let (seen, written, for_others, said) = Default::default();
        Ok(Self { plan, holdings, directory, seen, changed, written, for_others, said })
    }

    /// Knows what one before has bound, which has died.
    fn adopt(&mut self) -> Result<(), DaemonError> {
        let table = MountTable::read()?;
        let ours: Vec<_> = self.holdings.superblocks()?.into_iter().map(|(_, one)| one).collect();
        let wanted: HashMap<_, _> = files_of(&self.plan.dir)?
            .into_iter()
            .filter_map(|file| {
                let (config, _) = self.plan.load(&file).ok()?;
                Some((mountpoint_of(&config).ok()?, file))
            })
            .collect();
        let mut known = BTreeSet::new();
        let is_bound = |mount: &&Mount| {
            ours.contains(&mount.minor) && !mount.mountpoint.starts_with(&self.directory)
        };
        let (at_home, elsewhere): (Vec<_>, Vec<_>) =
            table.ours().filter(is_bound).partition(|mount| wanted.contains_key(&mount.mountpoint));
        for mount in at_home.into_iter().chain(elsewhere) {
            // Without a name the superblock has one view.
            let name = mount.root.strip_prefix("/").ok().filter(|name| is_view(name));
            let file = name.map(|name| self.plan.dir.join(name));
            let Some(file) = file.or_else(|| wanted.get(&mount.mountpoint).cloned()) else {
                continue;
            };
            if known.insert(file.clone()) {
                let bound = BoundAs { mount_id: mount.id, made: Vec::new() };
                self.holdings.adopt(&file, &mount.mountpoint, bound);
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> (Reply, Option<OwnedFd>) {
        let mut device = None;
        let outcome = match request {
            Request::Clear { but } => {
                self.holdings.clear(but).map_err(Refusal::from).map(|()| None)
            }
            Request::Mount { number, name } => self.mount(*number, name).map(|mounted| {
                device = Some(mounted);
                None
            }),
            Request::Bind { number, name, at } => self.bind(*number, name, at).map(Some),
            Request::Unbind { name } => self.file(name).map(|file| {
                self.holdings.unbind(&file);
                None
            }),
            Request::TakeAway { number } => {
                self.for_others.remove(number);
                self.holdings.take_away(*number).map_err(Refusal::from).map(|()| None)
            }
            Request::Abort { connection } => {
                self.holdings.abort(*connection).map_err(Refusal::from).map(|()| None)
            }
        };
        let reply = match outcome {
            Ok(None) => Reply::Done,
            Ok(Some(bound)) => Reply::Bound(bound),
            Err(Refusal { message, cure, is_odd }) => {
                // It is asked for again and again.
                if is_odd && self.said.len() < SAID_MAX && self.said.insert(message.clone()) {
                    warn!("refused to a worker: {message}");
                }
                Reply::Refused { message, cure }
            }
        };
        (reply, device)
    }

    fn mount(&mut self, number: u64, name: &OsStr) -> Result<OwnedFd, Refusal> {
        let (_, config) = self.read(name)?;
        let is_for_others = is_for_others(&config);
        let device = self.holdings.mount(number, &self.plan, is_for_others)?;
        self.for_others.insert(number, is_for_others);
        Ok(device)
    }

    fn bind(&mut self, number: u64, name: &OsStr, said: &Path) -> Result<BoundAs, Refusal> {
        let (file, config) = self.read(name)?;
        expect_out_of_reach(&config.mount.at, &[&self.changed])?;
        let at = mountpoint_of(&config)?;
        if at != said {
            let (at, said) = (at.display(), said.display());
            return Err(refused(format_args!("its mount point is `{at}`, not `{said}`")));
        }
        if self.for_others.get(&number).is_some_and(|known| *known != is_for_others(&config)) {
            return Err(refused("its superblock has another `mount.allowOther`"));
        }
        let directory = (!config.mount.has_xattrs).then_some(name);
        Ok(self.holdings.bind(&file, number, directory, &at)?)
    }

    /// Reads the configuration of a view, if it is the operator's.
    fn read(&mut self, name: &OsStr) -> Result<(PathBuf, Config), Refusal> {
        let file = self.file(name)?;
        self.learn();
        expect_out_of_reach(&file, &[&self.changed, &self.written])?;
        let (config, _) = self.plan.load(&file)?;
        Ok((file, config))
    }

    /// The file of a view of this directory.
    fn file(&self, name: &OsStr) -> Result<PathBuf, Refusal> {
        let file = self.plan.dir.join(name);
        let is_here = file.file_name() == Some(name) && file.parent() == Some(&self.plan.dir);
        if is_here && is_view(&file) {
            return Ok(file);
        }
        let (name, directory) = (name.display(), self.plan.dir.display());
        Err(refused(format_args!("`{name}` is no file of `{directory}`")))
    }

    /// Looks what is open to a worker, which is what all views lead to, and what they led to before.
    fn learn(&mut self) {
        for file in files_of(&self.plan.dir).unwrap_or_default() {
            let stamp = Stamp::of(&file);
            if self.seen.get(&file) == Some(&stamp) {
                continue;
            }
            let Ok((config, _)) = self.plan.load(&file) else { continue };
            let Reach { lend, write, .. } = Reach::of(&config);
            let is_whole =
                [&config.state.dir, &config.repo_cache.path].iter().all(|path| path.exists());
            self.changed.extend(write);
            self.written.extend(lend);
            // What is not there yet may come.
            if is_whole {
                self.seen.insert(file, stamp);
            }
        }
    }
}

/// A path goes through nothing that a worker decides about: no directory of these, and no view.
fn expect_out_of_reach(path: &Path, open: &[&BTreeSet<PathBuf>]) -> Result<(), Refusal> {
    if confinement::is_off() {
        return Ok(());
    }
    let table = MountTable::read().map_err(DaemonError::from)?;
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

fn refused(message: impl fmt::Display) -> Refusal {
    Refusal { message: message.to_string(), cure: None, is_odd: true }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::resolved::Overrides;

    /// What a broker is told, in a directory of its own.
    struct Told {
        directory: tempfile::TempDir,
        broker: Broker,
    }

    impl Told {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let real = directory.path().canonicalize().unwrap();
            for name in ["views", "run", "run/base", "state", "cache", "at"] {
                fs::create_dir(real.join(name)).unwrap();
            }
            let plan = ViewsPlan {
                dir: real.join("views"),
                forbids_execution: false,
                is_pinned: false,
                has_passthrough: false,
                metrics: None,
                overrides: Overrides::default(),
            };
            let broker = Broker::new(plan, &real.join("run"), real.join("run/base")).unwrap();
            Self { directory, broker }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.directory.path().canonicalize().unwrap().join(name)
        }

        /// Writes a view that is to be seen there.
        fn view(&self, name: &str, at: &str) {
            let text = format!(
                "overlays: {{sources: []}}\nrepoCache: {{path: ../cache}}\nstate: {{dir: ../state}}\nmount: {{at: {at}}}\n"
            );
            fs::write(self.at("views").join(name), text).unwrap();
        }

        /// Asks to have a view bound there, from a superblock that there is not.
        fn bind(&mut self, name: &str, at: &Path) -> String {
            let request = Request::Bind { number: 1, name: name.into(), at: at.to_owned() };
            self.refused(&request)
        }

        fn refused(&mut self, request: &Request) -> String {
            match self.broker.answer(request) {
                (Reply::Refused { message, .. }, None) => message,
                other => panic!("{other:?}"),
            }
        }
    }

    /// What a superblock is refused with that there is not: all else was in order.
    const NO_SUPERBLOCK: &str = "run/base/1";

    #[test]
    fn s122_a_view_is_bound_where_its_file_says_and_nowhere_else() {
        let mut told = Told::new();
        told.view("one.yaml", "../at/one");
        let at = told.at("at/one");
        let said = told.bind("one.yaml", &at);
        assert!(said.contains(NO_SUPERBLOCK), "{said}");
        assert!(!at.exists(), "what was made for it goes with it");
        for other in ["at/two", "at", "etc", "at/one/../one"] {
            let said = told.bind("one.yaml", &told.at(other));
            assert!(said.contains("its mount point is"), "{other}: {said}");
        }
        // What the file says now counts.
        told.view("one.yaml", "../at/other");
        assert!(told.bind("one.yaml", &at).contains("its mount point is"));
    }

    #[test]
    fn s122_what_is_no_view_of_this_daemon_is_refused() {
        let mut told = Told::new();
        told.view("one.yaml", "../at/one");
        told.view(".hidden.yaml", "../at/one");
        told.view("other.txt", "../at/one");
        fs::copy(told.at("views/one.yaml"), told.at("foreign.yaml")).unwrap();
        let (at, foreign) = (told.at("at/one"), told.at("foreign.yaml"));
        for name in
            ["../foreign.yaml", foreign.to_str().unwrap(), ".hidden.yaml", "other.txt", "", ".."]
        {
            let requests = [
                Request::Bind { number: 1, name: name.into(), at: at.clone() },
                Request::Mount { number: 1, name: name.into() },
                Request::Unbind { name: name.into() },
            ];
            for request in requests {
                let said = told.refused(&request);
                assert!(said.contains("is no file of"), "{request:?}: {said}");
            }
        }
        assert!(told.bind("none.yaml", &at).contains("none.yaml"));
        assert!(told.refused(&Request::TakeAway { number: 7 }).contains("run/base/7"));
        assert!(told.refused(&Request::Abort { connection: u32::MAX }).contains("run/base"));
    }

    #[test]
    fn s122_nothing_is_mounted_through_what_a_worker_may_change() {
        let mut told = Told::new();
        // By way of a view's state, of another view's, and of the run directory: once it was open to a worker it stays so.
        told.view("other.yaml", "../at/other");
        let said = told.bind("other.yaml", &told.at("at/other"));
        assert!(said.contains(NO_SUPERBLOCK), "{said}");
        fs::remove_file(told.at("views/other.yaml")).unwrap();
        symlink(told.at("at"), told.at("state/link")).unwrap();
        symlink(told.at("state/link"), told.at("elsewhere")).unwrap();
        let places = ["../state/x", "../state/link/x", "../elsewhere/x", "../run/x"];
        for at in places {
            told.view("one.yaml", at);
            fs::write(
                told.at("views/one.yaml"),
                fs::read_to_string(told.at("views/one.yaml"))
                    .unwrap()
                    .replace("../state}", "../fresh}"),
            )
            .unwrap();
            let said = told.bind("one.yaml", &told.at("at/x"));
            assert!(said.contains("is in reach of the process that serves"), "{at}: {said}");
        }
        // A file that a worker may write to says what it likes.
        fs::write(told.at("cache/file.yaml"), fs::read(told.at("views/one.yaml")).unwrap())
            .unwrap();
        symlink("../cache/file.yaml", told.at("views/linked.yaml")).unwrap();
        let said = told.bind("linked.yaml", &told.at("run/x"));
        assert!(said.contains("linked.yaml` is in reach"), "{said}");
    }

    #[test]
    fn s122_what_stands_in_the_place_of_a_superblock_is_not_bound() {
        let mut told = Told::new();
        told.view("one.yaml", "../at/one");
        fs::create_dir_all(told.at("secret/one.yaml")).unwrap();
        fs::create_dir_all(told.at("run/base/1/one.yaml")).unwrap();
        let at = told.at("at/one");
        let said = told.bind("one.yaml", &at);
        assert!(said.contains("run/base/1`"), "another file system: {said}");
        fs::remove_dir_all(told.at("run/base/1")).unwrap();
        symlink(told.at("secret"), told.at("run/base/1")).unwrap();
        let said = told.bind("one.yaml", &at);
        assert!(said.contains("symbolic link"), "{said}");
        fs::rename(told.at("run/base"), told.at("run/away")).unwrap();
        symlink(told.at("secret"), told.at("run/base")).unwrap();
        let mount = Request::Mount { number: 2, name: "one.yaml".into() };
        for request in [mount, Request::TakeAway { number: 2 }] {
            let said = told.refused(&request);
            assert!(said.contains("run/base"), "{said}");
        }
        assert!(matches!(told.broker.answer(&Request::Clear { but: vec![] }), (Reply::Done, None)));
        let left = fs::read_dir(told.at("secret")).unwrap().count();
        assert_eq!(left, 1, "nothing was made there, or removed");
    }
}
