//! The operator's side of the control socket.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::protocol::{ControlReply, ControlRequest, REPLY_MAX, ReloadReport};
use super::status::Status;
use super::{ControlError, socket};

/// How long a daemon may take for an answer that it has at hand.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many daemons are waited for before the next one is asked.
const AT_A_TIME: usize = 8;
/// After so long a daemon is waited for beside the others.
const SLOW: Duration = Duration::from_millis(100);
/// How many daemons are waited for in all.
const WAITED_FOR: usize = 256;
/// The longest answer of a daemon of another user, in bytes.
const STRANGERS_REPLY_MAX: u64 = 1024 * 1024;

/// How long a process that takes the place of another may take until it answers.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(30);
/// How long nobody may answer while one process takes the place of another.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// Asks a daemon how it is.
///
/// # Errors
/// Nobody listens, this user may not ask, or there is no sensible answer in time.
pub fn status(socket: &Path) -> Result<Status, ControlError> {
    status_within(socket, PATIENCE)
}

fn status_within(socket: &Path, patience: Duration) -> Result<Status, ControlError> {
    ask(socket, &ControlRequest::Status, patience)
}

/// The process that listens on a socket, whether it answers or not; `None` where that cannot be known.
pub fn listener(socket: &Path) -> Option<u32> {
    let stream = socket::connect(socket, SLOW).ok()?;
    socket::listener(&stream).ok().map(|(pid, _)| pid).filter(|pid| *pid != 0)
}

