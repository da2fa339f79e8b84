//! The platform's Helm values: the keys that are read of them, and the chart's defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::environment::Environment;
use super::key_path::KeyPath;
use super::raw::{GivenText, RawConfig, RawOverlays, RawToolServer, Verbatim};
use super::report::Report;
use super::resolve::{REPO_CACHE, resolve};
use super::resolved::{Config, Origin, PlatformRepository, PlatformValues};
use super::sources::{directory, visibility};
use super::units::LONGEST;

/// The chart's default for `toolServer.repo`.
const TOOL_SERVER_REPO: &str = "paradigmxyz/centaur";

/// The part of a values file that is read; everything else in it is for others.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Values")]
pub(super) struct RawValues {
    /// The sources of the view.
    overlays: Option<RawOverlays>,
    /// The older way to list sources.
    tool_server: Option<RawToolServer>,
    /// The platform's cache of repositories.
    repo_cache: Option<RawPlatformCache>,
    /// The platform's API.
    api_rs: Option<RawApi>,
}

/// The platform's cache of repositories.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "PlatformCache")]
struct RawPlatformCache {
    /// Whether the platform runs it; true unless given.
    enabled: Option<bool>,
    /// Its directory; `/var/lib/centaur/repos` unless given.
    host_path: Option<String>,
    /// Whether tools are loaded anew when it changes; true unless given.
    auto_reload: Option<bool>,
    /// Seconds between two runs of its sync; 30 unless given.
    #[schemars(range(min = 1))]
    sync_interval_seconds: Option<u64>,
    /// Repositories that it keeps besides the sources.
    repositories: Option<Vec<RawRepository>>,
    /// Refs by repository.
    repository_refs: Option<BTreeMap<String, Option<Verbatim>>>,
}

/// A repository that the platform keeps: `owner/repo`, or a mapping.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Repository")]
enum RawRepository {
    /// Just its name.
    Name(String),
    /// Its name and more.
    Row(RawRepositoryRow),
}

/// A repository that the platform keeps, with its ref.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "RepositoryRow")]
struct RawRepositoryRow {
    /// Its `owner/repo`.
    repo: Option<String>,
    /// Its ref.
    #[serde(rename = "ref")]
    git_ref: Option<Verbatim>,
    /// Its visibility.
    visibility: Option<String>,
}

/// The platform's API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Api")]
struct RawApi {
    /// Variables that the operator adds, by name.
    extra_env: Option<Value>,
}

/// Turns what the values say into a configuration; with errors in `report` the result is of no use.
pub(super) fn resolve_values(
    values: RawValues,
    origin: Origin,
    base: &Path,
    env: &Environment,
    report: &mut Report,
) -> Config {
    let mut tool_server = values.tool_server.unwrap_or_default();
    if tool_server.repo == GivenText::Absent {
        tool_server.repo = GivenText::Text(TOOL_SERVER_REPO.to_owned());
    }
    let raw = RawConfig {
        overlays: values.overlays,
        tool_server: Some(tool_server),
        ..RawConfig::default()
    };
    let mut config = resolve(&raw, origin, base, env, report);
    let cache = values.repo_cache.unwrap_or_default();
    let key = KeyPath::top("repoCache").key("hostPath");
    config.repo_cache.path = match cache.host_path.as_deref() {
        None => PathBuf::from(REPO_CACHE),
        Some(text) => directory(text, &key, base, report).unwrap_or_default(),
    };
    config.platform = platform(&cache, values.api_rs.and_then(|api| api.extra_env));
    let interval_secs = config.platform.sync_interval_secs;
    if interval_secs == 0 {
        let key = KeyPath::top("repoCache").key("syncIntervalSeconds");
        report.error(&key, "is zero: fetching would never pause", "write a number above zero");
    }
    config.repo_cache.interval = Duration::from_secs(interval_secs).min(LONGEST);
    config
}

fn platform(cache: &RawPlatformCache, extra_env: Option<Value>) -> PlatformValues {
    let defaults = PlatformValues::default();
    let refs = cache.repository_refs.iter().flatten().filter_map(|(repo, git_ref)| {
        let git_ref = written(git_ref.as_ref())?;
        Some((repo.clone(), git_ref))
    });
    PlatformValues {
        has_repo_cache: cache.enabled.unwrap_or(defaults.has_repo_cache),
        reloads_tools: cache.auto_reload.unwrap_or(defaults.reloads_tools),
        sync_interval_secs: cache.sync_interval_seconds.unwrap_or(defaults.sync_interval_secs),
        repositories: cache.repositories.iter().flatten().filter_map(repository).collect(),
        repository_refs: refs.collect(),
        extra_env: extra_env.map(variables).unwrap_or_default(),
    }
}

fn repository(raw: &RawRepository) -> Option<PlatformRepository> {
    let (repo, git_ref, shown_to) = match raw {
        RawRepository::Name(repo) => (repo, None, None),
        RawRepository::Row(row) => {
            let shown_to = row.visibility.as_deref().map(|text| visibility(Some(text)));
            (row.repo.as_ref()?, written(row.git_ref.as_ref()), shown_to)
        }
    };
    if repo.is_empty() {
        return None;
    }
    Some(PlatformRepository { repo: repo.clone(), git_ref, visibility: shown_to })
}

/// The text of a value that is neither absent nor empty.
fn written(text: Option<&Verbatim>) -> Option<String> {
    text.map(|text| text.0.clone()).filter(|text| !text.is_empty())
}

/// Variables from a mapping, as the chart has it, or from a list of `name` and `value`, as Kubernetes has it. What has
/// no value as text, as a reference to a secret, is not for us.
fn variables(extra_env: Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match extra_env {
        Value::Object(map) => {
            map.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
        }
        Value::Array(rows) => rows
            .iter()
            .filter_map(|row| Some((text(row.get("name")?)?, text(row.get("value")?)?)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeMap::new(),
    }
}
