//! How far ahead the kernel reads files of a mount (`Documentation/ABI/testing/sysfs-class-bdi`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is read ahead: as much as one FUSE request can ask for.
const READ_AHEAD_KIB: u32 = 1024;

/// Lets the kernel read files of a FUSE mount, known by its connection, further ahead than the 128 KiB that it begins with.
///
/// # Errors
/// Only root may do it, and only where `/sys` can be written to.
pub fn raise(connection: u32) -> io::Result<()> {
    raise_in(Path::new("/sys/class/bdi"), connection)
}

fn raise_in(devices: &Path, connection: u32) -> io::Result<()> {
    let file = setting(devices, connection);
    let present: u32 = fs::read_to_string(&file)?.trim().parse().map_err(io::Error::other)?;
    // An operator may have asked for more.
    if present >= READ_AHEAD_KIB { Ok(()) } else { fs::write(file, READ_AHEAD_KIB.to_string()) }
}

fn setting(devices: &Path, connection: u32) -> PathBuf {
    // The connection's number is the minor one of its device, the major one is 0.
    devices.join(format!("0:{connection}")).join("read_ahead_kb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_is_raised_and_what_is_more_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert!(raise_in(dir.path(), 44).is_err());
        fs::create_dir(dir.path().join("0:44")).unwrap();
        let file = dir.path().join("0:44/read_ahead_kb");
        for (before, after) in [("128\n", "1024"), ("4096\n", "4096\n")] {
            fs::write(&file, before).unwrap();
            raise_in(dir.path(), 44).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), after);
        }
    }
}
