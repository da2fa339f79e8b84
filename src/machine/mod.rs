//! What this machine does for a mount: the kernel's mount calls, who holds a mount, name spaces, the background.
//!
//! Knows nothing of sources, snapshots or the view, and uses no other room. Nothing here reads a file of a mounted view from the process
//! that may serve it: the one operation that has to ask a mount ([`stale::probe`]) does so in a process of its own, with a deadline.

pub mod answer;
pub mod background;
pub mod bind;
pub mod broker;
pub mod command;
pub mod confinement;
pub mod connections;
pub mod courier;
mod cure;
pub mod cut_files;
pub mod descriptor;
pub mod doctor;
pub mod dying;
pub mod error;
pub mod exit;
pub mod fusermount;
pub mod holders;
pub mod inherited;
pub mod inside;
pub mod keeper;
pub mod kernel;
pub mod labels;
pub mod lacking;
pub mod lsm;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod mountpoint;
pub mod namespace;
pub mod oom;
pub mod pass;
pub mod passthrough;
pub mod private_mounts;
pub mod processor;
pub mod program;
pub mod read_ahead;
pub mod run_dir;
pub mod selinux;
pub mod signal_stacks;
pub mod site;
pub mod stale;
pub mod threads;
pub mod unmount;
pub mod user;
pub mod walk;
pub mod worker;

pub use error::MachineError;

#[cfg(test)]
mod mount_tests;

/// The file system type that the kernel shows for our mounts.
pub const FS_TYPE: &str = "fuse.overlayfs-mount";
/// The part of [`FS_TYPE`] after `fuse.`, as `fusermount3` wants it.
pub const FS_SUBTYPE: &str = "overlayfs-mount";
