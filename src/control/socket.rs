//! Where a control socket is: a file, or a name of the kernel (unix(7), abstract), which is written with an `@` before it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{self as calls, AddressFamily, SockFlag, SockType, UnixAddr};
use nix::sys::socket::{getsockopt, setsockopt};
use nix::sys::time::TimeVal;

fn address(socket: &Path) -> io::Result<SocketAddr> {
    match socket.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

/// Whether it is no file.
pub(super) fn is_abstract(socket: &Path) -> bool {
    socket.as_os_str().as_bytes().starts_with(b"@")
}

/// Connects to whoever listens, within `patience`: one that lets others wait lets this process wait too.
pub(super) fn connect(socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let to = match socket.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(socket)?,
    };
    let stream =
        calls::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // socket(7): it holds for connecting too. None at all would mean for ever.
    let patience = patience.max(Duration::from_millis(1)).as_micros();
    let micros = i64::try_from(patience).unwrap_or(i64::MAX);
    let timeout = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
    setsockopt(&stream, SendTimeout, &timeout)?;
    calls::connect(stream.as_raw_fd(), &to)?;
    Ok(stream.into())
}

/// The process that listens at the other end, and its user. None of this process's name space is 0.
pub(super) fn listener(stream: &UnixStream) -> io::Result<(u32, u32)> {
    let peer = getsockopt(stream, PeerCredentials).map_err(io::Error::from)?;
    Ok((u32::try_from(peer.pid()).unwrap_or_default(), peer.uid()))
}

/// Listens.
pub(super) fn bind(socket: &Path) -> io::Result<UnixListener> {
    UnixListener::bind_addr(&address(socket)?)
}

/// Whether who has connected is this user, or root. To an abstract socket everybody on the machine can connect, and where this process is in
/// a user name space all users that it does not have look like one (`user_namespaces(7)`): there it must be a process that this one may look into.
pub(super) fn is_permitted(stream: &UnixStream) -> io::Result<bool> {
    let peer = getsockopt(stream, PeerCredentials).map_err(io::Error::from)?;
    let is_file = stream.local_addr()?.as_pathname().is_some();
    let may_look = || fs::read_link(format!("/proc/{}/ns/user", peer.pid())).is_ok();
    let is_known = peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw();
    Ok(is_known && (is_file || may_look()))
}
