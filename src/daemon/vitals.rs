//! What a daemon tells those who observe it: metrics, health, readiness. Nothing here touches the mount.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use tracing::info;

use super::DaemonError;
use crate::control::http::{Address, HttpServer, Observed};
use crate::control::metrics::Page;
use crate::control::tally::{Rounds, Tally};
use crate::control::view_metrics::{BlobCacheUse, Requests, write_use, write_view};
use crate::fuse::Counts;
use crate::store::blobs::BlobCache;
use crate::view::View;

/// A daemon as those see it who observe it, from before anything is mounted.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// What keeping the view up to date came to.
    pub(super) tally: Tally,
    /// What keeping the repo cache came to, where the daemon does that.
    pub(super) rounds: OnceLock<Arc<Rounds>>,
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

impl Observed for Vitals {
    fn metrics(&self) -> Page {
        let mut page = Page::new();
        if let Some(mounted) = self.mounted.get() {
            write_view(&mut page, &mounted.view);
            self.tally.write(&mut page);
            mounted.write_use(&mut page);
        }
        if let Some(rounds) = self.rounds.get() {
            rounds.write(&mut page);
        }
        page
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
        if self.rounds.get().is_some_and(|rounds| !rounds.is_first_over()) {
            return Err("the first round of fetching is not over yet".to_owned());
        }
        self.health()
    }
}

impl Mounted {
    fn write_use(&self, page: &mut Page) {
        let all = self.counts.all().into_iter().zip(self.counts.errors());
        let requests: Vec<_> =
            all.map(|((operation, count), errors)| Requests { operation, count, errors }).collect();
        let (memory_bytes, disk_bytes) = self.blobs.used_bytes();
        let (hits, misses) = self.blobs.hits_and_misses();
        let blobs = BlobCacheUse { memory_bytes, disk_bytes, hits, misses };
        write_use(page, &self.view, &requests, &blobs);
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
