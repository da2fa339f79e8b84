//! The operator's side of the control socket.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::protocol::{ControlReply, ControlRequest, REPLY_MAX, ReloadReport};
use super::status::Status;
use super::{ControlError, socket};

/// How long a daemon may take for an answer that it has at hand.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many daemons are asked at a time: fewer than one daemon of many views has answers for.
const AT_A_TIME: usize = 8;

/// How long a process that takes the place of another may take until it answers.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(30);
/// How long nobody may answer while one process takes the place of another.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);

/// Asks a daemon how it is.
///
/// # Errors
/// Nobody listens, this user may not ask, or there is no sensible answer in time.
pub fn status(socket: &Path) -> Result<Status, ControlError> {
    ask(socket, &ControlRequest::Status, PATIENCE)
}

/// Asks several daemons how they are, some at a time, so that one that does not answer keeps the others from nobody. Each answer with its
/// socket, in their order; a socket that a daemon left behind gives [`ControlError::NoDaemon`].
pub fn all(sockets: &[PathBuf]) -> Vec<(&Path, Result<Status, ControlError>)> {
    let mut answers = Vec::with_capacity(sockets.len());
    for some in sockets.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|socket| scope.spawn(|| status(socket))).collect();
            for (socket, asked) in some.iter().zip(asked) {
                let nobody = |_| Err(ControlError::Silent { socket: socket.clone() });
                answers.push((socket.as_path(), asked.join().unwrap_or_else(nobody)));
            }
        });
    }
    answers
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
    let mut stream = socket::connect(socket)?;
    stream.set_write_timeout(Some(patience))?;
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
        if answer.len() as u64 > REPLY_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(answer)
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
    use std::sync::Arc;

    use super::*;
    use crate::control::server::{Operator, Server};
    use crate::snapshot::status::ViewState;
    use std::collections::BTreeMap;

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
        let mut copy = std::process::Command::new("cp");
        copy.arg(std::env::current_exe().unwrap()).arg(dir.path().join("test"));
        assert!(copy.status().unwrap().success());
        let mut stranger = std::process::Command::new("setpriv");
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
