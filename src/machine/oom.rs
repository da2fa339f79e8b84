//! Processes that the kernel killed for lack of memory, where this process lives.
//!
//! Its control group counts them: `oom_kill` in `memory.events` (`Documentation/admin-guide/cgroup-v2.rst`), or in `memory.oom_control` of the
//! first version. The kernel counts before it kills, so that whoever sees the death sees the count.

use std::fs;
use std::path::{Path, PathBuf};

use super::mountinfo::{Mount, MountTable};

/// Counts those of the whole machine.
const OF_MACHINE: &str = "/proc/vmstat";
const CGROUPS: &str = "/proc/self/cgroup";
const KEY: &str = "oom_kill";

/// Counts processes that were killed for lack of memory.
#[derive(Debug)]
pub struct OomKills {
    file: PathBuf,
    last: Option<u64>,
}

impl OomKills {
    /// Counts from now on: in the control group of this process, or on the whole machine where that group does not count.
    pub fn from_now_on() -> Self {
        let cgroups = fs::read_to_string(CGROUPS).unwrap_or_default();
        let mounts = MountTable::read().unwrap_or_default();
        let files = counters(&cgroups, mounts.mounts()).into_iter().chain([OF_MACHINE.into()]);
        let counting = files.map(|file| Self { last: count(&file), file });
        let found = counting.into_iter().find(|counting| counting.last.is_some());
        found.unwrap_or_else(|| Self { file: OF_MACHINE.into(), last: None })
    }

    /// Whether there was one since this was asked last.
    pub fn is_new(&mut self) -> bool {
        let now = count(&self.file);
        let before = std::mem::replace(&mut self.last, now);
        // A process that was moved to another group, or a kernel that does not count, tells nothing.
        matches!((before, now), (Some(before), Some(now)) if now > before)
    }
}

fn count(file: &Path) -> Option<u64> {
    counted(&fs::read_to_string(file).ok()?)
}

fn counted(text: &str) -> Option<u64> {
    let mut words = text.lines().filter_map(|line| line.split_once(' '));
    words.find(|(key, _)| *key == KEY).and_then(|(_, count)| count.trim().parse().ok())
}

/// The files in which the control groups of a process may count.
fn counters(cgroups: &str, mounts: &[Mount]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (fs_type, file) = match controllers {
            "" => ("cgroup2", "memory.events"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("cgroup", "memory.oom_control")
            }
            _ => continue,
        };
        for mount in mounts.iter().filter(|mount| mount.fs_type == fs_type) {
            // In a container the mount may show nothing but the group itself.
            if let Ok(below) = Path::new(path).strip_prefix(&mount.root) {
                found.push(mount.mountpoint.join(below).join(file));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_that_counts_is_found_and_its_count_is_read() {
        let first = MountTable::parse(
            b"30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
              31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
              32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        let found = counters("4:memory:/a/b\n3:cpu:/\n0::/c\n", first.mounts());
        let names: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/sys/fs/cgroup/cpu/a/b/memory.oom_control",
                "/sys/fs/cgroup/memory/a/b/memory.oom_control",
                "/sys/fs/cgroup/unified/c/memory.events"
            ]
        );
        let second =
            MountTable::parse(b"40 25 0:28 /kubepods/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        let found = counters("0::/kubepods/x/y\n", second.mounts());
        assert_eq!(found, [Path::new("/sys/fs/cgroup/y/memory.events")]);
        assert_eq!(counters("0::/elsewhere\n", second.mounts()), [] as [&Path; 0]);
        assert_eq!(counted("oom 9\noom_kill 3\noom_group_kill 1\n"), Some(3));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"), Some(4));
        assert_eq!(counted("low 0\n"), None);
    }

    #[test]
    fn only_what_is_new_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        let write = |count: u64| fs::write(&file, format!("oom_kill {count}\n")).unwrap();
        write(1);
        let mut kills = OomKills { last: count(&file), file: file.clone() };
        assert!(!kills.is_new());
        write(2);
        assert!(kills.is_new() && !kills.is_new());
        fs::remove_file(&file).unwrap();
        assert!(!kills.is_new());
        write(9);
        assert!(!kills.is_new());
    }

    #[test]
    fn this_machine_counts() {
        let counting = OomKills::from_now_on();
        assert!(counting.last.is_some(), "{counting:?}");
    }
}