/// Asks several daemons how they are, and waits once for all that do not answer. Each answer with its socket, in their order; a socket that
/// a daemon left behind gives [`ControlError::NoDaemon`].
pub fn all(sockets: &[PathBuf]) -> Vec<(&Path, Result<Status, ControlError>)> {
    let deadline = Instant::now() + PATIENCE;
    let (sender, receiver) = mpsc::channel();
    let mut asked = Asked::default();
    let mut answers: BTreeMap<usize, Result<Status, ControlError>> = BTreeMap::new();
    thread::scope(|scope| {
        for (index, socket) in sockets.iter().enumerate() {
            while let Some(wait) = asked.before_the_next(deadline) {
                if let Ok((index, answer)) = receiver.recv_timeout(wait) {
                    asked.begun.remove(&index);
                    answers.insert(index, answer);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Of all that are left none is asked.
                break;
            }
            let sender = sender.clone();
            let asking =
                thread::Builder::new().name("ask".to_owned()).spawn_scoped(scope, move || {
                    // The receiver is there until all have ended.
                    sender.send((index, status_within(socket, left))).unwrap_or_default();
                });
            match asking {
                Ok(_) => drop(asked.begun.insert(index, Instant::now())),
                Err(error) => drop(answers.insert(index, Err(cause(socket, error)))),
            }
        }
        drop(sender);
        answers.extend(receiver);
    });
    let answer = |(index, socket): (usize, &'_ PathBuf)| {
        answers
            .remove(&index)
            .unwrap_or_else(|| Err(ControlError::Silent { socket: socket.clone() }))
    };
    let answers: Vec<_> = sockets.iter().enumerate().map(answer).collect();
    sockets.iter().map(PathBuf::as_path).zip(answers).collect()
}

/// The daemons that were asked and have not answered.
#[derive(Default)]
struct Asked {
    begun: BTreeMap<usize, Instant>,
}

impl Asked {
    /// How long to wait for an answer before another one may be asked; `None` if that can be now. Not beyond the end of all waiting.
    fn before_the_next(&self, deadline: Instant) -> Option<Duration> {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        let waited = |begun: &Instant| now.saturating_duration_since(*begun);
        let quick: Vec<_> =
            self.begun.values().map(waited).filter(|waited| *waited < SLOW).collect();
        if self.begun.len() >= WAITED_FOR {
            return Some(left);
        }
        let longest = quick.iter().max().filter(|_| quick.len() >= AT_A_TIME)?;
        Some(SLOW.saturating_sub(*longest).min(left))
    }
}

/// Has a daemon read its configuration and refs anew, and waits for at most `patience` until every new look-up sees the result.
///
/// # Errors
/// As for [`status`]; and the daemon's own reason, if it kept the old view.
pub fn reload(socket: &Path, patience: Duration) -> Result<ReloadReport, ControlError> {
    let deadline = Instant::now() + patience;
    loop {
        let before = status_when_settled(socket)?;
        match ask(
            socket,
            &ControlRequest::Reload,
            deadline.saturating_duration_since(Instant::now()),
        ) {
            // A confined worker that may not open what the new configuration needs is replaced: the next one is asked.
            Err(
                ControlError::Answer { .. }
                | ControlError::Io { .. }
                | ControlError::NoDaemon { .. },
            ) if before.supervisor_pid.is_some() => {
                wait_for_successor(
                    socket,
                    before.pid,
                    deadline.min(Instant::now() + SUCCESSOR_PATIENCE),
                )?;
            }
            answer => return answer,
        }
    }
}

/// Has the program that is on disk now take over from a daemon, and waits for at most `patience` until it answers. Its status.
///
/// # Errors
/// As for [`status`]; and the daemon's own reason, if it goes on itself.
pub fn upgrade(socket: &Path, patience: Duration) -> Result<Status, ControlError> {
    let deadline = Instant::now() + patience;
    let before = status(socket)?;
    // If all goes well there is no answer: the daemon is ended while it is waited for.
    match ask::<()>(socket, &ControlRequest::Upgrade, patience) {
        Ok(()) | Err(ControlError::Answer { .. } | ControlError::Io { .. }) => {}
        Err(error) => return Err(error),
    }
    wait_for_successor(socket, before.pid, deadline)
}

/// As [`status`], but waits while one worker takes the place of another and nobody answers.
fn status_when_settled(socket: &Path) -> Result<Status, ControlError> {
    let deadline = Instant::now() + SETTLE_PATIENCE;
    loop {
        match status(socket) {
            Err(ControlError::NoDaemon { .. } | ControlError::Answer { .. })
                if Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            answer => return answer,
        }
    }
}

/// Waits until another process than `pid` answers on the socket. Its status.
fn wait_for_successor(socket: &Path, pid: u32, deadline: Instant) -> Result<Status, ControlError> {
    loop {
        match status(socket) {
            Ok(now) if now.pid != pid => return Ok(now),
            Err(error) if Instant::now() > deadline => return Err(error),
            Ok(_) if Instant::now() > deadline => {
                return Err(ControlError::Silent { socket: socket.to_owned() });
            }
            Ok(_) | Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Asks why a path of the view, relative to its root, shows what it shows.
///
/// # Errors
/// As for [`status`]; and the daemon's own reason, if it is no path.
pub fn explain(socket: &Path, path: &[u8]) -> Result<serde_json::Value, ControlError> {
    ask(socket, &ControlRequest::Explain { path: path.into() }, PATIENCE)
}

fn ask<T: DeserializeOwned>(
    socket: &Path,
    request: &ControlRequest,
    patience: Duration,
) -> Result<T, ControlError> {
    let line = converse(socket, request, patience).map_err(|error| cause(socket, error))?;
    let answer = |reason: String| ControlError::Answer { socket: socket.to_owned(), reason };
    if line.is_empty() {
        return Err(answer("nothing".to_owned()));
    }
    match serde_json::from_slice(&line).map_err(|error| answer(error.to_string()))? {
        ControlReply::Ok(answer) => Ok(answer),
        ControlReply::Error(refusal) => {
            Err(ControlError::Refused { message: refusal.message, cure: refusal.cure })
        }
    }
}

fn converse(socket: &Path, request: &ControlRequest, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut stream = socket::connect(socket, patience)?;
    let reply_max = reply_max(socket::listener(&stream)?.1);
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    match stream.write_all(&line) {
        // It may have answered and closed before it read everything.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut answer = Vec::new();
    let mut chunk = vec![0_u8; 64 * 1024];
    while answer.last() != Some(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A server that closes without having read all of the request resets the connection; its answer came before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > reply_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(answer)
}

/// The longest answer that is read: root asks the daemons of others too, many at a time.
fn reply_max(listener: u32) -> u64 {
    let is_known = listener == 0 || listener == nix::unistd::geteuid().as_raw();
    if is_known { REPLY_MAX } else { STRANGERS_REPLY_MAX }
}

fn cause(socket: &Path, error: io::Error) -> ControlError {
    let socket = socket.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NoDaemon { socket }
        }
        io::ErrorKind::PermissionDenied => ControlError::Forbidden { socket },
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ControlError::Silent { socket },
        _ => ControlError::Io { socket, error },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;
    use std::sync::Arc;

    use super::*;
    use crate::control::server::{Operator, Server};
    use crate::snapshot::status::ViewState;

    struct Fake;

    impl Operator for Fake {
        fn status(&self) -> Status {
            Status {
                state: ViewState::Ready,
                revision: "00".repeat(32),
                since: "2026-01-01T00:00:00Z".to_owned(),
                pid: 1,
                supervisor_pid: None,
                mountpoint: "/mnt".to_owned(),
                config: None,
                sources: Vec::new(),
                views: None,
                error: None,
                confinement: None,
                no_large_files_because: None,
                labels: BTreeMap::new(),
            }
        }

        fn reload(&self) -> Result<ReloadReport, ControlError> {
            Err(ControlError::Refused {
                message: "key `ref` is missing".to_owned(),
                cure: Some("set it".to_owned()),
            })
        }

        fn upgrade(&self) -> ControlError {
            ControlError::Refused { message: "no".to_owned(), cure: None }
        }

        fn explain(&self, path: &[u8]) -> Result<serde_json::Value, ControlError> {
            Ok(serde_json::json!({ "bytes": path }))
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("view.sock");
        (dir, socket)
    }

    #[test]
    fn a_daemon_answers_until_it_stops_and_leaves_no_socket() {
        let (dir, socket) = place();
        let server = Server::start(&socket, Arc::new(Fake)).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(status(&socket).unwrap(), Fake.status());
        assert_eq!(explain(&socket, b"a\xff").unwrap()["bytes"][1], 255);
        let error = reload(&socket, PATIENCE).unwrap_err();
        assert_eq!(error.to_string(), "key `ref` is missing");
        assert_eq!(error.cure().as_deref(), Some("set it"));
        drop(server);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = status(&socket).unwrap_err();
        assert!(matches!(error, ControlError::NoDaemon { .. }), "{error}");
        assert!(error.cure().is_some());
    }

    #[test]
    fn what_a_daemon_that_was_killed_has_left_half_done_is_removed() {
        let (dir, socket) = place();
        let name = |name: &str| dir.path().join(name);
        // The first is of a daemon that is just starting, the last ones are of other mounts, or no sockets.
        let all = ["view.7", "view.8", "view.9", "other.8", "view.8x"].map(name);
        for path in [&all[0], &all[1], &all[3], &all[4]] {
            drop(UnixListener::bind(path).unwrap());
        }
        fs::write(&all[2], "").unwrap();
        for path in &all[1..] {
            let touched = Command::new("touch").args(["-d", "2 minutes ago"]).arg(path).status();
            assert!(touched.unwrap().success());
        }
        drop(Server::start(&socket, Arc::new(Fake)).unwrap());
        assert_eq!(all.map(|path| path.exists()), [true, false, true, true, true]);
    }

    #[test]
    fn a_live_socket_is_refused_a_dead_one_is_replaced() {
        let (_dir, socket) = place();
        drop(UnixListener::bind(&socket).unwrap());
        assert!(matches!(
            all(std::slice::from_ref(&socket))[0].1,
            Err(ControlError::NoDaemon { .. })
        ));
        let _server = Server::start(&socket, Arc::new(Fake)).unwrap();
        let error = Server::start(&socket, Arc::new(Fake)).unwrap_err();
        assert!(matches!(error, ControlError::InUse { .. }), "{error}");
        assert!(status(&socket).is_ok());
    }

    /// Listens until the other end goes.
    fn listen_at(socket: &Path, backlog: i32) -> std::os::fd::OwnedFd {
        use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        socket::bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &UnixAddr::new(socket).unwrap())
            .unwrap();
        socket::listen(&listener, Backlog::new(backlog).unwrap()).unwrap();
        listener
    }

    #[test]
    fn s149_all_daemons_that_do_not_answer_are_waited_for_together() {
        let dir = tempfile::tempdir().unwrap();
        let sockets: Vec<_> = (0..20).map(|n| dir.path().join(format!("{n}.sock"))).collect();
        let listeners: Vec<_> =
            sockets.iter().map(|socket| UnixListener::bind(socket).unwrap()).collect();
        // None answers before all were asked.
        let answering = thread::spawn(move || {
            let mut asked: Vec<_> =
                listeners.iter().map(|listener| listener.accept().unwrap().0).collect();
            for stream in &mut asked {
                stream.write_all(b"{\"error\":{\"message\":\"here\",\"cure\":null}}\n").unwrap();
            }
        });
        let answers = all(&sockets);
        for ((of, answer), socket) in answers.into_iter().zip(&sockets) {
            assert_eq!(of, socket);
            assert_eq!(answer.unwrap_err().to_string(), "here");
        }
        answering.join().unwrap();
    }

    #[test]
    fn who_lets_everybody_wait_is_not_waited_for() {
        let (_dir, socket) = place();
        let _listener = listen_at(&socket, 0);
        let connect = || socket::connect(&socket, Duration::from_millis(20));
        let mut waiting = Vec::new();
        // Until the kernel has no place for more.
        while let Ok(stream) = connect() {
            waiting.push(stream);
        }
        let error = status_within(&socket, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ControlError::Silent { .. }), "{error}");
        assert_eq!(listener(&socket), None);
        drop(waiting);
    }

    #[test]
    fn who_listens_is_known_also_where_nobody_answers() {
        let (_dir, socket) = place();
        let _listener = listen_at(&socket, 1);
        assert_eq!(listener(&socket), Some(std::process::id()));
    }

    #[test]
    fn a_stranger_answers_in_few_words() {
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!([0, own, 54321].map(reply_max), [REPLY_MAX, REPLY_MAX, STRANGERS_REPLY_MAX]);
    }

    #[test]
    fn a_file_in_the_sockets_place_is_left_alone() {
        let (_dir, socket) = place();
        fs::write(&socket, "mine").unwrap();
        assert!(matches!(Server::start(&socket, Arc::new(Fake)), Err(ControlError::Listen { .. })));
        assert_eq!(fs::read(&socket).unwrap(), b"mine");
    }

    #[test]
    fn nonsense_and_requests_without_end_are_refused() {
        let (_dir, socket) = place();
        let _server = Server::start(&socket, Arc::new(Fake)).unwrap();
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"{\"command\":\"dance\"}\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(r#"{"error":{"message":"the request is not understood"#),
            "{answer}"
        );
        let path = vec![0xff; 100_000];
        let error = explain(&socket, &path).unwrap_err();
        assert_eq!(error.to_string(), "the request is too long");
        assert!(status(&socket).is_ok());
    }

    #[test]
    fn a_crowd_is_told_to_come_again_and_does_not_lock_others_out() {
        let (_dir, socket) = place();
        let _server = Server::start(&socket, Arc::new(Fake)).unwrap();
        let crowd: Vec<_> = (0..16).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let error = status(&socket).unwrap_err();
        assert_eq!(error.to_string(), "too many operators at a time");
        drop(crowd);
        let deadline = Instant::now() + PATIENCE;
        while status(&socket).is_err() {
            assert!(Instant::now() < deadline);
        }
    }

    /// Set for the test that runs as another user: to the socket.
    const AS_STRANGER: &str = "OVERLAYFS_MOUNT_TEST_AS_STRANGER";

    #[test]
    fn another_user_is_refused_even_where_the_socket_lets_it_in() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can become another user");
            return;
        }
        let (dir, socket) = place();
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777));
        let _server = Server::start(&socket, Arc::new(Fake)).unwrap();
        open(dir.path()).and_then(|()| open(&socket)).unwrap();
        // By a child: what somebody has open for writing cannot be run, and other threads start children too.
        let mut copy = Command::new("cp");
        copy.arg(std::env::current_exe().unwrap()).arg(dir.path().join("test"));
        assert!(copy.status().unwrap().success());
        let mut stranger = Command::new("setpriv");
        stranger.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        stranger.arg(dir.path().join("test"));
        stranger.args(["--exact", "control::client::tests::as_a_stranger", "--nocapture"]);
        let output = stranger.env(AS_STRANGER, &socket).current_dir("/").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn as_a_stranger() {
        let Some(socket) = std::env::var_os(AS_STRANGER).map(PathBuf::from) else { return };
        let error = status(&socket).unwrap_err();
        assert_eq!(error.to_string(), "this socket is closed to this user");
    }

    #[test]
    fn a_daemon_that_says_nothing_is_not_waited_for() {
        let (_dir, socket) = place();
        let _listener = UnixListener::bind(&socket).unwrap();
        let error = reload(&socket, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ControlError::Silent { .. }), "{error}");
    }
}
