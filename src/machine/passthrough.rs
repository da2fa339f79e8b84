//! Whether the kernel may be given files to read by itself (FUSE passthrough).

use std::path::Path;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, statfs};

use super::{MachineError, user};

/// How many file systems may lie on each other with a view at the top (`s_stack_depth`, `fs/fuse/backing.c`). The kernel knows at most 2,
/// and a file system that uses both cannot be a layer of an overlayfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackDepth(pub u32);

/// Whether this process may let the kernel read files of a directory by itself.
///
/// # Errors
/// It lacks `CAP_SYS_ADMIN` in the first user name space, which the kernel asks for.
pub fn allowed(directory: &Path) -> Result<StackDepth, MachineError> {
    if !user::has_sys_admin() {
        return Err(MachineError::Passthrough { lack: "this user has no CAP_SYS_ADMIN" });
    }
    if !user::is_in_first_namespace() {
        let lack = "CAP_SYS_ADMIN counts only in the first user name space";
        return Err(MachineError::Passthrough { lack });
    }
    Ok(stack_depth(directory))
}

/// The depth that files in a directory need, which may not exist yet.
fn stack_depth(directory: &Path) -> StackDepth {
    let found = directory.ancestors().find_map(|path| statfs(path).ok());
    let is_stacked = found.is_some_and(|found| {
        [OVERLAYFS_SUPER_MAGIC, FUSE_SUPER_MAGIC].contains(&found.filesystem_type())
    });
    StackDepth(if is_stacked { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_judged_by_the_one_above() {
        let dir = tempfile::tempdir().unwrap();
        let expected = stack_depth(dir.path());
        assert_eq!(stack_depth(&dir.path().join("a/b")), expected);
        assert_eq!(stack_depth(Path::new("/proc/none")), StackDepth(1));
    }
}
