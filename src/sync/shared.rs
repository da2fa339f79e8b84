//! What all snapshots of one view share, so that what did not move is neither opened nor read again.

use std::sync::Arc;

use super::history::Histories;
use super::repositories::Repositories;
use crate::config::resolved::Config;
use crate::store::blobs::{BlobCache, BlobLimits};

/// The decoded blobs and the open repositories.
#[derive(Debug)]
pub struct Shared {
    /// Decoded blobs.
    pub blobs: Arc<BlobCache>,
    /// Open repositories.
    pub(super) repositories: Repositories,
    /// What sources that are shown whole have for a `.git`, where something shows them.
    pub(super) histories: Option<Histories>,
}

impl Shared {
    /// What a configuration asks for; nothing is opened yet.
    pub fn new(config: &Config) -> Self {
        let (disk_bytes, object_bytes) = (config.state.cache_bytes, config.state.object_bytes);
        let limits = BlobLimits { disk_bytes, object_bytes, ..BlobLimits::default() };
        let blobs = Arc::new(BlobCache::new(config.state.dir.join("blobs"), limits));
        Self { blobs, repositories: Repositories::within(object_bytes), histories: None }
    }

    /// The same with histories, for who shows the snapshots.
    pub fn with_histories(config: &Config, histories: Histories) -> Self {
        Self { histories: Some(histories), ..Self::new(config) }
    }
}
