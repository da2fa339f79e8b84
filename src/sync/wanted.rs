//! What the configuration wants in the repo cache: mirrors, and refs of each.

use std::collections::{BTreeSet, HashSet};

use super::error::configured_at;
use super::fetch::{FetchCause, Remote};
use super::label::labels;
use super::resolve::candidates;
use crate::config::resolved::{Config, Location, Mode, SourceSpec};
use crate::store::git::oid;
use crate::union::object::Oid;
use crate::union::source::{SourceName, Visibility};

/// One repository of the cache and what is wanted of it.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    /// Its `owner/repo` below the cache.
    pub(super) repo: SourceName,
    /// The part of the cache that it is in.
    pub(super) visibility: Visibility,
    /// Where it is cloned from.
    pub(super) remote: Result<Remote, FetchCause>,
    /// The refs that are wanted, in the order of the configuration.
    pub(super) wants: Vec<Want>,
    /// Whether a mirror of the same repository is wanted in the other part too, and which of the two is.
    pub(super) twin: Option<Twin>,
}

/// Which of two mirrors of one repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twin {
    /// The one that the configuration names first.
    First,
    /// The other one, to which `<owner>/<repo>` leads.
    Last,
}

/// A ref that somebody wants.
#[derive(Debug, Clone)]
pub(super) struct Want {
    /// What commands call the source.
    pub(super) label: String,
    /// The ref as configured; `None` means HEAD.
    pub(super) git_ref: Option<String>,
    /// Where it is configured.
    pub(super) configured_at: String,
    /// The position of its configuration among those that are kept up to date together.
    pub(super) of: usize,
}

impl Want {
    /// The commit, if the ref is a full id.
    pub(super) fn id(&self) -> Option<Oid> {
        oid(self.git_ref.as_deref()?.as_bytes())
    }

    /// True if it is the remote's HEAD.
    pub(super) fn is_head(&self) -> bool {
        self.git_ref.as_deref().is_none_or(|git_ref| git_ref == "HEAD")
    }

    /// The refs of a remote that it may stand for, in the order of the look-up, each with its name in the mirror.
    pub(super) fn candidates(&self) -> Vec<Pair> {
        let Some(git_ref) = self.git_ref.as_deref().filter(|_| !self.is_head()) else {
            return vec![Pair::new("HEAD", REMOTE_HEAD)];
        };
        if git_ref.starts_with("refs/") {
            return vec![Pair::new(git_ref, git_ref)];
        }
        let same = ["refs/heads/", "refs/tags/", "refs/"].map(|at| format!("{at}{git_ref}"));
        let mut pairs: Vec<Pair> = same.iter().map(|name| Pair::new(name, name)).collect();
        if let Some(branch) = git_ref.strip_prefix("origin/") {
            let local = format!("refs/remotes/origin/{branch}");
            pairs.push(Pair::new(&format!("refs/heads/{branch}"), &local));
        }
        pairs
    }
}

/// What a mirror calls the commit of its remote's HEAD.
pub(super) const REMOTE_HEAD: &str = "refs/remotes/origin/HEAD";

/// A ref of a remote and its name in the mirror.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    /// Its full name at the remote.
    pub(super) remote: String,
    /// Its full name in the mirror.
    pub(super) local: String,
}

impl Pair {
    /// Puts the two names together.
    pub(super) fn new(remote: &str, local: &str) -> Self {
        Self { remote: remote.to_owned(), local: local.to_owned() }
    }

    /// As git is told it; the ref moves wherever the remote's did.
    pub(super) fn refspec(&self) -> String {
        format!("+{}:{}", self.remote, self.local)
    }
}

/// The names by which a view would find another ref than the one that was fetched for what is wanted: as a branch that is a tag at the remote
/// now. Not those that were fetched too, nor any that somebody wants who got nothing: it keeps what it has.
pub(super) fn covering(wants: &[Want], fetched: &BTreeSet<Pair>) -> Vec<String> {
    let got = |want: &Want| want.candidates().into_iter().find(|pair| fetched.contains(pair));
    let without = wants.iter().filter(|want| want.id().is_none() && got(want).is_none());
    let kept = without.flat_map(Want::candidates).chain(fetched.iter().cloned());
    let kept: HashSet<String> = kept.map(|pair| pair.local).collect();
    let mut names = Vec::new();
    for want in wants {
        let (Some(git_ref), Some(pair)) = (&want.git_ref, got(want)) else { continue };
        let before = candidates(git_ref).into_iter().take_while(|name| *name != pair.local);
        names.extend(before.filter(|name| !kept.contains(name)));
    }
    names
}

