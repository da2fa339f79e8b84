//! Control groups, in which processes lack what they have elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

/// What limits the processes of a group.
pub(crate) struct Controller {
    pub(crate) name: &'static str,
    /// Where groups are, of either version of them, and the file of the limit.
    pub(crate) limits: [(&'static str, &'static str); 2],
}

/// A control group that goes with the value.
pub(crate) struct Group {
    place: PathBuf,
    limit: &'static str,
}

impl Group {
    /// Makes one, below either version of control groups; nothing, loudly, where none can be made. In CI it must be.
    pub(crate) fn make(name: &str, controller: &Controller) -> Option<Self> {
        let name = format!("overlayfs-mount-it-{name}-{}", std::process::id());
        let mut said = Vec::new();
        for (root, limit) in controller.limits {
            let group = Self { place: Path::new(root).join(&name), limit };
            match fs::create_dir(&group.place) {
                Ok(()) if group.file(limit).exists() => return Some(group),
                Ok(()) => said.push(format!("{root}: no {limit} in a new group")),
                Err(error) => said.push(format!("{root}: {error}")),
            }
        }
        let need = format!(
            "root, and a control group with the {} controller that one can be made below",
            controller.name
        );
        assert!(std::env::var_os("CI").is_none(), "needed: {need}: {said:?}");
        eprintln!("SKIPPED: limits of a control group: needed: {need}: {said:?}");
        None
    }

    /// A file of it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Sets the limit.
    pub(crate) fn set(&self, limit: u64) {
        fs::write(self.file(self.limit), limit.to_string()).unwrap();
    }

    /// A shell in it; what follows is its script.
    pub(crate) fn enter(&self, script: &str) -> String {
        format!("echo $$ >{}/cgroup.procs; {script}", self.place.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.place).is_ok() || !self.place.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
