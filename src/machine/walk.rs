//! The directories through which the kernel goes to a path.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// Whether `is_it` is true of a directory that has a name on the way to an absolute path. Each is given without links, before anything is
/// looked up in it. What is not there has none below it.
pub fn passes_through(path: &Path, is_it: impl Fn(&Path) -> bool) -> bool {
    let mut left: VecDeque<OsString> =
        path.components().map(|part| part.as_os_str().into()).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        let name = match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => name.to_owned(),
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            Some(Component::RootDir | Component::Prefix(_)) => {
                at = PathBuf::from("/");
                continue;
            }
            Some(Component::CurDir) | None => continue,
        };
        if is_it(&at) {
            return true;
        }
        let next = at.join(name);
        match fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                for part in target.components().rev() {
                    left.push_front(part.as_os_str().into());
                }
            }
            Ok(_) => return true,
            Err(_) => at = next,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_what_they_pass_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        let at = |name: &str| real.join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("open")).unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        };
        link("../open/back", "a/up");
        link("../a/b", "open/back");
        link("a/up", "through");
        link("a/b", "aside");
        link("turning", "turning");
        let passes = |name: &str| passes_through(&at(name), |path| path.starts_with(at("open")));
        for free in ["aside", "aside/x", "a/b", "a/b/none/more", "open", "none/x", "a/../a"] {
            assert!(!passes(free), "{free}");
        }
        for open in ["open/x", "through", "through/x", "a/up", "turning", "a/../open/x"] {
            assert!(passes(open), "{open}");
        }
    }
}
