//! What cannot be read for a moment.

use super::*;
use crate::store::{Attributes, Listed, Store, StoreError};
use crate::sync::open::OpenedWith;

/// A store whose directories below its top cannot be listed.
#[derive(Debug)]
struct Failing {
    inner: Arc<dyn Store>,
    error: fn() -> StoreError,
}

impl Store for Failing {
    fn root(&self) -> Result<Object, StoreError> {
        self.inner.root()
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        if *directory == self.inner.root()? {
            self.inner.list(directory)
        } else {
            Err((self.error)())
        }
    }

    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError> {
        self.inner.lookup(directory, name)
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        self.inner.attributes(object)
    }

    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        self.inner.read(file, offset, len)
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        self.inner.read_link(link)
    }
}

fn no_descriptors() -> StoreError {
    StoreError::Io(std::io::Error::from_raw_os_error(libc::EMFILE))
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { oid: "0".into(), cause: "too many open files".into() }
}

fn damaged() -> StoreError {
    StoreError::Unreadable { oid: "0".into(), cause: "it is not in the repository".into() }
}

fn not_a_directory() -> StoreError {
    StoreError::Io(std::io::Error::from_raw_os_error(libc::ENOTDIR))
}

#[test]
fn s127_what_was_shown_stays_whole_where_a_part_cannot_be_read_for_a_moment() {
    let fixture = Fixture::new();
    let git = fixture.with_files("cache/a/b", CARD);
    let work = fixture.with_files("work", CARD);
    let mut optional = live("local/work", work.path.clone());
    optional.is_required = false;
    let config = config(&fixture, vec![repo("a/b"), optional]);
    let shared = Shared::new(&config);
    let last = rebuild(&config, &shared, None, None).unwrap().snapshot;
    git.commit(&[("tools/slack/a.py", "high"), ("tools/other/pyproject.toml", "")]);
    fs::create_dir(work.path.join("tools/more")).unwrap();
    let means = OpenedWith { shared: &shared, pins: None, last: Some(&last), with_git: &[] };
    let taken = |index: usize, error| {
        let (id, spec) = (id_at(index), &config.sources[index]);
        let mut opened = open(&config, spec, id, means).unwrap();
        opened.store = Arc::new(Failing { inner: opened.store.clone(), error });
        take(&config, spec, id, Ok(opened), Some(&last))
    };
    for (index, error) in [(0, unavailable as fn() -> _), (0, no_descriptors), (1, no_descriptors)]
    {
        let (taken, cause) = taken(index, error).map_err(|error| error.to_string()).unwrap();
        assert!(cause.unwrap().is_momentary());
        assert_eq!(taken.revision, last.sources[index].revision);
        let names: Vec<_> = taken.layers.entries[0].iter().map(|e| e.path.to_string()).collect();
        assert_eq!(names, ["slack"], "{index}");
    }
    // Damage is shown as what it is.
    let (taken_with_damage, cause) = taken(0, damaged).unwrap_or_else(|_| panic!("it is left out"));
    assert!(cause.is_none() && taken_with_damage.layers.entries[0].is_empty());
    assert_ne!(taken_with_damage.revision, last.sources[0].revision);
    assert!(taken(1, not_a_directory).is_err_and(|cause| !cause.is_momentary()));
}

#[test]
fn s127_no_source_is_taken_away_for_what_may_pass() {
    let fixture = Fixture::new();
    let work = fixture.with_files("work", CARD);
    let mut spec = live("local/work", work.path.clone());
    spec.is_required = false;
    let config = config(&fixture, vec![spec]);
    let last = try_build(&config).unwrap();
    for (is_momentary, was_shown) in [(true, true), (true, false), (false, true)] {
        let last = was_shown.then(|| last.sources.clone());
        let mut built = Built { last, ..Built::default() };
        let place = work.path.clone();
        let problem = "too many open files".to_owned();
        let cause = SourceCause::Directory { place, problem, is_absent: false, is_momentary };
        let error = SourceError::new("local/work", &config.sources[0], &config.origin, cause);
        built.failed(&config, &config.sources[0], id_at(0), error);
        assert_eq!(built.errors.len(), usize::from(is_momentary && was_shown));
    }
}

#[test]
fn s137_a_part_of_a_commit_is_another_set_than_the_whole() {
    let fixture = Fixture::new();
    let git = fixture.with_files("cache/a/b", CARD);
    let config = config(&fixture, vec![repo("a/b")]);
    let whole = try_build(&config).unwrap();
    assert_eq!(whole.sources[0].unread, None);
    let id = git.git(&["rev-parse", "HEAD:tools"]);
    let (directory, name) = id.trim().split_at(2);
    let object = git.path.join(".git/objects").join(directory).join(name);
    fs::rename(&object, fixture.path().join("hidden")).unwrap();
    let shared = Shared::new(&config);
    let part = rebuild(&config, &shared, None, None).unwrap().snapshot;
    assert_eq!(part.sources[0].revision, whole.sources[0].revision);
    assert_ne!(part.id, whole.id);
    assert!(part.sources[0].unread.is_some_and(|unread| !unread.may_pass));
    assert_eq!(try_build(&config).unwrap().id, part.id);
    fs::rename(fixture.path().join("hidden"), &object).unwrap();
    let next = rebuild(&config, &shared, None, Some(&part)).unwrap().snapshot;
    assert_eq!((next.id, tree(&next)), (whole.id, tree(&whole)));
    // What the operating system refuses may be there in a moment.
    let failed = |error: StoreError| {
        let mut layers = Layers::default();
        let kind = FindingKind::Unreadable { error: error.to_string() };
        layers.findings.push(Finding { source: id_at(0), path: path("tools"), kind });
        let (problem, is_momentary) = (error.to_string(), error.is_momentary());
        layers.failure = is_momentary.then_some(ListingFailure { problem, is_momentary });
        layer::unread(&layers).unwrap().may_pass
    };
    assert_eq!((failed(no_descriptors()), failed(damaged())), (true, false));
}
