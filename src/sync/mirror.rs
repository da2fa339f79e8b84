//! One mirror of the cache: cloned, or brought up to what its remote has.
//!
//! A mirror is bare, holds the refs that are configured and no others, and its HEAD names the remote's default branch. A
//! clone is made beside its place and renamed into it; a fetch moves all refs or none. What fails leaves what was.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::error::{SourceCause, nearest};
use super::fetch::{Advertised, ChildRun, FetchCause, Git, HistoryDepth, Remote, Stop};
use super::places::MirrorPlaces;
use super::resolve::{Refs, resolve};
use super::shallow;
use super::wanted::{Mirror, Pair, REMOTE_HEAD, Want, covering};
use crate::store::git::Repository;
use crate::union::object::Oid;

/// Below it a mirror keeps a ref for each commit that is wanted by its id.
const COMMITS: &str = "refs/overlayfs-mount/commits/";

/// What became of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is where it was.
    Unchanged(Oid),
    /// It moved.
    From(Oid, Oid),
    /// It is new in a mirror that was there.
    Added(Oid),
    /// Its repository is new in the cache.
    Cloned(Oid),
}

/// What bringing mirrors up to date needs.
pub(super) struct MirrorUpdater<'a> {
    /// The repo cache.
    pub(super) cache: &'a Path,
    /// The program that fetches.
    pub(super) git: Git<'a>,
    /// The most time that fetching one repository may take.
    pub(super) fetch_timeout: Duration,
    /// The most time that everything else may take.
    pub(super) answer_timeout: Duration,
    /// Ends it early.
    pub(super) stop: &'a Stop,
    /// Whether the whole history is wanted.
    pub(super) wants_history: bool,
}

/// What became of each ref that was wanted, in order; or why nothing could be done for any.
type Outcomes = Result<Vec<Result<Moved, FetchCause>>, FetchCause>;

impl MirrorUpdater<'_> {
    /// Clones or fetches a repository. `hear` is given what git says of its progress.
    pub(super) fn update(&self, mirror: &Mirror, hear: &dyn Fn(&[u8])) -> Outcomes {
        let remote = mirror.remote.as_ref().map_err(Clone::clone)?;
        let places = MirrorPlaces::of(self.cache, mirror);
        places.refuse_foreign()?;
        if mirror.twin.is_none() {
            places.take_from_other_part()?;
        }
        let update = Update { updater: self, mirror, remote, places: &places, hear };
        if places.mirror.exists() {
            let fetched = update.fetch();
            if fetched.is_err() {
                // An unfinished pack may be what fills the disk.
                places.clean_mirror();
            }
            return fetched;
        }
        places.clear_clone()?;
        let cloned = update.clone();
        if cloned.is_err() {
            // On a full disk the next source needs the space.
            places.remove_clone().unwrap_or_default();
        }
        cloned
    }
}

/// One repository on its way.
struct Update<'a> {
    updater: &'a MirrorUpdater<'a>,
    mirror: &'a Mirror,
    remote: &'a Remote,
    places: &'a MirrorPlaces,
    hear: &'a dyn Fn(&[u8]),
}

/// The refs to fetch, and for each that is wanted and cannot be had why.
struct Chosen {
    pairs: BTreeSet<Pair>,
    missing: Vec<Option<FetchCause>>,
    /// What HEAD has to name; `None` leaves it.
    head: Option<String>,
}

