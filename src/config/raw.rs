//! The configuration file as users write it. One definition: the JSON Schema, the checks of `check.rs` and the
//! reading all come from these types, and their comments become the schema's descriptions.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

/// The configuration of a view: which sources it shows, in which order, where and how.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(title = "overlayfs-mount configuration", rename = "Configuration")]
pub(super) struct RawConfig {
    /// The sources of the view.
    pub(super) overlays: Option<RawOverlays>,
    /// The older way to list sources; counts only while `overlays.sources` is empty.
    pub(super) tool_server: Option<RawToolServer>,
    /// Kinds of content: a known name changes that row, a new name adds one.
    pub(super) surfaces: Option<BTreeMap<String, RawSurface>>,
    /// Which sources this view may show; `all` unless given.
    pub(super) access: Option<RawAccess>,
    /// Where repositories are looked for and kept.
    pub(super) repo_cache: Option<RawRepoCache>,
    /// What the daemon keeps for itself.
    pub(super) state: Option<RawState>,
    /// How the view is mounted and what it shows.
    pub(super) mount: Option<RawMount>,
}

/// The sources of the view.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Overlays")]
pub(super) struct RawOverlays {
    /// The sources in order: the first is at the bottom, the last on top.
    pub(super) sources: Option<Vec<RawSource>>,
}

/// One source: a repository (`repo`) or a directory (`path`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Source")]
pub(super) struct RawSource {
    /// The repository as `owner/repo`, looked for below `repoCache.path`.
    pub(super) repo: Option<String>,
    /// Branch, tag, full ref name or full commit id; omitted or empty means the repository's HEAD.
    #[serde(rename = "ref")]
    pub(super) git_ref: Option<Verbatim>,
    /// `public`, in any case and with blanks around; anything else is private.
    pub(super) visibility: Option<String>,
    /// Where to clone the repository from.
    pub(super) url: Option<String>,
    /// A directory of this machine, relative to this file.
    pub(super) path: Option<String>,
    /// The source's name of two components; `owner/repo` or `local/<directory>` unless given.
    pub(super) name: Option<String>,
    /// Sub-directory shown in `tools`; `tools` unless given, empty or null for off.
    pub(super) tools_subdir: GivenText,
    /// Sub-directory shown in `workflows`; `workflows` unless given, empty or null for off.
    pub(super) workflows_subdir: GivenText,
    /// Sub-directory shown in `.agents/skills`; `.agents/skills` unless given, empty or null for off.
    pub(super) skills_subdir: GivenText,
    /// Sub-directory shown in `personas`; off unless given.
    pub(super) personas_subdir: GivenText,
    /// File or directory shown in `prompts`; off unless given.
    pub(super) prompt_path: GivenText,
    /// Sub-directories by surface name, for any row of `surfaces`.
    pub(super) subdirs: Option<BTreeMap<String, GivenText>>,
    /// Whether a mount fails without this source; true unless given.
    pub(super) required: Option<bool>,
    /// Whether LFS pointers are served as the objects they name; false unless given.
    pub(super) lfs: Option<bool>,
    /// Whether the source is served from git objects or live; `git` for `repo`, `worktree` for `path` unless given.
    pub(super) mode: Option<RawMode>,
    /// How what is served is kept readable; `auto` unless given.
    pub(super) pin: Option<RawPin>,
}

/// The older way to list sources.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "ToolServer")]
pub(super) struct RawToolServer {
    /// Whether these sources count; true unless given.
    pub(super) enabled: Option<bool>,
    /// The repository of the first source as `owner/repo`; empty means no sources.
    pub(super) repo: GivenText,
    /// Its ref; omitted or empty means HEAD.
    #[serde(rename = "ref")]
    pub(super) git_ref: Option<Verbatim>,
    /// Its sub-directory with tools; omitted or empty means `tools`.
    pub(super) subdir: Option<String>,
    /// Its visibility: `public`, anything else is private.
    pub(super) visibility: Option<String>,
    /// More sources, above the first.
    pub(super) extra_sources: Option<Vec<RawExtraSource>>,
}

/// One more source of `toolServer`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "ExtraSource")]
pub(super) struct RawExtraSource {
    /// The repository as `owner/repo`; without one the entry is dropped.
    pub(super) repo: Option<String>,
    /// Its ref; omitted or empty means HEAD.
    #[serde(rename = "ref")]
    pub(super) git_ref: Option<Verbatim>,
    /// Its visibility: `public`, anything else is private.
    pub(super) visibility: Option<String>,
    /// Its sub-directory with tools; omitted or empty means `tools`.
    pub(super) subdir: Option<String>,
    /// Its sub-directory with workflows; omitted or empty means `workflows`.
    pub(super) workflows_subdir: Option<String>,
    /// Its sub-directory with skills; omitted or empty means `.agents/skills`.
    pub(super) skills_subdir: Option<String>,
}

