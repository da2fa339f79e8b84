//! What the configuration takes from the process. It is passed as a value, so that the same file and the same value always give the same
//! configuration.

use std::env;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Where a user's configuration is looked for when nothing else is said.
const SYSTEM_CONFIG: &str = "/etc/overlayfs-mount/overlays.yaml";

/// The variable that names the configuration's file, where no option does.
pub const CONFIG_VARIABLE: &str = "OVERLAYFS_MOUNT_CONFIG";

/// The part of a process's environment that configuration depends on.
///
/// A variable that is set but empty counts as not set, as the XDG specification wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The effective user.
    pub uid: u32,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_STATE_HOME`; counts only if absolute.
    pub xdg_state_home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`; counts only if absolute.
    pub xdg_config_home: Option<PathBuf>,
    /// `$OVERLAYFS_MOUNT_CONFIG`.
    pub config: Option<PathBuf>,
    /// The configuration of the whole machine.
    pub system_config: PathBuf,
    /// The directory for temporary files.
    pub temp_dir: PathBuf,
}

impl Environment {
    /// Takes what this process has.
    pub fn of_process() -> Self {
        let path = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let absolute = |name| path(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            // Of one that was removed nothing is found, and nothing else may be.
            cwd: env::current_dir().unwrap_or_else(|_| PathBuf::from("/proc/self/cwd")),
            home: absolute("HOME"),
            xdg_state_home: absolute("XDG_STATE_HOME"),
            xdg_config_home: absolute("XDG_CONFIG_HOME"),
            config: path(CONFIG_VARIABLE).map(PathBuf::from),
            system_config: PathBuf::from(SYSTEM_CONFIG),
            temp_dir: env::temp_dir(),
        }
    }

    /// The directory for state that the configuration does not name: of the machine for root, else of the user; a
    /// temporary one where there is no home.
    pub fn state_dir(&self) -> PathBuf {
        if self.uid == 0 {
            return PathBuf::from("/var/lib/overlayfs-mount");
        }
        let home = self.home.as_ref().map(|home| home.join(".local/state"));
        match self.xdg_state_home.clone().or(home) {
            Some(dir) => dir.join("overlayfs-mount"),
            // Not the run directory, which nobody else may look into.
            None => self.temp_dir.join(format!("overlayfs-mount-state-{}", self.uid)),
        }
    }

    /// Where a configuration is looked for, in order, when neither an option nor `$OVERLAYFS_MOUNT_CONFIG` names one.
    pub fn config_candidates(&self) -> Vec<PathBuf> {
        let home = self.home.as_ref().map(|home| home.join(".config"));
        let user = self.xdg_config_home.clone().or(home);
        let mut candidates = vec![self.cwd.join("overlays.yaml")];
        candidates.extend(user.map(|dir| dir.join("overlayfs-mount/overlays.yaml")));
        candidates.push(self.system_config.clone());
        candidates
    }
}

/// The path without `.` and, as far as names alone can tell, `..`.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fixture::environment;

    #[test]
    fn state_lives_where_the_user_may_write() {
        let user = environment("/w");
        let state = |env: Environment| env.state_dir().display().to_string();
        assert_eq!(state(user.clone()), "/home/u/.local/state/overlayfs-mount");
        assert_eq!(
            state(Environment { xdg_state_home: Some("/s".into()), ..user.clone() }),
            "/s/overlayfs-mount"
        );
        assert_eq!(
            state(Environment { home: None, ..user.clone() }),
            "/tmp/overlayfs-mount-state-1000"
        );
        assert_eq!(state(Environment { uid: 0, ..user }), "/var/lib/overlayfs-mount");
    }

    #[test]
    fn paths_are_normalized_by_name() {
        for (path, normal) in [("/a/./b/../c", "/a/c"), ("/..", "/"), ("/a/", "/a")] {
            assert_eq!(normalize(Path::new(path)), Path::new(normal));
        }
    }
}
