//! An environment to read configurations in, for tests and fuzzers.

use std::path::PathBuf;

use super::environment::Environment;

/// The environment of an ordinary user in `cwd`.
pub(super) fn environment(cwd: &str) -> Environment {
    Environment {
        uid: 1000,
        cwd: PathBuf::from(cwd),
        home: Some(PathBuf::from("/home/u")),
        xdg_state_home: None,
        xdg_config_home: None,
        config: None,
        system_config: PathBuf::from("/nowhere/overlays.yaml"),
        temp_dir: PathBuf::from("/tmp"),
    }
}
