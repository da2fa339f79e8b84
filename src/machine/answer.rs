//! Whether a mount answers, asked again and again by a process that holds its descriptor and does not serve it.
//!
//! Asked is `statfs(2)`: the kernel keeps no answer to it, and takes no lock that a reader may hold (`fs/fuse/inode.c`).

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use tracing::warn;

/// How often it is asked, and how often it is looked for the answer, in the time that is to be noticed.
const LOOKS: u32 = 10;

/// Asks the mount at a path, and calls `waited` with the time that the answer is out, from `patience` on until it comes. It is counted in
/// looks: a machine that was suspended, or a process that had no time, has not waited. It is asked until the value goes.
///
/// # Errors
/// No thread can be started.
pub fn watch(
    path: &Path,
    patience: Duration,
    waited: impl Fn(Duration) + Send + 'static,
) -> io::Result<Asked> {
    let (is_asking, watched) = (Arc::new(AtomicBool::new(false)), Arc::new(()));
    let pace = patience / LOOKS;
    let (asked, path) = (is_asking.clone(), path.to_owned());
    let [asks, looks_on] = [(); 2].map(|()| Arc::downgrade(&watched));
    let asking = move || {
        if let Err(error) = close_all() {
            warn!(%error, "a worker that answers nobody will not be replaced: no thread may have descriptors of its own (`unshare`)");
            return;
        }
        while is_watched(&asks, pace) {
            asked.store(true, Ordering::Release);
            // Any answer is one.
            let _any = statfs(&path);
            asked.store(false, Ordering::Release);
        }
    };
    thread::Builder::new().name("asking".into()).spawn(asking)?;
    let looking = move || {
        let mut looks = 0;
        while is_watched(&looks_on, pace) {
            looks = if is_asking.load(Ordering::Acquire) { looks + 1 } else { 0 };
            if looks >= LOOKS {
                waited(pace * looks);
            }
        }
    };
    thread::Builder::new().name("looking".into()).spawn(looking)?;
    Ok(Asked { _watched: watched })
}

/// A mount that is asked whether it answers. Without the value nobody asks any more.
#[derive(Debug)]
pub struct Asked {
    _watched: Arc<()>,
}

/// Whether it is, after a while.
fn is_watched(watched: &Weak<()>, pace: Duration) -> bool {
    thread::sleep(pace);
    watched.strong_count() > 0
}

/// Leaves this thread without descriptors. One that waits in the kernel for an answer does not end when its process is killed: the process's
/// descriptors must be closed nevertheless, for there may be no answer before.
fn close_all() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let entries = fs::read_dir("/proc/thread-self/fd")?.flatten();
    let numbers: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers {
        // The one that read the directory is closed already.
        nix::unistd::close(number).unwrap_or_default();
    }
    Ok(())
}

/// Whether a thread of a process is in an uninterruptible wait, as for a disk or a remote file system (`proc_pid_stat(5)`).
pub fn waits_for_disk(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat"));
    threads.filter_map(|thread| stat(thread).ok()).any(|stat| says_disk(&stat))
}

fn says_disk(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    #[test]
    fn what_answers_is_not_waited_for() {
        let (sender, waits) = mpsc::channel();
        let waited = move |_| sender.send(()).unwrap_or_default();
        let _asked = watch(Path::new("/proc"), Duration::from_millis(20), waited).unwrap();
        assert!(waits.recv_timeout(Duration::from_millis(200)).is_err());
    }

    #[test]
    fn who_waits_for_a_disk_is_known_by_its_state() {
        assert!(says_disk("7 (fuser-0) D 1 7 7"));
        assert!(!says_disk("7 (a) D b) S 1 7 7"));
        assert!(!waits_for_disk(u32::MAX));
    }

    /// Stands for a wait for a disk: who has called vfork(2) waits without interruption until its child ends.
    const WAITING: &str = "
import ctypes, os, time
ctypes.CDLL(None).vfork()
print(os.getpid(), flush=True)
time.sleep(60)
";

    #[test]
    fn a_process_that_waits_is_known() {
        let mut command = Command::new("python3");
        let spawned = command.args(["-c", WAITING]).stdout(Stdio::piped()).spawn();
        let Ok(mut waiting) = spawned else {
            eprintln!("SKIPPED: `python3` is not installed");
            return;
        };
        let mut line = String::new();
        io::BufReader::new(waiting.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = nix::unistd::Pid::from_raw(line.trim().parse().unwrap());
        let is_known = waits_for_disk(waiting.id());
        waiting.kill().unwrap();
        nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
        waiting.wait().unwrap();
        assert!(is_known);
        assert!(!waits_for_disk(std::process::id()));
    }
}
