//! What a daemon tells those who observe it: metrics, health, readiness. Nothing here touches the mount.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tracing::info;

use super::DaemonError;
use super::fetch::Fetching;
use crate::control::http::{Address, HttpServer, Observed};
use crate::control::metrics::Page;
use crate::control::tally::{Rounds, Tally};
use crate::control::view_metrics::{Requests, Use, write_use, write_view};
use crate::fuse::Counts;
use crate::store::blobs::BlobCache;
use crate::view::View;

/// A daemon as those see it who observe it, from before anything is mounted.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// What keeping the view up to date came to.
    pub(super) tally: Tally,
    /// What keeping the repo cache came to, where the daemon does that.
    rounds: Mutex<Option<Arc<Rounds>>>,
    /// Why the view is not as its configuration says, if it is not.
    misconfigured: Mutex<Option<String>>,
    mounted: OnceLock<Mounted>,
    is_stopping: AtomicBool,
}

/// What there is once the view is mounted.
#[derive(Debug)]
pub(super) struct Mounted {
    pub(super) view: Arc<View>,
    pub(super) counts: Arc<Counts>,
    pub(super) blobs: Arc<BlobCache>,
    /// Can be upgraded for as long as the kernel is answered.
    pub(super) session: Weak<()>,
    /// Can be upgraded for as long as the view is kept up to date.
    pub(super) updating: Weak<()>,
}

impl Vitals {
    /// Answers at an address, if one is given, until what this returns is dropped.
    pub(super) fn serve(
        self: &Arc<Self>,
        address: Option<&Address>,
    ) -> Result<Option<HttpServer>, DaemonError> {
        let Some(address) = address else { return Ok(None) };
        let server = HttpServer::start(address, self.clone())?;
        info!(address = %server.address(), "metrics are served");
        Ok(Some(server))
    }

    /// The view can be read. Only the first call counts.
    pub(super) fn mounted(&self, mounted: Mounted) {
        self.mounted.get_or_init(|| mounted);
    }

    /// This fetches for the view from now on.
    pub(super) fn fetched(&self, fetching: Option<&Fetching>) {
        let rounds = fetching.map(Fetching::rounds);
        *self.rounds.lock().unwrap_or_else(PoisonError::into_inner) = rounds;
    }

    fn rounds(&self) -> Option<Arc<Rounds>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is why the view is not as its configuration says; nothing if it is.
    pub(super) fn misconfigured(&self, reason: Option<String>) {
        *self.misconfigured.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why the view is not as its configuration says, if it is not.
    pub(super) fn misconfigured_because(&self) -> Option<String> {
        self.misconfigured.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The view is about to be taken away.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Why large files are not kept in the state directory, if they are not.
    pub(super) fn no_large_files_because(&self) -> Option<String> {
        self.mounted.get().and_then(|mounted| mounted.blobs.trouble())
    }

    /// Whether the view is about to be taken away.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// The metrics of views; each has a name where there may be several.
pub(super) fn page(views: &[(Option<&str>, &Vitals)]) -> Page {
    let mut page = Page::new();
    for (name, vitals) in views {
        page.about(*name);
        if let Some(mounted) = vitals.mounted.get() {
            write_view(&mut page, &mounted.view);
            vitals.tally.write(&mut page);
        }
        if let Some(rounds) = vitals.rounds() {
            rounds.write(&mut page);
        }
    }
    page.about(None);
    let mounted: Vec<_> = views.iter().filter_map(|(_, vitals)| vitals.mounted.get()).collect();
    if !mounted.is_empty() {
        write_use(&mut page, &used(&mounted));
    }
    page
}

/// What is used for views. Some of them share it: then it counts once.
fn used(views: &[&Mounted]) -> Use {
    let mut used = Use::default();
    let mut counted = Vec::new();
    for Mounted { view, counts, blobs, .. } in views {
        if is_new(&mut counted, Arc::as_ptr(counts).cast()) {
            used.nodes += view.known_nodes() as u64;
            used.numbers = used.numbers.max(view.used_numbers());
            used.ahead += counts.ahead();
            add_requests(&mut used.requests, counts);
        }
        if is_new(&mut counted, Arc::as_ptr(blobs).cast()) {
            let (memory_bytes, disk_bytes) = blobs.used_bytes();
            let (hits, misses) = blobs.hits_and_misses();
            used.blobs.memory_bytes += memory_bytes;
            used.blobs.disk_bytes += disk_bytes;
            used.blobs.hits += hits;
            used.blobs.misses += misses;
        }
    }
    used
}

fn is_new(known: &mut Vec<*const ()>, pointer: *const ()) -> bool {
    let is_new = !known.contains(&pointer);
    if is_new {
        known.push(pointer);
    }
    is_new
}

fn add_requests(requests: &mut Vec<Requests>, counts: &Counts) {
    let all = counts.all().into_iter().zip(counts.errors());
    for (position, ((operation, count), errors)) in all.enumerate() {
        if requests.len() == position {
            requests.push(Requests { operation, ..Requests::default() });
        }
        let known = &mut requests[position];
        known.count += count;
        for (error, count) in errors {
            *known.errors.entry(error).or_default() += count;
        }
    }
}

impl Observed for Vitals {
    fn metrics(&self) -> Page {
        page(&[(None, self)])
    }

    fn health(&self) -> Result<(), String> {
        let Some(mounted) = self.mounted.get() else { return Ok(()) };
        all_alive([
            (&mounted.session, "the session with the kernel has ended"),
            (&mounted.updating, "the thread that keeps the view up to date has ended"),
        ])
    }

    fn readiness(&self) -> Result<(), String> {
        if self.mounted.get().is_none() {
            return Err("the view is not mounted yet".to_owned());
        }
        if self.is_stopping() {
            return Err("the view is about to be unmounted".to_owned());
        }
        if self.rounds().is_some_and(|rounds| !rounds.is_first_over()) {
            return Err("the first round of fetching is not over yet".to_owned());
        }
        self.health()
    }
}

/// Fails with the reason of the first that lives no more.
fn all_alive<const N: usize>(lives: [(&Weak<()>, &str); N]) -> Result<(), String> {
    match lives.into_iter().find(|(life, _)| life.strong_count() == 0) {
        Some((_, reason)) => Err(reason.to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_ended_or_panicked_is_ill() {
        let (one, other) = (Arc::new(()), Arc::new(()));
        let (first, second) = (Arc::downgrade(&one), Arc::downgrade(&other));
        let health = || all_alive([(&first, "the first"), (&second, "the second")]);
        assert_eq!(health(), Ok(()));
        let panicking = std::thread::spawn(move || {
            assert!(Arc::strong_count(&other) > 1, "for this test");
            drop(other);
        });
        assert!(panicking.join().is_err());
        assert_eq!(health(), Err("the second".to_owned()));
        drop(one);
        assert_eq!(health(), Err("the first".to_owned()));
    }
}
