//! What to do about each error of this room, and which check of `doctor` says more.

use std::io::ErrorKind;
use std::path::Path;

use nix::errno::Errno;

use super::{FS_TYPE, MachineError, user};

impl MachineError {
    /// What to do about it, in words to act on.
    pub fn cure(&self) -> Option<String> {
        let cure = match self {
            Self::Device { error } => device_cure(*error).to_owned(),
            Self::MountpointMissing { path } => format!("mkdir -p '{}'", path.display()),
            Self::MountpointNotADirectory { .. } | Self::MountpointUnusable { .. } => {
                "name a directory of yours as mount point".to_owned()
            }
            Self::MountpointTaken { path, .. } => {
                format!("overlayfs-mount unmount '{}'", path.display())
            }
            Self::Mount { error: Errno::EPERM | Errno::EACCES, .. } => {
                "in a container add CAP_SYS_ADMIN and allow `mount` (seccomp, AppArmor), or use \
                 `overlayfs-mount exec` or `export`"
                    .to_owned()
            }
            Self::Forbidden { module, .. } => module.cure(),
            Self::Label { option, lack } => lack.cure(option),
            Self::Labelled { .. } => {
                "name a context that the loaded policy knows, as `-o 'context=\"system_u:object_r:container_file_t:s0\"'` \
                 (`dmesg | grep SELinux` shows what it does not know)"
                    .to_owned()
            }
            Self::Mount { error: Errno::ENODEV, .. } => "modprobe fuse".to_owned(),
            Self::Mount { error: Errno::ENOSYS, .. } => {
                "use Linux 5.10 or newer, and no filter of system calls that takes openat2 or open_tree away, as `RestrictSUIDSGID=yes` of a systemd unit does"
                    .to_owned()
            }
            Self::FusermountMissing => {
                "install the package fuse3, or mount as root with CAP_SYS_ADMIN, or use `overlayfs-mount exec`"
                    .to_owned()
            }
            Self::FusermountUnusable { .. } => {
                "set FUSERMOUNT_PATH to a fusermount3 that may be executed".to_owned()
            }
            Self::Fusermount { message, path, .. } => fusermount_cure(message, path),
            Self::Mount { .. } => "overlayfs-mount doctor".to_owned(),
            Self::NotMounted { .. }
            | Self::Busy { .. }
            | Self::Unmount { .. }
            | Self::StillMounted { .. }
            | Self::StillRunning { .. }
            | Self::Wait { .. }
            | Self::NoConnectionControl { .. }
            | Self::Abort { .. } => return self.cure_of_unmounting(),
            Self::RunDir { .. }
            | Self::Proc { .. }
            | Self::Namespace { .. }
            | Self::Site { .. }
            | Self::Descriptor { .. }
            | Self::Pass { .. }
            | Self::Run { .. }
            | Self::Passthrough { .. }
            | Self::Background { .. }
            | Self::Keeper { .. } => return self.cure_around(),
        };
        Some(cure)
    }

    fn cure_of_unmounting(&self) -> Option<String> {
        let cure = match self {
            Self::NotMounted { .. } => "`overlayfs-mount status` lists what is mounted".to_owned(),
            Self::Busy { path, holders } if holders.is_empty() => {
                let first = if user::has_sys_admin() {
                    "try again"
                } else {
                    "run this as root to see who is using it"
                };
                format!("{first}, or `overlayfs-mount unmount --lazy '{}'`", path.display())
            }
            Self::Busy { path, .. } => format!(
                "end these processes, leave the directory, unmount what is named, or `overlayfs-mount unmount --lazy '{}'`",
                path.display()
            ),
            Self::Unmount { error: Errno::EPERM, .. } => {
                "unmount as the user who mounted, or as root".to_owned()
            }
            Self::StillMounted { path } => {
                format!("overlayfs-mount unmount --lazy '{}'", path.display())
            }
            Self::StillRunning { pid } => {
                format!("kill -CONT {pid}, if it was stopped; else kill -KILL {pid}")
            }
            Self::NoConnectionControl { .. } => {
                "mount -t fusectl fusectl /sys/fs/fuse/connections".to_owned()
            }
            Self::Abort { .. } => "abort as root, or as the user who mounted".to_owned(),
            Self::Unmount { .. } => "overlayfs-mount doctor".to_owned(),
            _ => return None,
        };
        Some(cure)
    }

