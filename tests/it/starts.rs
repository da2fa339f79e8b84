//! Workers that are about to be started when the end is asked for.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Sandbox, can_take_over, wait_for};
use crate::keeper::{log, processes, runs, sample};
use crate::{views, views_keeper};

/// Has workers die by themselves, one after the other, until the next one is waited with for seconds.
fn die_until_it_is_waited(sandbox: &Sandbox, worker: impl Fn() -> Option<i32>) {
    const DEATHS: usize = 5;
    let mut last = 0;
    for death in 1..=DEATHS {
        wait_for("a worker", || worker().is_some_and(|worker| worker != last));
        last = worker().unwrap();
        kill(Pid::from_raw(last), Signal::SIGABRT).unwrap();
        wait_for("its death", || log(sandbox).matches("the worker has died").count() == death);
    }
}

#[test]
fn a_signal_that_comes_between_two_workers_ends_the_mount() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (_, keeper) = processes(&sandbox);
    die_until_it_is_waited(&sandbox, || {
        let status = crate::keeper::status(&sandbox)?;
        Some(crate::keeper::number(&status, "pid"))
    });
    kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    wait_for("the end", || !runs(keeper));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
}

#[test]
fn a_signal_that_comes_between_two_workers_of_many_views_ends_them() {
    if !can_take_over() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = views::two_alike();
    let serving = views::serve_with(&sandbox, &["--supervised"]);
    die_until_it_is_waited(&sandbox, || Some(views_keeper::processes(&sandbox)?.0));
    serving.end();
}
