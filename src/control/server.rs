//! The daemon's side of the control socket.
//!
//! A thread accepts, and one more thread answers each connection, up to a limit. Everything that a client sends or leaves out is bounded in
//! size and time, so that no client can keep the daemon from others.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use serde::Serialize;

use super::protocol::{ControlRefusal, ControlReply, ControlRequest, REQUEST_MAX, ReloadReport};
use super::status::Status;
use super::{ControlError, socket};

/// The most connections that are answered at a time.
const CONNECTIONS_MAX: usize = 16;
/// How long a client may take to send its request, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a daemon can be asked. Called from several threads at once.
pub trait Operator: Send + Sync + 'static {
    /// What it shows, and how its sources are.
    fn status(&self) -> Status;

    /// Reads configuration and refs anew; returns when every new look-up sees the result.
    ///
    /// # Errors
    /// The new configuration is wrong or cannot be shown; the old view stays.
    fn reload(&self) -> Result<ReloadReport, ControlError>;

    /// Has the program that is on disk now take over. Returns only if that failed: in the good case this process is ended.
    fn upgrade(&self) -> ControlError;

    /// Why a path of the view, relative to its root, shows what it shows.
    ///
    /// # Errors
    /// It is no path.
    fn explain(&self, path: &[u8]) -> Result<serde_json::Value, ControlError>;
}

