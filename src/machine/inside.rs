//! The control sockets of the views that `exec` has around its command.
//!
//! Such a socket is a name of the kernel and no file (unix(7), abstract): nothing of it is seen outside, it needs no directory that can be
//! written to, and it goes with its daemon, however that ends. The command learns it from a variable. Whoever lists all sockets of the machine
//! sees it too, so that who asks is looked at (`control::server`).

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use super::run_dir::file_name;

/// Names the control sockets of the views around this process, the innermost first, separated by colons.
pub const VARIABLE: &str = "OVERLAYFS_MOUNT_EXEC_SOCKETS";
/// What a path begins with that is none, but a name of the kernel: as `ss` and `/proc/net/unix` write it.
const MARK: u8 = b'@';
const RANDOM_BYTES: usize = 16;

/// The sockets of the views around this process, the innermost first.
pub fn sockets() -> Vec<PathBuf> {
    let said = env::var_os(VARIABLE).unwrap_or_default();
    let names = said.as_bytes().split(|byte| *byte == b':');
    names
        .filter(|name| name.first() == Some(&MARK))
        .map(|name| OsStr::from_bytes(name).into())
        .collect()
}

/// The socket on which a view around this process listens that is mounted there.
pub fn find_socket(mountpoint: &Path) -> Option<PathBuf> {
    sockets().into_iter().filter(|socket| is_of(socket, mountpoint)).find(|socket| {
        // What a command left behind remembers a socket that is gone.
        address(socket).and_then(|address| UnixStream::connect_addr(&address)).is_ok()
    })
}

/// The socket on which this process, the daemon of `exec`, is to listen.
pub fn own_socket(mountpoint: &Path) -> Option<PathBuf> {
    sockets().into_iter().next().filter(|socket| is_of(socket, mountpoint))
}

/// The value of [`VARIABLE`] for a view inside those that are around this process.
///
/// # Errors
/// There are no random bytes to be had.
pub fn with_another(mountpoint: &Path) -> io::Result<OsString> {
    let mut random = [0; RANDOM_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let number = u128::from_ne_bytes(random);
    let name = format!("@overlayfs-mount/{number:032x}/{}", file_name(mountpoint));
    let all = [PathBuf::from(name)].into_iter().chain(sockets());
    let all: Vec<_> = all.map(|path| path.into_os_string().into_vec()).collect();
    Ok(OsString::from_vec(all.join(&b':')))
}

fn address(socket: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(&socket.as_os_str().as_bytes()[1..])
}

fn is_of(socket: &Path, mountpoint: &Path) -> bool {
    socket.file_name().is_some_and(|name| name == OsStr::new(&file_name(mountpoint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_for_its_mount_point_and_cannot_be_guessed() {
        let (at, other) = (Path::new("/home/agent/github"), Path::new("/home/agent-github"));
        let (one, two) = (with_another(at).unwrap(), with_another(at).unwrap());
        assert_ne!(one, two);
        let socket = Path::new(&one);
        assert!(is_of(socket, at) && !is_of(socket, other), "{one:?}");
        let long = with_another(Path::new(&"/long".repeat(1000))).unwrap();
        assert!(address(Path::new(&long)).is_ok());
    }
}