    /// For what is around a mount.
    fn cure_around(&self) -> Option<String> {
        let cure = match self {
            Self::RunDir { path, .. } => format!(
                "make `{}` a directory of yours with mode 0700, or set OVERLAYFS_MOUNT_RUN_DIR",
                path.display()
            ),
            Self::Proc { .. } => "mount -t proc proc /proc".to_owned(),
            Self::Namespace { obstacle: Some(obstacle), .. } => {
                format!("{}, or use `overlayfs-mount export`", obstacle.cure)
            }
            Self::Namespace { obstacle: None, .. } => {
                "allow user name spaces to this user (not in a chroot, at most 32 deep), or use `overlayfs-mount export`"
                    .to_owned()
            }
            Self::Site { .. } => {
                "name a mount point whose parent exists, as `--at DIR`".to_owned()
            }
            Self::Descriptor { .. } => {
                "give the number of a descriptor of /dev/fuse that was mounted and is not closed when this program is executed"
                    .to_owned()
            }
            Self::Pass { step: "listening", .. } => {
                "name a socket that is not there yet, in a directory that you may write to".to_owned()
            }
            Self::Pass { .. } => {
                "start `overlayfs-mount pass --socket PATH` first, with `--allow-uid` for this user".to_owned()
            }
            Self::Passthrough { .. } => {
                "mount as root, in a container as a privileged one, or leave out `-o passthrough`".to_owned()
            }
            Self::Run { program, .. } if Path::new(program).is_dir() => {
                format!("name a program: `{program}` is a directory")
            }
            Self::Run { program, error, .. } => match error.kind() {
                ErrorKind::NotFound => {
                    format!("install `{program}`, correct its name, or add its directory to PATH")
                }
                ErrorKind::PermissionDenied => {
                    format!("chmod +x '{program}', or name the program that reads it first")
                }
                _ => return None,
            },
            Self::Background { .. } => "run in the foreground with `-f`".to_owned(),
            Self::Keeper { .. } => "mount without `--supervised`".to_owned(),
            _ => return None,
        };
        Some(cure)
    }

    /// The check of `doctor` that says more, if there is one.
    pub fn check(&self) -> Option<&'static str> {
        let check = match self {
            Self::Device { .. } => "device",
            Self::MountpointMissing { .. }
            | Self::MountpointNotADirectory { .. }
            | Self::MountpointTaken { .. }
            | Self::MountpointUnusable { .. } => "mount-point",
            Self::FusermountMissing | Self::FusermountUnusable { .. } => "fusermount",
            Self::Fusermount { message, .. } => fusermount_check(message),
            Self::Forbidden { module, .. } => module.check(),
            Self::Mount { error: Errno::ENOSYS, .. } => "features",
            Self::Label { .. } | Self::Labelled { .. } => "selinux",
            Self::Mount { .. } => "privileges",
            Self::NoConnectionControl { .. } => "connections",
            Self::RunDir { .. } => "run-dir",
            Self::Proc { .. } => "proc",
            Self::Passthrough { .. } => "passthrough",
            Self::Namespace { obstacle, .. } => {
                obstacle.as_ref().map_or("user-namespaces", |obstacle| obstacle.check)
            }
            _ => return None,
        };
        Some(check)
    }
}

fn fusermount_check(message: &str) -> &'static str {
    if message.contains("allow_other") {
        "allow-other"
    } else if message.contains("write access") {
        "mount-point"
    } else if message.contains("/dev/fuse") {
        "device"
    } else if message.contains("mount failed: Permission denied") {
        "apparmor"
    } else {
        "fusermount"
    }
}

/// What helps when `/dev/fuse` cannot be opened.
fn device_cure(error: Errno) -> &'static str {
    match error {
        Errno::ENOENT => "modprobe fuse; in a container pass the device (--device /dev/fuse)",
        Errno::ENODEV | Errno::ENXIO => "modprobe fuse",
        Errno::EACCES => {
            "chmod 0666 /dev/fuse as root (its file system must not be nodev), or mount as root"
        }
        Errno::EPERM => {
            "the device cgroup forbids it: pass the device (--device /dev/fuse, a device plugin) or run privileged"
        }
        _ => "overlayfs-mount doctor",
    }
}

fn fusermount_cure(message: &str, path: &Path) -> String {
    if message.contains("allow_other") {
        "write `user_allow_other` into /etc/fuse.conf, or set `allowOther: false`".to_owned()
    } else if message.contains("has no write access") {
        format!("mount on a directory of yours: `{}` is not writable for you", path.display())
    } else if message.contains("/dev/fuse: Permission denied") {
        device_cure(Errno::EACCES).to_owned()
    } else if message.contains("not found in /etc/mtab") {
        "unmount as the user who mounted, or as root".to_owned()
    } else if message.contains("/etc/mtab") {
        super::fusermount::MTAB_CURE.to_owned()
    } else if message.contains("mount failed: Permission denied") {
        format!(
            "AppArmor may forbid it to fusermount3 (`dmesg | grep DENIED` as root shows it): some profiles of it allow mounts in some directories \
             only; mount below your home, or add `mount fstype={FS_TYPE} -> '{}'/,` to /etc/apparmor.d/local/fusermount3 and load it with \
             `apparmor_parser -r /etc/apparmor.d/fusermount3`",
            path.display()
        )
    } else if message.contains("could not determine username") {
        super::fusermount::NAME_CURE.to_owned()
    } else if message.contains("peration not permitted") {
        "fusermount3 has to be owned by root and setuid, and no_new_privs must be off; in a container add \
         CAP_SYS_ADMIN, or use `overlayfs-mount exec` or `export`"
            .to_owned()
    } else {
        "overlayfs-mount doctor".to_owned()
    }
}
