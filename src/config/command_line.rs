//! The `--source` options become a configuration.

use std::path::Path;

use super::environment::Environment;
use super::key_path::KeyPath;
use super::load::Loaded;
use super::problem::ConfigError;
use super::raw::{RawConfig, RawOverlays, RawSource, Verbatim};
use super::report::Report;
use super::resolve::resolve;
use super::resolved::Origin;
use crate::union::source::SourceName;

/// The option, as messages name it.
pub(super) const OPTION: &str = "--source";

/// Reads `--source` options, the first at the bottom. Relative paths are relative to `env.cwd`.
///
/// What begins with `/`, `./` or `../`, or is `.` or `..`, is a directory. Else what looks like `owner/repo` or `owner/repo@REF` is a
/// repository. Else it is a directory if it exists as one.
///
/// # Errors
/// Tells every specification that is none of these, or names a directory that is not there.
pub fn from_sources(specs: &[String], env: &Environment) -> Result<Loaded, ConfigError> {
    let mut report = Report::new(None);
    // A specification that is an error leaves an empty entry, so that those after it keep their numbers.
    let sources: Vec<RawSource> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            let key = KeyPath::top(OPTION).index(i);
            source(spec, &key, env, &mut report).unwrap_or_default()
        })
        .collect();
    let raw = RawConfig {
        overlays: Some(RawOverlays { sources: Some(sources) }),
        ..RawConfig::default()
    };
    let config = resolve(&raw, Origin::CommandLine, &env.cwd, env, &mut report);
    Ok(Loaded { warnings: report.finish()?, config, text: Vec::new() })
}

fn source(spec: &str, key: &KeyPath, env: &Environment, report: &mut Report) -> Option<RawSource> {
    let is_directory = |path: &str| env.cwd.join(Path::new(path)).is_dir();
    if is_path(spec) {
        if !is_directory(spec) {
            let cure = "create the directory or correct the path";
            report.error(key, format!("directory `{spec}` is not there"), cure);
            return None;
        }
        return Some(local(spec));
    }
    if let Some(repository) = repository(spec, key, report) {
        if is_directory(spec) {
            let what = format!("`{spec}` is taken as a repository of the cache");
            report.warning(key, what, format!("for the directory write `./{spec}`"));
        }
        return Some(repository);
    }
    if !spec.is_empty() && is_directory(spec) {
        return Some(local(spec));
    }
    let cure = "write a directory, as `./overlay`, or `owner/repo`, or `owner/repo@REF`";
    report.error(key, format!("`{spec}` is neither a directory nor `owner/repo`"), cure);
    None
}

fn is_path(spec: &str) -> bool {
    spec == "." || spec == ".." || ["/", "./", "../"].iter().any(|start| spec.starts_with(start))
}

fn local(path: &str) -> RawSource {
    RawSource { path: Some(path.to_owned()), ..RawSource::default() }
}

fn repository(spec: &str, key: &KeyPath, report: &mut Report) -> Option<RawSource> {
    let (repo, git_ref) = match spec.split_once('@') {
        Some((repo, git_ref)) => (repo, Some(git_ref)),
        None => (spec, None),
    };
    SourceName::parse(repo).ok()?;
    if git_ref == Some("") {
        let cure = format!("write `{repo}@REF`, or `{repo}` for its HEAD");
        report.error(key, format!("`{spec}` has no ref after `@`"), cure);
    }
    let git_ref = git_ref.map(|text| Verbatim(text.to_owned()));
    Some(RawSource { repo: Some(repo.to_owned()), git_ref, ..RawSource::default() })
}
