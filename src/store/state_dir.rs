//! Whose directory it is that a daemon keeps things in.
//!
//! Where everybody may make directories, as in `/tmp`, another user may have made it first, or a link to one of ours: what is kept there could then be exchanged, and what is
//! removed there could be something else.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Uid;

/// Checks that a directory is one, and that nobody else can put another into its place unless he is root (S128).
///
/// # Errors
/// It, or the link that stands for it, belongs to another user; or it cannot be looked at.
pub fn expect_ours(dir: &Path) -> io::Result<()> {
    let (link, found) = (dir.symlink_metadata()?, dir.metadata()?);
    if !found.is_dir() {
        return Err(io::Error::other(format!("`{}` is not a directory", dir.display())));
    }
    let ours = Uid::effective();
    let is_theirs = |owner: &u32| !Uid::from_raw(*owner).is_root() && *owner != ours.as_raw();
    match [link.uid(), found.uid()].into_iter().find(is_theirs) {
        None => Ok(()),
        Some(owner) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "`{}` belongs to user {owner}, not to user {ours}: set `state.dir` to a directory of your own",
                dir.display()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn s128_a_state_directory_of_another_user_is_not_used() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir(at("ours")).unwrap();
        fs::create_dir(at("theirs")).unwrap();
        fs::write(at("file"), "").unwrap();
        for link in ["our link", "their link"] {
            symlink("ours", at(link)).unwrap();
        }
        if !Uid::effective().is_root() {
            eprintln!("SKIPPED: only root can give a directory to another user");
            return;
        }
        lchown(at("theirs"), Some(65534), None).unwrap();
        lchown(at("their link"), Some(65534), None).unwrap();
        for good in ["ours", "our link"] {
            expect_ours(&at(good)).unwrap();
        }
        for bad in ["theirs", "their link"] {
            let error = expect_ours(&at(bad)).unwrap_err().to_string();
            assert!(error.contains("belongs to user 65534, not to user 0"), "{error}");
            assert!(error.contains("set `state.dir`"), "{error}");
        }
        assert!(expect_ours(&at("file")).unwrap_err().to_string().contains("not a directory"));
        assert_eq!(expect_ours(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
