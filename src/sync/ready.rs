//! The file by which the platform's own checks see that the cache is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use jiff::{Timestamp, Unit};

use super::fetch::FetchCause;
use super::wanted::synced;
use crate::config::resolved::Config;

/// Its name in the cache.
const NAME: &str = ".repo-cache-ready";

/// Writes the file anew, in one step.
pub(super) fn write(cache: &Path, configs: &[&Config], now: Timestamp) -> Result<(), FetchCause> {
    let (file, temporary) = (cache.join(NAME), cache.join(".repo-cache-ready.tmp"));
    let written = File::create(&temporary).and_then(|mut out| {
        out.write_all(text(configs, now).as_bytes())?;
        out.sync_all()?;
        fs::rename(&temporary, &file)?;
        // The new name is on the disk before anybody is told (S101).
        File::open(cache)?.sync_all()
    });
    written.map_err(|error| {
        // What was not finished is nobody's; the file of the round before stays.
        fs::remove_file(&temporary).unwrap_or_default();
        FetchCause::of_cache(&file, &error)
    })
}

/// Takes the file away.
pub(super) fn remove(cache: &Path) -> io::Result<()> {
    match fs::remove_file(cache.join(NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn text(configs: &[&Config], now: Timestamp) -> String {
    let mut repositories: Vec<String> = Vec::new();
    // First the explicit refs, sorted; then each repository's first.
    let mut refs: Vec<(String, String)> = Vec::new();
    let mut visibilities: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |repo: &str, git_ref: Option<&str>, visibility: Option<String>| {
        if !repositories.iter().any(|known| known == repo) {
            repositories.push(repo.to_owned());
        }
        if let Some(git_ref) = git_ref.filter(|git_ref| !git_ref.is_empty())
            && !configs.iter().any(|config| config.platform.repository_refs.contains_key(repo))
            && !refs.iter().any(|(known, _)| known == repo)
        {
            refs.push((repo.to_owned(), git_ref.to_owned()));
        }
        let last = visibilities.entry(repo.to_owned()).or_insert_with(|| "private".to_owned());
        *last = visibility.unwrap_or_else(|| last.clone());
    };
    for config in configs {
        for row in &config.platform.repositories {
            let visibility = row.visibility.map(|visibility| visibility.to_string());
            add(&row.repo, row.git_ref.as_deref(), visibility);
        }
        for (spec, repo) in synced(config) {
            add(&repo.to_string(), spec.git_ref.as_deref(), Some(spec.visibility.to_string()));
        }
    }
    let pair = |(repo, value): (&String, &String)| format!("{repo}={value}");
    let explicit: BTreeMap<_, _> =
        configs.iter().flat_map(|config| &config.platform.repository_refs).collect();
    let explicit = explicit.into_iter().map(pair);
    let refs: Vec<String> = explicit.chain(refs.iter().map(|(a, b)| pair((a, b)))).collect();
    let visibilities: Vec<String> =
        repositories.iter().map(|repo| pair((repo, &visibilities[repo]))).collect();
    format!(
        "repositories={}\nrepository_refs={}\nrepository_visibilities={}\nsynced_at={}\n",
        repositories.join(" "),
        refs.join(" "),
        visibilities.join(" "),
        now.round(Unit::Second).unwrap_or(now)
    )
}
