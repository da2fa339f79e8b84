//! The lock of the repo cache, which whoever keeps the cache holds for a round.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::cycle::{RoundError, RoundSettings};
use super::fetch::FetchCause;

/// The file in the cache whose lock a round holds.
const LOCK: &str = ".overlayfs-mount-sync.lock";
/// How often a lock that another holds is tried again.
const LOCK_TICK: Duration = Duration::from_millis(100);

/// Locks the cache, once others are done with it.
pub(super) fn lock(cache: &Path, settings: &RoundSettings) -> Result<Flock<File>, RoundError> {
    let place = cache.join(LOCK);
    let failed = |error: &std::io::Error| {
        let cause = FetchCause::of_cache(cache, error);
        let cure = cause.cure("", Path::new(""));
        RoundError::Cache { cause, cure }
    };
    std::fs::create_dir_all(cache).map_err(|error| failed(&error))?;
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&place);
    let mut file = open.map_err(|error| failed(&error))?;
    let deadline = Instant::now() + settings.lock_timeout;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Only for those who wait; a full disk is no reason not to fetch.
                let note = format!("{}\n", std::process::id());
                let told = lock.set_len(0).and_then(|()| lock.write_all(note.as_bytes()));
                told.unwrap_or_default();
                return Ok(lock);
            }
            Err((unlocked, nix::errno::Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, errno)) => return Err(failed(&errno.into())),
        }
        if Instant::now() >= deadline || settings.stop.wait(LOCK_TICK) {
            let mut pid = String::new();
            file.rewind().and_then(|()| file.read_to_string(&mut pid)).unwrap_or_default();
            let pid = pid.trim();
            let holder = if pid.is_empty() {
                "another process".to_owned()
            } else {
                format!("process {pid}, or a `git` that it left")
            };
            return Err(RoundError::Locked { cache: cache.to_owned(), holder });
        }
    }
}