impl Update<'_> {
    fn clone(&self) -> Outcomes {
        let advertised = self.ask()?;
        let mut chosen = self.choose(&advertised);
        let has_id = self.mirror.wants.iter().any(|want| want.id().is_some());
        if chosen.pairs.is_empty() && !has_id {
            return Ok(chosen.missing.into_iter().flatten().map(Err).collect());
        }
        let clone = &self.places.clone;
        self.updater.git.init(clone, advertised.is_sha256(), &self.answer())?;
        self.places.mark_clone()?;
        self.fetch_pairs(clone, &chosen.pairs)?;
        self.fetch_ids(clone, &mut chosen.missing)?;
        self.set_head(clone, chosen.head.as_deref())?;
        self.places.put_clone()?;
        self.places.link()?;
        let repository = open(&self.places.mirror)?;
        Ok(self.outcomes(&repository, chosen.missing, |_, now| Moved::Cloned(now)))
    }

    fn fetch(&self) -> Outcomes {
        let place = &self.places.mirror;
        self.places.clean_mirror();
        let repository = open(place)?;
        shallow::mend(place, &repository)?;
        self.tidy();
        let commit = |repository: &Repository, want: &Want| {
            resolve(repository, place, want.git_ref.as_deref()).ok().map(|(commit, _)| commit)
        };
        let wants = &self.mirror.wants;
        let before: Vec<_> = wants.iter().map(|want| commit(&repository, want)).collect();
        let mut missing = vec![None; wants.len()];
        let pairs = if let Some(known) = self.fetch_known(&repository)? {
            known
        } else {
            let chosen = self.choose(&self.ask()?);
            self.make_way(&repository, &chosen.pairs)?;
            self.fetch_pairs(place, &chosen.pairs)?;
            self.set_head(place, chosen.head.as_deref())?;
            missing = chosen.missing;
            chosen.pairs
        };
        self.uncover(&repository, &pairs)?;
        self.fetch_ids(place, &mut missing)?;
        shallow::settle(place)?;
        self.places.link()?;
        let repository = open(place)?;
        Ok(self.outcomes(&repository, missing, |index, now| match before[index] {
            Some(old) if old == now => Moved::Unchanged(now),
            Some(old) => Moved::From(old, now),
            None => Moved::Added(now),
        }))
    }

    /// Fetches what is wanted where the mirror knows already what each is at the remote: one question instead of two, and
    /// no list of all its refs. Nothing if the remote has to be asked.
    fn fetch_known(&self, repository: &Repository) -> Result<Option<BTreeSet<Pair>>, FetchCause> {
        let refs = Refs::of(repository);
        let has = |name: &str| refs.find(name).is_ok_and(|found| found.is_some());
        let mut pairs = BTreeSet::new();
        for want in self.mirror.wants.iter().filter(|want| want.id().is_none()) {
            let candidates = want.candidates();
            let Some(pair) = candidates.into_iter().find(|pair| has(&pair.local)) else {
                return Ok(None);
            };
            pairs.insert(pair);
            if want.is_head() {
                let Some(branch) = head_of(&self.places.mirror) else { return Ok(None) };
                if branch != REMOTE_HEAD {
                    pairs.insert(Pair::new(&branch, &branch));
                }
            }
        }
        match self.fetch_pairs(&self.places.mirror, &pairs) {
            Err(FetchCause::NoSuchRef { .. }) => return Ok(None),
            fetched => fetched?,
        }
        if !self.mirror.wants.iter().any(Want::is_head) {
            return Ok(Some(pairs));
        }
        // Another branch is the default now if HEAD went where ours did not.
        let repository = open(&self.places.mirror)?;
        let refs = Refs::of(&repository);
        let (ours, theirs) = (refs.find("HEAD"), refs.find(REMOTE_HEAD));
        let is_same = matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs);
        Ok(is_same.then_some(pairs))
    }

    fn ask(&self) -> Result<Advertised, FetchCause> {
        let wants = self.mirror.wants.iter().filter(|want| want.id().is_none());
        let names: BTreeSet<_> = wants.flat_map(Want::candidates).map(|pair| pair.remote).collect();
        let names = names.iter().map(String::as_str);
        self.updater.git.ls_remote(self.remote, names, &self.answer())
    }

    /// Finds each wanted ref among those that the remote has.
    fn choose(&self, advertised: &Advertised) -> Chosen {
        let mut pairs = BTreeSet::new();
        let mut missing = Vec::new();
        let is_head_wanted = self.mirror.wants.iter().any(Want::is_head);
        for want in &self.mirror.wants {
            let candidates = want.candidates();
            let is_there = |pair: &Pair| advertised.refs.contains_key(&pair.remote);
            let found = candidates.into_iter().find(is_there);
            missing.push(match found {
                None if want.id().is_none() => Some(self.missing(want, advertised)),
                Some(_) | None => None,
            });
            pairs.extend(found.filter(|_| want.id().is_none()));
        }
        let branch = advertised.default_branch.as_ref();
        let head = match branch.filter(|branch| advertised.refs.contains_key(*branch)) {
            Some(branch) => {
                if is_head_wanted {
                    pairs.insert(Pair::new(branch, branch));
                }
                Some(branch.clone())
            }
            // The remote's HEAD is detached, or names no branch: ours names the ref that follows it.
            None => is_head_wanted.then(|| REMOTE_HEAD.to_owned()),
        };
        Chosen { pairs, missing, head }
    }

    fn missing(&self, want: &Want, advertised: &Advertised) -> FetchCause {
        let remote = self.remote.to_string();
        match &want.git_ref {
            Some(git_ref) if !want.is_head() => FetchCause::NoSuchRef {
                git_ref: git_ref.clone(),
                remote,
                available: nearest(git_ref, advertised.short_names()),
            },
            Some(_) | None => {
                FetchCause::NoHead { remote, available: nearest("main", advertised.short_names()) }
            }
        }
    }

    fn fetch_pairs(&self, git_dir: &Path, pairs: &BTreeSet<Pair>) -> Result<(), FetchCause> {
        if pairs.is_empty() {
            return Ok(());
        }
        let refspecs: Vec<String> = pairs.iter().map(Pair::refspec).collect();
        let (updater, hear) = (self.updater, self.hear);
        let child = ChildRun { timeout: updater.fetch_timeout, stop: updater.stop, hear };
        updater.git.fetch(git_dir, self.remote, &refspecs, self.depth(git_dir), &child)
    }

    /// Fetches the commits that are wanted by their ids and are not there yet, one by one: the remote does not say which of
    /// many it lacks. Each gets a ref, so that it stays.
    fn fetch_ids(
        &self,
        git_dir: &Path,
        missing: &mut [Option<FetchCause>],
    ) -> Result<(), FetchCause> {
        for (want, missing) in self.mirror.wants.iter().zip(missing) {
            let Some(id) = want.id() else { continue };
            let local = format!("{COMMITS}{id}");
            let repository = open(git_dir)?;
            if repository.commit(&id).is_ok() {
                if Refs::of(&repository).find(&local).is_ok_and(|found| found.is_none()) {
                    let arguments = ["update-ref", &local, &id.to_string()];
                    self.updater.git.local(git_dir, arguments, &self.answer())?;
                }
                continue;
            }
            let pair = Pair::new(&id.to_string(), &local);
            match self.fetch_pairs(git_dir, &BTreeSet::from([pair])) {
                Err(FetchCause::NoSuchRef { remote, .. }) => {
                    let (git_ref, available) = (id.to_string(), Vec::new());
                    *missing = Some(FetchCause::NoSuchRef { git_ref, remote, available });
                }
                // The others have what they want.
                Err(
                    cause @ (FetchCause::Malformed { .. }
                    | FetchCause::Damaged { .. }
                    | FetchCause::Other { .. }),
                ) => *missing = Some(cause),
                fetched => fetched?,
            }
        }
        Ok(())
    }

    /// Removes refs that were wanted once and whose names leave no room for one that is wanted now: `a` for `a/b`.
    fn make_way(&self, repository: &Repository, pairs: &BTreeSet<Pair>) -> Result<(), FetchCause> {
        let is_below = |one: &str, other: &str| {
            one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
        };
        for name in Refs::of(repository).names() {
            let is_in_the_way = pairs
                .iter()
                .any(|pair| is_below(&pair.local, &name) || is_below(&name, &pair.local));
            if is_in_the_way {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Removes refs that a view would take for what was fetched now.
    fn uncover(&self, repository: &Repository, fetched: &BTreeSet<Pair>) -> Result<(), FetchCause> {
        let refs = Refs::of(repository);
        let mut names = covering(&self.mirror.wants, fetched);
        names.retain(|name| matches!(refs.find(name), Ok(Some(_))));
        names.iter().try_for_each(|name| self.remove(name))
    }

    fn remove(&self, name: &str) -> Result<(), FetchCause> {
        let arguments = ["update-ref", "-d", name];
        self.updater.git.local(&self.places.mirror, arguments, &self.answer())
    }

    fn set_head(&self, git_dir: &Path, head: Option<&str>) -> Result<(), FetchCause> {
        let Some(head) = head.filter(|head| head_of(git_dir).as_deref() != Some(head)) else {
            return Ok(());
        };
        self.updater.git.local(git_dir, ["symbolic-ref", "HEAD", head], &self.answer())
    }

    /// Tips only, unless the history is wanted or there already: what is whole is never made shallow.
    fn depth(&self, git_dir: &Path) -> HistoryDepth {
        let is_shallow = shallow::is_shallow(git_dir);
        let is_new = git_dir == self.places.clone;
        match (is_shallow, self.updater.wants_history) {
            (true, true) => HistoryDepth::Unshallow,
            (true, false) => HistoryDepth::Tips,
            (false, false) if is_new => HistoryDepth::Tips,
            (false, _) => HistoryDepth::All,
        }
    }

    fn outcomes(
        &self,
        repository: &Repository,
        missing: Vec<Option<FetchCause>>,
        moved: impl Fn(usize, Oid) -> Moved,
    ) -> Vec<Result<Moved, FetchCause>> {
        let place = &self.places.mirror;
        let outcome = |(index, (want, missing)): (usize, (&Want, Option<FetchCause>))| {
            if let Some(cause) = missing {
                return Err(cause);
            }
            let resolved = resolve(repository, place, want.git_ref.as_deref());
            let git_ref = || want.git_ref.clone().unwrap_or_else(|| "HEAD".to_owned());
            let (commit, _) = resolved.map_err(|cause| match cause {
                SourceCause::NotACommit { problem, .. } => {
                    let remote = self.remote.to_string();
                    FetchCause::NotACommit { git_ref: git_ref(), remote, problem }
                }
                cause => FetchCause::Unreadable {
                    git_ref: git_ref(),
                    place: place.display().to_string(),
                    problem: cause.to_string(),
                },
            })?;
            Ok(moved(index, commit))
        };
        self.mirror.wants.iter().zip(missing).enumerate().map(outcome).collect()
    }

    /// Packs what many fetches left, where that is worth it. Before the next fetch: what that takes from the refs is still shown, and git may
    /// remove it at once, since it goes by the age of files. The fetch is a success whatever comes of it.
    fn tidy(&self) {
        let (git, place) = (&self.updater.git, &self.places.mirror);
        if !self.places.is_untidy() {
            return;
        }
        let (timeout, stop) = (self.updater.fetch_timeout, self.updater.stop);
        let child = ChildRun { timeout, stop, hear: &|_| {} };
        if let Err(cause) = git.local(place, ["gc", "--auto", "--quiet"], &child) {
            tracing::warn!(mirror = %place.display(), %cause, "packing failed");
        }
    }

    fn answer(&self) -> ChildRun<'_> {
        let (timeout, stop) = (self.updater.answer_timeout, self.updater.stop);
        ChildRun { timeout, stop, hear: &|_| {} }
    }
}

fn open(place: &Path) -> Result<Repository, FetchCause> {
    Repository::open(place).map_err(|error| FetchCause::Unreadable {
        git_ref: "HEAD".to_owned(),
        place: place.display().to_string(),
        problem: error.to_string(),
    })
}

/// The ref that a mirror's HEAD names.
fn head_of(git_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(git_dir.join("HEAD")).ok()?;
    Some(text.strip_prefix("ref: ")?.trim().to_owned())
}