/// One row of the table of surfaces; of a known row only what is given changes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Surface")]
pub(super) struct RawSurface {
    /// Where it appears in the view; a new row needs it.
    pub(super) at: Option<String>,
    /// The sub-directory of a source that says nothing else; a new row takes `at`, empty or null means off.
    pub(super) subdir: GivenText,
    /// What counts as an entry; `children` for a new row.
    pub(super) entries: Option<RawEntries>,
    /// The file that makes a directory a package; `pyproject.toml` unless given. Only with `entries: packages`.
    pub(super) marker: Option<String>,
    /// The deepest level at which a package is looked for; 2 unless given. Only with `entries: packages`.
    #[schemars(range(min = 1, max = 8))]
    pub(super) depth: Option<u32>,
}

/// Where repositories are looked for and kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "RepoCache")]
pub(super) struct RawRepoCache {
    /// Its directory; `/var/lib/centaur/repos` unless given.
    pub(super) path: Option<String>,
    /// Whether this program clones and fetches by itself; false unless given.
    pub(super) sync: Option<bool>,
    /// Time between two fetches, as `30s`; that unless given.
    pub(super) interval: Option<String>,
    /// The file with the access token; `/github-token/token` unless given.
    pub(super) token_file: Option<String>,
}

/// What the daemon keeps for itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "State")]
pub(super) struct RawState {
    /// Its directory; `/var/lib/overlayfs-mount` for root, else `$XDG_STATE_HOME/overlayfs-mount`.
    pub(super) dir: Option<String>,
    /// The most that cached content may take, in bytes or as `2GiB`; that unless given.
    pub(super) cache_bytes: Option<Verbatim>,
    /// The largest object of a git source that is read, in bytes or as `8GiB`; that unless given. A larger one is an error for who reads it.
    pub(super) object_bytes: Option<Verbatim>,
}

/// How the view is mounted and what it shows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(rename = "Mount")]
pub(super) struct RawMount {
    /// The mount point; `/home/agent/github` unless given.
    pub(super) at: Option<String>,
    /// Whether `<owner>/<repo>` shows each source whole; true unless given.
    pub(super) sources: Option<bool>,
    /// Whether those show a `.git`; false unless given.
    pub(super) git: Option<bool>,
    /// Whether extended attributes say where a file comes from; false unless given.
    pub(super) xattrs: Option<bool>,
    /// Which symbolic links are shown; `all` unless given.
    pub(super) links: Option<RawLinks>,
    /// Whether other users may read the view; `auto` unless given.
    pub(super) allow_other: Option<RawAllowOther>,
    /// The owner of every file; the user who mounts unless given.
    // The last number is none: chown(2) leaves the owner as it is for it.
    #[schemars(range(max = 4_294_967_294u32))]
    pub(super) uid: Option<u32>,
    /// The group of every file; that of the user who mounts unless given.
    // The last number is none: chown(2) leaves the owner as it is for it.
    #[schemars(range(max = 4_294_967_294u32))]
    pub(super) gid: Option<u32>,
    /// How long a stopping daemon serves those who still hold the mount; `10s` unless given.
    pub(super) stop_timeout: Option<String>,
    /// How long a revision set that was left stays readable; `24h` unless given.
    pub(super) keep: Option<String>,
}

/// Which sources a view may show.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Access")]
pub(super) enum RawAccess {
    /// Every source.
    All,
    /// Public sources only.
    Public,
    /// No source.
    None,
}

/// What a source is served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Mode")]
pub(super) enum RawMode {
    /// The objects of a git repository, at one commit.
    Git,
    /// A directory or a work tree, live.
    Worktree,
}

/// How what is served is kept readable.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Pin")]
pub(super) enum RawPin {
    /// By the cheapest means that this repository allows.
    Auto,
    /// By a copy of what is served.
    Copy,
}

/// What counts as an entry on a surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Entries")]
pub(super) enum RawEntries {
    /// Every direct child.
    Children,
    /// Directories with a marker, by their own name; every other child by its path.
    Packages,
    /// A file as `NN-<owner>__<repo>.md`; of a directory every child.
    Prompts,
}

/// Which symbolic links are shown.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Links")]
pub(super) enum RawLinks {
    /// All of them.
    All,
    /// Those that do not leave their source.
    Inside,
}

/// Whether other users may read the view: a truth value, or `auto`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AllowOther")]
pub(super) enum RawAllowOther {
    /// Yes or no.
    Sure(bool),
    /// Where this machine permits it.
    Word(RawAuto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub(super) enum RawAuto {
    /// Where this machine permits it.
    Auto,
}

/// A text for which absent and empty differ: absent means a default, `""` and null mean off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum GivenText {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there, with `""` or null.
    Empty,
    /// The key is there, with a text.
    Text(String),
}

impl<'de> Deserialize<'de> for GivenText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<String>::deserialize(deserializer)? {
            None => Self::Empty,
            Some(text) if text.is_empty() => Self::Empty,
            Some(text) => Self::Text(text),
        })
    }
}

impl JsonSchema for GivenText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Given".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "null"] })
    }
}

/// Text taken as written, also where YAML reads a number.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Verbatim(pub(super) String);

impl JsonSchema for Verbatim {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"] })
    }
}
