//! Which program a process is of.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What the kernel appends to the place of a program that is not there any more (`proc_pid_exe(5)`).
const DELETED: &[u8] = b" (deleted)";

/// Whether another program stands now where the one of a process stood. False where that cannot be known.
pub fn was_replaced(process: u32) -> bool {
    let running = PathBuf::from(format!("/proc/{process}/exe"));
    let Ok(place) = fs::read_link(&running) else { return false };
    let Some(place) = place.as_os_str().as_bytes().strip_suffix(DELETED) else { return false };
    let place = PathBuf::from(std::ffi::OsString::from_vec(place.to_vec()));
    let file = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    file(running).zip(file(place)).is_some_and(|(running, there)| running != there)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("program");
        let copy = || {
            let copied = Command::new("cp").arg("/bin/sleep").arg(dir.path().join("new")).status();
            assert!(copied.unwrap().success());
            fs::rename(dir.path().join("new"), &place).unwrap();
        };
        copy();
        let mut process = Command::new(&place).arg("60").spawn().unwrap();
        let before = was_replaced(process.id());
        copy();
        let after = was_replaced(process.id());
        fs::remove_file(&place).unwrap();
        let removed = was_replaced(process.id());
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!((before, after, removed), (false, true, false));
        assert!(!was_replaced(u32::MAX));
    }
}
