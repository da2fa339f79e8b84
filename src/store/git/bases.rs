//! A cache of delta bases: decoded objects that other objects of a pack are stored as deltas of, so that a delta chain is not decoded anew for
//! each of its members (gitformat-pack(5)).
//!
//! One cache for all repositories of the process, within [`KEPT_BYTES`]. The library tells the packs of an open repository apart by numbers, and
//! gives a number out again once its pack has gone: what is found here may belong to another pack. Whoever decodes with it compares the
//! result with its id, and has the bases of the repository forgotten where the result is wrong ([`Bases::forget`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use gix::objs::Kind;
use gix::odb::cache::PackCache;
use gix::odb::pack::cache::DecodeEntry;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// The most bytes that are kept.
const KEPT_BYTES: u64 = 16 << 20;
/// An object with more bytes than this is not kept.
const OBJECT_BYTES_MAX: usize = 1 << 20;
/// An object that takes fewer deltas than this to decode is not kept: in most packs nearly all are such.
const DELTAS_MIN: u32 = 2;

/// The number of an open repository, of a pack in it, and the place in the pack.
type BaseKey = (u64, u32, u64);

/// An object as the library wants it back.
#[derive(Clone)]
struct BaseObject {
    bytes: Arc<[u8]>,
    kind: Kind,
    encoded_bytes: usize,
}

#[derive(Clone)]
struct BaseWeight;

impl Weighter<BaseKey, BaseObject> for BaseWeight {
    fn weight(&self, _key: &BaseKey, base: &BaseObject) -> u64 {
        base.bytes.len() as u64 + 128
    }
}

static KEPT: LazyLock<Cache<BaseKey, BaseObject, BaseWeight>> = LazyLock::new(|| {
    let options = OptionsBuilder::new()
        .weight_capacity(KEPT_BYTES)
        .estimated_items_capacity(1024)
        .shards(2)
        .build()
        .expect("all that is required is given");
    Cache::with_options(
        options,
        BaseWeight,
        DefaultHashBuilder::default(),
        DefaultLifecycle::default(),
    )
});

/// The delta bases that are kept of one open repository.
#[derive(Clone)]
pub(super) struct Bases(Arc<SharedBases>);

/// What all handles of a repository share.
struct SharedBases {
    /// The repository's number in the keys. It is replaced by a new one so that nothing that was kept is found any more.
    number: AtomicU64,
    /// Whether any base was found since.
    is_used: AtomicBool,
}

impl Bases {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(SharedBases { number: fresh().into(), is_used: false.into() }))
    }

    /// Forgets what was kept until now. False if none of it had been used: then it cannot have done harm.
    pub(super) fn forget(&self) -> bool {
        self.0.number.store(fresh(), Ordering::Relaxed);
        self.0.is_used.swap(false, Ordering::Relaxed)
    }

    fn key(&self, pack: u32, offset: u64) -> BaseKey {
        (self.0.number.load(Ordering::Relaxed), pack, offset)
    }

    /// The cache as the library takes it, for one of its handles.
    pub(super) fn to_thread_local(&self) -> Box<PackCache> {
        Box::new(Chain { bases: self.clone(), deltas: 0 })
    }
}

/// A number that no repository has had.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The chain that is being decoded: the library asks for each member, and then tells what came out.
struct Chain {
    bases: Bases,
    /// How many of its members were asked for and not found, so that their deltas have to be applied.
    deltas: u32,
}

impl DecodeEntry for Chain {
    fn put(&mut self, pack: u32, offset: u64, bytes: &[u8], kind: Kind, encoded_bytes: usize) {
        let deltas = std::mem::take(&mut self.deltas);
        if deltas >= DELTAS_MIN && bytes.len() <= OBJECT_BYTES_MAX {
            let key = self.bases.key(pack, offset);
            KEPT.insert(key, BaseObject { bytes: bytes.into(), kind, encoded_bytes });
        }
    }

    fn get(&mut self, pack: u32, offset: u64, bytes: &mut Vec<u8>) -> Option<(Kind, usize)> {
        let Some(base) = KEPT.get(&self.bases.key(pack, offset)) else {
            self.deltas += 1;
            return None;
        };
        self.bases.0.is_used.store(true, Ordering::Relaxed);
        // Objects that are decoded on top of it are kept too. If it is itself the object that was asked for, there are none.
        self.deltas = if self.deltas == 0 { 0 } else { DELTAS_MIN };
        bytes.clear();
        bytes.try_reserve(base.bytes.len()).ok()?;
        bytes.extend_from_slice(&base.bytes);
        Some((base.kind, base.encoded_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::oid;
    use super::super::repository::Repository;
    use super::*;
    use crate::store::blobs::BlobOrigin;
    use crate::union::object::Oid;

    /// A repository in which most of these blobs are deltas of one another, in chains of several steps.
    fn chain(fixture: &Fixture) -> (Repository, Vec<(Oid, Vec<u8>)>) {
        let made = fixture.init("r", &["--bare"]);
        let mut state = 1_u32;
        let mut line = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{state:032b}\n")
        };
        let mut lines: Vec<_> = (0..1000).map(&mut line).collect();
        let blobs = (0..12_usize).map(|n| {
            lines[n * 70] = line(n);
            let bytes = lines.concat().into_bytes();
            (made.blob(&bytes), bytes)
        });
        let blobs: Vec<_> = blobs.collect();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let entries = names.iter().zip(&blobs);
        let entries: Vec<_> =
            entries.map(|(name, (id, _))| ("100644", name.as_bytes(), id.as_str())).collect();
        made.commit_tree(&made.tree(&entries));
        made.git(&["repack", "-adfq", "--depth=50", "--window=50"]);
        let blobs = blobs.into_iter().map(|(id, bytes)| (oid(id.as_bytes()).unwrap(), bytes));
        (Repository::open(&made.path).unwrap(), blobs.collect())
    }

    /// What is kept of a repository.
    fn kept(repository: &Repository) -> Vec<(BaseKey, BaseObject)> {
        let number = repository.bases().0.number.load(Ordering::Relaxed);
        KEPT.iter().filter(|(key, _)| key.0 == number).collect()
    }

    #[test]
    fn members_of_a_chain_are_kept() {
        let fixture = Fixture::new();
        let (repository, blobs) = chain(&fixture);
        // Whichever of them come first: those that follow from them find them the second time.
        for (id, bytes) in blobs.iter().chain(&blobs) {
            assert!(repository.bytes(id).unwrap() == *bytes);
        }
        let kept = kept(&repository);
        assert!(!kept.is_empty());
        assert!(kept.iter().all(|(_, base)| blobs.iter().any(|(_, bytes)| *bytes == *base.bytes)));
        assert!(repository.bases().0.is_used.load(Ordering::Relaxed));
    }

    #[test]
    fn s100_what_was_kept_of_a_pack_that_has_gone_is_not_served() {
        let fixture = Fixture::new();
        let (repository, blobs) = chain(&fixture);
        for (id, _) in &blobs {
            repository.bytes(id).unwrap();
        }
        for (key, base) in kept(&repository) {
            let bytes = base.bytes.iter().map(|byte| byte ^ 1).collect();
            KEPT.insert(key, BaseObject { bytes, ..base });
        }
        for (id, bytes) in &blobs {
            assert!(repository.bytes(id).unwrap() == *bytes);
        }
    }
}
