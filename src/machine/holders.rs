//! Who holds a mount: processes with a working directory, a root, a program, an open file or a mapping in it.
//!
//! Found by what `/proc` says about the process (`proc_pid_fd(5)`, `proc_pid_maps(5)`), never by asking the mount: it may be dead.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::MachineError;
use super::mountinfo::MountTable;

/// The most holders that a message names.
const NAMED: usize = 10;

/// Something that holds a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// By what.
    pub hold: Hold,
    /// The path that is held.
    pub path: PathBuf,
    /// The process; `None` for a mount.
    pub process: Option<HolderProcess>,
}

/// The process that holds a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderProcess {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as the kernel has it: at most 15 bytes.
    pub program: String,
}

/// By what a mount is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A working directory.
    WorkingDirectory,
    /// The root directory of a process.
    Root,
    /// The program that a process runs.
    Program,
    /// An open file or directory.
    OpenFile,
    /// A mapped file.
    Mapping,
    /// Another mount on a directory of this one.
    Mount,
    /// A bind mount of this one, or of a part of it.
    Copy,
}

impl Hold {
    fn words(self) -> &'static str {
        match self {
            Self::WorkingDirectory => "working directory",
            Self::Root => "root directory",
            Self::Program => "program",
            Self::OpenFile => "open file",
            Self::Mapping => "mapped file",
            Self::Mount => "mount",
            Self::Copy => "bind mount",
        }
    }
}

/// Shows ``sleep (pid 42): working directory `/mnt/tools` ``.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(HolderProcess { pid, program }) = &self.process {
            write!(f, "{program} (pid {pid}): ")?;
        }
        write!(f, "{} `{}`", self.hold.words(), self.path.display())
    }
}

/// The end of a sentence that names holders.
pub(super) fn list(holders: &[Holder]) -> String {
    let named: Vec<_> = holders.iter().take(NAMED).map(ToString::to_string).collect();
    match holders.len() {
        0 => String::new(),
        count if count > NAMED => format!(" by {} and {} more", named.join(", "), count - NAMED),
        _ => format!(" by {}", named.join(", ")),
    }
}

/// Finds the holders of the topmost mount on `path`, as far as this user may look into processes.
///
/// Looks for at most `patience`: a process that hangs can make its maps unreadable. What was found until then is returned.
pub fn find(path: &Path, patience: Duration) -> Vec<Holder> {
    let Ok(table) = MountTable::read() else { return Vec::new() };
    let Some(mount) = table.topmost_at(path) else { return Vec::new() };
    let mut holders: Vec<_> = table
        .children(mount)
        .map(|child| Holder { hold: Hold::Mount, path: child.mountpoint.clone(), process: None })
        .collect();
    let search =
        Search { path: path.to_owned(), mount_id: mount.id, name_space: name_space("self") };
    let (sender, receiver) = mpsc::channel();
    let searching = thread::Builder::new().name("holders".to_owned()).spawn(move || {
        for pid in pids() {
            for holder in search.holds_of(pid) {
                if sender.send(holder).is_err() {
                    return;
                }
            }
        }
    });
    if searching.is_err() {
        return holders;
    }
    let deadline = Instant::now() + patience;
    while let Ok(holder) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        holders.push(holder);
    }
    holders
}

/// Who would go on with the file system of the topmost mount on `path` if that were unmounted: bind mounts of it.
///
/// # Errors
/// There are some.
pub fn refuse_copies(path: &Path) -> Result<(), MachineError> {
    let table = MountTable::read()?;
    let Some(mount) = table.topmost_at(path).filter(|mount| mount.is_ours()) else { return Ok(()) };
    let copies = table.copies(mount).map(|copy| Holder {
        hold: Hold::Copy,
        path: copy.mountpoint.clone(),
        process: None,
    });
    let holders: Vec<_> = copies.collect();
    if holders.is_empty() {
        return Ok(());
    }
    Err(MachineError::Busy { path: path.to_owned(), holders })
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn name_space(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// What is searched for.
struct Search {
    path: PathBuf,
    mount_id: u64,
    name_space: Option<PathBuf>,
}

impl Search {
    fn holds_of(&self, pid: u32) -> Vec<Holder> {
        // A process of another name space holds its own copy of the mount, which does not keep ours.
        if name_space(&pid.to_string()) != self.name_space {
            return Vec::new();
        }
        let mut found: Vec<_> =
            [("cwd", Hold::WorkingDirectory), ("root", Hold::Root), ("exe", Hold::Program)]
                .into_iter()
                .filter_map(|(link, hold)| {
                    Some((hold, self.held_by_link(&format!("/proc/{pid}/{link}"))?))
                })
                .collect();
        found.extend(self.open_files(pid).into_iter().map(|path| (Hold::OpenFile, path)));
        found.extend(self.mappings(pid).into_iter().map(|path| (Hold::Mapping, path)));
        if found.is_empty() {
            return Vec::new();
        }
        let program = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let program = String::from_utf8_lossy(program.trim_ascii()).into_owned();
        let process = HolderProcess { pid, program };
        let holder = |(hold, path)| Holder { hold, path, process: Some(process.clone()) };
        found.into_iter().map(holder).collect()
    }

    fn held_by_link(&self, link: &str) -> Option<PathBuf> {
        fs::read_link(link).ok().filter(|target| target.starts_with(&self.path))
    }

    fn open_files(&self, pid: u32) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
        let mut found = Vec::new();
        for number in entries.flatten().map(|entry| entry.file_name()) {
            let number = number.to_string_lossy();
            let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{number}")) else { continue };
            let mount_id = mount_id(&format!("/proc/{pid}/fdinfo/{number}"));
            let is_held = match mount_id {
                Some(mount_id) => mount_id == self.mount_id,
                None => target.starts_with(&self.path),
            };
            if is_held {
                found.push(target);
            }
        }
        found
    }

    fn mappings(&self, pid: u32) -> Vec<PathBuf> {
        let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else { return Vec::new() };
        let mut seen = HashSet::new();
        maps.split(|&byte| byte == b'\n')
            .filter_map(|line| line.iter().position(|&byte| byte == b'/').map(|at| &line[at..]))
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .filter(|path| path.starts_with(&self.path) && seen.insert(path.clone()))
            .collect()
    }
}

fn mount_id(fdinfo: &str) -> Option<u64> {
    let text = fs::read_to_string(fdinfo).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        let holder = |pid| Holder {
            hold: Hold::WorkingDirectory,
            path: "/m".into(),
            process: Some(HolderProcess { pid, program: "sleep".to_owned() }),
        };
        assert_eq!(list(&[]), "");
        assert_eq!(list(&[holder(7)]), " by sleep (pid 7): working directory `/m`");
        assert!(list(&(0..12).map(holder).collect::<Vec<_>>()).ends_with("and 2 more"));
    }
}