/// The sources that are kept in the cache: those that this view may show and that are served from commits of it.
pub(super) fn synced(config: &Config) -> impl Iterator<Item = (&SourceSpec, &SourceName)> {
    config.shown_sources().filter_map(|spec| match (&spec.location, spec.mode) {
        (Location::Repo { repo, .. }, Mode::Git) => Some((spec, repo)),
        (Location::Repo { .. }, Mode::Live) | (Location::Path(_), Mode::Git | Mode::Live) => None,
    })
}

/// The mirrors that configurations want, each once: of each first what the platform keeps besides, then the sources.
pub(super) fn wanted(configs: &[&Config]) -> Vec<Mirror> {
    let mut drafts = Vec::new();
    for (config, of) in configs.iter().zip(0..) {
        draft(config, of, &mut drafts);
    }
    let mut mirrors: Vec<_> = drafts.into_iter().map(MirrorDraft::finish).collect();
    for position in 0..mirrors.len() {
        let repo = mirrors[position].repo.clone();
        if let Some(first) = mirrors[..position].iter_mut().find(|first| first.repo == repo) {
            first.twin = Some(Twin::First);
            mirrors[position].twin = Some(Twin::Last);
        }
    }
    mirrors
}

fn draft(config: &Config, of: usize, drafts: &mut Vec<MirrorDraft>) {
    for row in &config.platform.repositories {
        let Ok(repo) = SourceName::parse(&row.repo) else {
            tracing::warn!(repo = %row.repo, "`repoCache.repositories` lists what is no `owner/repo`");
            continue;
        };
        let git_ref = config.platform.repository_refs.get(&row.repo).or(row.git_ref.as_ref());
        let source = synced(config).filter(|(_, name)| **name == repo).last();
        if git_ref.is_none() && source.is_some() {
            continue;
        }
        let visibility = row.visibility.or(source.map(|(spec, _)| spec.visibility));
        let visibility = visibility.unwrap_or(Visibility::Private);
        MirrorDraft::of(drafts, &repo, visibility, None).wants.push(Want {
            label: repo.to_string(),
            git_ref: git_ref.filter(|git_ref| !git_ref.is_empty()).cloned(),
            configured_at: configured_at(None, &config.origin),
            of,
        });
    }
    let specs: Vec<&SourceSpec> = config.shown_sources().collect();
    for (spec, label) in specs.iter().zip(labels(&specs)) {
        let (Location::Repo { repo, url }, Mode::Git) = (&spec.location, spec.mode) else {
            continue;
        };
        MirrorDraft::of(drafts, repo, spec.visibility, url.as_deref()).wants.push(Want {
            label,
            git_ref: spec.git_ref.clone(),
            configured_at: configured_at(spec.line, &config.origin),
            of,
        });
    }
}

/// A mirror while its sources are read.
struct MirrorDraft {
    repo: SourceName,
    visibility: Visibility,
    /// The different URLs that its sources give.
    urls: Vec<String>,
    wants: Vec<Want>,
}

impl MirrorDraft {
    /// The mirror of a repository in one part of the cache.
    fn of<'a>(
        drafts: &'a mut Vec<Self>,
        repo: &SourceName,
        visibility: Visibility,
        url: Option<&str>,
    ) -> &'a mut Self {
        let is_it = |draft: &Self| draft.repo == *repo && draft.visibility == visibility;
        let index = drafts.iter().position(is_it).unwrap_or_else(|| {
            let (urls, wants) = (Vec::new(), Vec::new());
            drafts.push(Self { repo: repo.clone(), visibility, urls, wants });
            drafts.len() - 1
        });
        let draft = &mut drafts[index];
        let is_new = |url: &&str| !draft.urls.iter().any(|known| known == url);
        let url = url.filter(is_new).map(str::to_owned);
        draft.urls.extend(url);
        draft
    }

    fn finish(self) -> Mirror {
        let remote = match self.urls.as_slice() {
            [] => Remote::by_default(&self.repo),
            [url] => Remote::parse(url),
            [first, second, ..] => Remote::parse(first).and_then(|first| {
                Err(FetchCause::TwoUrls {
                    repo: self.repo.to_string(),
                    first: first.to_string(),
                    second: Remote::parse(second)?.to_string(),
                })
            }),
        };
        let Self { repo, visibility, wants, .. } = self;
        Mirror { repo, visibility, remote, wants, twin: None }
    }
}
