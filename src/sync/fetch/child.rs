//! A child process in a group of its own, with a deadline for the whole group.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::stop::Stop;

/// How often a wish to stop is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long a group may take to end when it is asked to, and when it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long output is waited for once the child has ended: who still holds the other end is not of the group.
const DRAIN: Duration = Duration::from_millis(500);
/// So much is kept of the output: a remote decides how long it is.
const STDOUT_BYTES_MAX: usize = 64 << 20;
/// So much is kept of what it says, from the end.
const STDERR_BYTES_MAX: usize = 64 << 10;

/// What a child left when it ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(super) status: ExitStatus,
    /// What it wrote.
    pub(super) stdout: Vec<u8>,
    /// The end of what it said.
    pub(super) stderr: Vec<u8>,
}

/// Why a child did not end by itself.
#[derive(Debug)]
pub(super) enum Cut {
    /// It, or who listens to it, could not be started. Nothing of it is left.
    NotStarted(io::Error),
    /// It took too long.
    Late,
    /// Somebody asked to stop.
    Stopped,
}

/// How a child is run.
pub(crate) struct ChildRun<'a> {
    /// The most time that it may take.
    pub(crate) timeout: Duration,
    /// Ends it early.
    pub(crate) stop: &'a Stop,
    /// Hears every piece of what it says.
    pub(crate) hear: &'a dyn Fn(&[u8]),
}

enum ChildEvent {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Closed,
    Ended,
}