/// A control socket that is answered until this is dropped.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    /// Device and inode of the socket where it is a file, to remove no other one.
    identity: Option<(u64, u64)>,
    listener: Arc<UnixListener>,
    is_stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Makes a socket of mode 0600 and answers on it. `socket` is absolute, in a directory that only this user can write to, or abstract
    /// (`socket`). A socket that a daemon left behind is replaced.
    ///
    /// # Errors
    /// Another daemon listens there, or the socket cannot be made.
    pub fn start(socket: &Path, operator: Arc<dyn Operator>) -> Result<Self, ControlError> {
        let failed = |error| ControlError::Listen { socket: socket.to_owned(), error };
        let (listener, identity) = if socket::is_abstract(socket) {
            (socket::bind(socket).map_err(failed)?, None)
        } else {
            refuse_if_live(socket)?;
            let (listener, identity) = listen(socket).map_err(failed)?;
            (listener, Some(identity))
        };
        let listener = Arc::new(listener);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let accepting = thread::Builder::new().name("control".to_owned()).spawn({
            let (listener, is_stopping) = (listener.clone(), is_stopping.clone());
            move || accept(&listener, &is_stopping, &operator)
        });
        let accepting = Some(accepting.map_err(failed)?);
        Ok(Self { socket: socket.to_owned(), identity, listener, is_stopping, accepting })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        // Wakes the accepting thread (unix(7) has no other way without a signal). Should it fail, the thread is left to itself.
        let is_woken = shutdown(self.listener.as_raw_fd(), Shutdown::Both).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| is_woken) {
            accepting.join().unwrap_or_default();
        }
        if self.identity.is_some() && identity(&self.socket).ok() == self.identity {
            fs::remove_file(&self.socket).unwrap_or_default();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn refuse_if_live(socket: &Path) -> Result<(), ControlError> {
    let failed = |error| ControlError::Listen { socket: socket.to_owned(), error };
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed(io::Error::other("something else is there")));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(socket) {
        Ok(_) => Err(ControlError::InUse { socket: socket.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// So long a socket may have its first name. That takes a moment, even where nothing can be done for a while.
const UNFINISHED_MAX: Duration = Duration::from_secs(60);

/// Removes what daemons of this mount have left that were killed between the two steps of [`listen`]. What cannot be removed stays.
fn remove_unfinished(socket: &Path) {
    let (Some(directory), Some(stem)) = (socket.parent(), socket.file_stem()) else { return };
    let is_left = |path: &Path| {
        let is_number = |ending: &OsStr| ending.as_bytes().iter().all(u8::is_ascii_digit);
        let found = fs::symlink_metadata(path).ok();
        let age = found.filter(|found| found.file_type().is_socket());
        let age = age.and_then(|found| found.modified().ok()?.elapsed().ok());
        path.file_stem() == Some(stem)
            && path.extension().is_some_and(is_number)
            && age.is_some_and(|age| age > UNFINISHED_MAX)
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for left in entries.map(|entry| entry.path()).filter(|path| is_left(path)) {
        fs::remove_file(left).unwrap_or_default();
    }
}

/// Binds under another name and renames, so that the socket is never there with a wider mode and replaces a dead one in one step.
fn listen(socket: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    remove_unfinished(socket);
    let unfinished = socket.with_extension(format!("{}", std::process::id()));
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&unfinished)?;
    let finished = fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&unfinished, socket))
        .and_then(|()| identity(socket));
    match finished {
        Ok(identity) => Ok((listener, identity)),
        Err(error) => {
            fs::remove_file(&unfinished).unwrap_or_default();
            Err(error)
        }
    }
}

fn accept(listener: &UnixListener, is_stopping: &AtomicBool, operator: &Arc<dyn Operator>) {
    let open = Arc::new(AtomicUsize::new(0));
    while !is_stopping.load(Ordering::Acquire) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if is_stopping.load(Ordering::Acquire) => return,
            Err(error) => {
                // Out of descriptors, most likely: others must end before it gets better.
                tracing::warn!(%error, "control socket: a connection cannot be accepted");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let Some(slot) = Slot::take(&open) else {
            refuse(&stream, "too many operators at a time", "ask again");
            continue;
        };
        let operator = operator.clone();
        let spawned = thread::Builder::new().name("control-answer".to_owned()).spawn(move || {
            if let Err(error) = serve(&stream, &*operator) {
                tracing::debug!(%error, "control socket: a client went away");
            }
            drop(slot);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "control socket: a connection cannot be answered");
        }
    }
}

/// One of the connections that are answered at a time.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let slot = Self(open.clone());
        (open.fetch_add(1, Ordering::AcqRel) < CONNECTIONS_MAX).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(stream: &UnixStream, operator: &dyn Operator) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    if !socket::is_permitted(stream)? {
        refuse(
            stream,
            "this socket is closed to this user",
            "ask as the user who mounted, or as root",
        );
        return Ok(());
    }
    let line = match read_line(stream) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            refuse(stream, "the request is too long", "send one line of at most 65536 bytes");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let refused =
        |error: &ControlError| ControlRefusal { message: error.to_string(), cure: error.cure() };
    match serde_json::from_slice(&line) {
        Ok(ControlRequest::Status) => reply(stream, &ControlReply::Ok(operator.status())),
        Ok(ControlRequest::Reload) => match operator.reload() {
            Ok(report) => reply(stream, &ControlReply::Ok(report)),
            Err(error) => reply(stream, &ControlReply::<()>::Error(refused(&error))),
        },
        Ok(ControlRequest::Upgrade) => {
            reply(stream, &ControlReply::<()>::Error(refused(&operator.upgrade())))
        }
        Ok(ControlRequest::Explain { path }) => match operator.explain(path.as_bytes()) {
            Ok(explanation) => reply(stream, &ControlReply::Ok(explanation)),
            Err(error) => reply(stream, &ControlReply::<()>::Error(refused(&error))),
        },
        Err(error) => {
            refuse(
                stream,
                &format!("the request is not understood: {error}"),
                "use the same version of overlayfs-mount as the daemon",
            );
            Ok(())
        }
    }
}

/// Reads up to the first newline, or to the end of what is sent.
fn read_line(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut line = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        line.extend_from_slice(&chunk[..count]);
        if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if count == 0 {
            return Ok(line);
        }
        if line.len() as u64 > REQUEST_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

fn refuse(stream: &UnixStream, message: &str, cure: &str) {
    let refusal = ControlRefusal { message: message.to_owned(), cure: Some(cure.to_owned()) };
    if let Err(error) = reply(stream, &ControlReply::<()>::Error(refusal)) {
        tracing::debug!(%error, "control socket: a client went away");
    }
}

fn reply<T: Serialize>(mut stream: &UnixStream, reply: &ControlReply<T>) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}
