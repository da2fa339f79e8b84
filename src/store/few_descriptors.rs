//! For tests of what happens when a process has no descriptors left: that is a process of its own, since others run beside in this one.

use std::env;
use std::process::Command;

/// Set for that process.
const ALONE: &str = "OVERLAYFS_MOUNT_TEST_ALONE";

/// Runs `test` in a process that may have 128 descriptors. `name` is that of the test which calls this, as the harness has it.
pub(crate) fn with_few_descriptors(name: &str, test: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return test();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 128 && exec \"$0\" --exact \"$1\" --nocapture"]);
    command.arg(env::current_exe().unwrap()).arg(name).env(ALONE, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}