impl ChildRun<'_> {
    /// Runs a command to its end. When this returns nobody of its process group is left.
    pub(super) fn run(&self, mut command: Command) -> Result<Ended, Cut> {
        let deadline = Instant::now() + self.timeout;
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        reap_left();
        let mut child = command.spawn().map_err(Cut::NotStarted)?;
        let group = Pid::from_raw(child.id().cast_signed());
        let events = match listen(&mut child, group) {
            Ok(events) => events,
            Err(error) => {
                end_unheard(child, group);
                return Err(Cut::NotStarted(error));
            }
        };
        let mut heard = Heard { hear: self.hear, stdout: Vec::new(), stderr: Vec::new(), open: 2 };
        let outcome = self.until(&events, deadline, &mut heard);
        if outcome.is_err() {
            killpg(group, Signal::SIGTERM).unwrap_or_default();
            let has_ended = heard.until_ended(&events, GRACE);
            killpg(group, Signal::SIGKILL).unwrap_or_default();
            if !has_ended && !heard.until_ended(&events, GRACE) {
                // It hangs in the kernel; waiting for it would hang us too.
                leave(child);
                return Err(outcome.err().unwrap_or(Cut::Late));
            }
        }
        // Whoever the child left behind when it was killed, its helpers for https and for packs, would go on writing.
        killpg(group, Signal::SIGKILL).unwrap_or_default();
        let status = child.wait().map_err(Cut::NotStarted)?;
        outcome?;
        heard.drain(&events);
        Ok(Ended { status, stdout: heard.stdout, stderr: heard.stderr })
    }

    fn until(
        &self,
        events: &Receiver<ChildEvent>,
        deadline: Instant,
        heard: &mut Heard<'_>,
    ) -> Result<(), Cut> {
        loop {
            if self.stop.is_set() {
                return Err(Cut::Stopped);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Cut::Late);
            }
            match events.recv_timeout(left.min(TICK)) {
                Ok(event) => {
                    if heard.take(event) {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

/// Has all heard that a child writes, and its end.
fn listen(child: &mut process::Child, group: Pid) -> io::Result<Receiver<ChildEvent>> {
    let (sender, events) = mpsc::channel();
    read_pieces(child.stdout.take(), sender.clone(), ChildEvent::Stdout)?;
    read_pieces(child.stderr.take(), sender.clone(), ChildEvent::Stderr)?;
    start(move || {
        // Not reaped here: while it is a zombie its number, and so its group's, means no other.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(group), flags) == Err(Errno::EINTR) {}
        sender.send(ChildEvent::Ended).unwrap_or_default();
    })?;
    Ok(events)
}

/// Starts a thread.
fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[cfg(test)]
    tests::refuse_thread()?;
    thread::Builder::new().name("git".into()).spawn(work).map(drop)
}

/// Ends a child of whose end nobody would tell.
fn end_unheard(mut child: process::Child, group: Pid) {
    killpg(group, Signal::SIGKILL).unwrap_or_default();
    let deadline = Instant::now() + GRACE;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            return leave(child);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Children that were killed and had not ended when they were given up.
static LEFT: Mutex<Vec<process::Child>> = Mutex::new(Vec::new());

/// Gives up a child that was killed. It is reaped when the next one starts, if it has ended by then.
fn leave(child: process::Child) {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner).push(child);
}

fn reap_left() {
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// Hands on what comes out of a pipe until it is closed.
fn read_pieces(
    pipe: Option<impl Read + Send + 'static>,
    sender: Sender<ChildEvent>,
    event: fn(Vec<u8>) -> ChildEvent,
) -> io::Result<()> {
    start(move || {
        let mut piece = vec![0; 16 << 10];
        if let Some(mut pipe) = pipe {
            loop {
                match pipe.read(&mut piece) {
                    Ok(0) => break,
                    Ok(length) => {
                        if sender.send(event(piece[..length].to_vec())).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
        sender.send(ChildEvent::Closed).unwrap_or_default();
    })
}

/// What came out so far.
struct Heard<'a> {
    hear: &'a dyn Fn(&[u8]),
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// How many pipes are still open.
    open: usize,
}

impl Heard<'_> {
    /// True if this was the end of the child.
    fn take(&mut self, event: ChildEvent) -> bool {
        match event {
            ChildEvent::Ended => return true,
            ChildEvent::Closed => self.open -= 1,
            ChildEvent::Stdout(piece) => {
                let left = STDOUT_BYTES_MAX.saturating_sub(self.stdout.len());
                self.stdout.extend_from_slice(&piece[..piece.len().min(left)]);
            }
            ChildEvent::Stderr(piece) => {
                (self.hear)(&piece);
                self.stderr.extend_from_slice(&piece);
                let surplus = self.stderr.len().saturating_sub(STDERR_BYTES_MAX);
                self.stderr.drain(..surplus);
            }
        }
        false
    }

    fn until_ended(&mut self, events: &Receiver<ChildEvent>, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    if self.take(event) {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    fn drain(&mut self, events: &Receiver<ChildEvent>) {
        let deadline = Instant::now() + DRAIN;
        while self.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = events.recv_timeout(left) else { return };
            self.take(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::path::Path;

    use super::*;

    type Refusal = Box<dyn FnMut() -> io::Result<()>>;

    thread_local! {
        /// Whether the next thread can be started.
        static REFUSAL: RefCell<Option<Refusal>> = const { RefCell::new(None) };
    }

    pub(super) fn refuse_thread() -> io::Result<()> {
        REFUSAL.with_borrow_mut(|refusal| refusal.as_mut().map_or(Ok(()), |refuse| refuse()))
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn run(script: &str, timeout: Duration, stop: &Stop) -> Result<Ended, Cut> {
        ChildRun { timeout, stop, hear: &|_| {} }.run(shell(script))
    }

    fn wait_for_end(pid: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_running = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while is_running() {
            assert!(Instant::now() < deadline, "{pid} was left running");
            thread::yield_now();
        }
    }

    #[test]
    fn output_and_status_are_those_of_the_child() {
        let minute = Duration::from_secs(60);
        let ended = run("echo out; echo said >&2; exit 3", minute, &Stop::default()).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout, ended.stderr), (b"out\n".to_vec(), b"said\n".to_vec()));
    }

    #[test]
    fn a_deadline_ends_the_whole_group_also_those_who_do_not_listen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        // One ignores the polite signal, and so does its own child.
        let script = format!(
            "trap '' TERM; sh -c 'echo $$ >>{0}; sleep 300 & echo $! >>{0}; wait'",
            file.display()
        );
        let started = Instant::now();
        let outcome = run(&script, Duration::from_millis(400), &Stop::default());
        assert!(matches!(outcome, Err(Cut::Late)), "{outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(20));
        let pids = fs::read_to_string(&file).unwrap();
        assert_eq!(pids.lines().count(), 2, "{pids}");
        pids.lines().for_each(wait_for_end);
    }

    #[test]
    fn a_wish_to_stop_is_heard() {
        let stop = Stop::default();
        stop.set();
        let outcome = run("sleep 300", Duration::from_secs(60), &stop);
        assert!(matches!(outcome, Err(Cut::Stopped)), "{outcome:?}");
    }

    #[test]
    fn who_is_left_in_the_group_of_a_child_that_was_killed_ends_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 300 >/dev/null 2>&1 & echo $! >{}; kill -9 $$", file.display());
        let ended = run(&script, Duration::from_secs(60), &Stop::default()).unwrap();
        assert_eq!(ended.status.code(), None);
        wait_for_end(fs::read_to_string(&file).unwrap().trim());
    }

    #[test]
    fn a_child_that_no_thread_can_listen_to_is_ended_and_reaped() {
        let minute = Duration::from_secs(60);
        for threads in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("pid");
            let (place, mut started) = (file.clone(), 0);
            let pid = move || fs::read_to_string(&place).unwrap_or_default();
            let (written, deadline) = (pid.clone(), Instant::now() + minute);
            REFUSAL.set(Some(Box::new(move || {
                started += 1;
                if started <= threads {
                    return Ok(());
                }
                while !written().ends_with('\n') {
                    assert!(Instant::now() < deadline, "the child has not begun");
                    thread::yield_now();
                }
                Err(Errno::EAGAIN.into())
            })));
            let script = format!("echo $$ >{}; exec sleep 300", file.display());
            let outcome = run(&script, minute, &Stop::default());
            REFUSAL.set(None);
            assert!(matches!(outcome, Err(Cut::NotStarted(_))), "{threads}: {outcome:?}");
            assert!(!Path::new("/proc").join(pid().trim()).exists(), "{threads}: it is left");
        }
    }

    #[test]
    fn who_was_given_up_is_reaped_when_the_next_one_starts() {
        let child = shell("exit 0").spawn().unwrap();
        let place = format!("/proc/{}", child.id());
        leave(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Path::new(&place).exists() {
            assert!(Instant::now() < deadline, "it was never reaped");
            run("exit 0", Duration::from_secs(60), &Stop::default()).unwrap();
        }
    }

    #[test]
    fn who_left_the_group_with_our_pipe_is_not_waited_for() {
        let started = Instant::now();
        let outcome = run("setsid sleep 20 & exit 0", Duration::from_secs(60), &Stop::default());
        assert!(outcome.is_ok_and(|ended| ended.status.success()));
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}
