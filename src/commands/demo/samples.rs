//! The sample sources, embedded in the program.

/// A sample source.
pub(super) struct Sample {
    /// Its `owner/repo`.
    pub(super) name: &'static str,
    /// Its `promptPath`.
    pub(super) prompt_path: Option<&'static str>,
    /// Paths and texts.
    pub(super) files: &'static [(&'static str, &'static str)],
}

/// The samples, bottom first.
pub(super) const SOURCES: &[Sample] = &[
    Sample {
        name: "acme/base",
        prompt_path: Some("services/sandbox/SYSTEM_PROMPT.md"),
        files: &[
            (
                ".agents/skills/review/SKILL.md",
                include_str!("samples/base/.agents/skills/review/SKILL.md"),
            ),
            (
                ".agents/skills/review/checklist.md",
                include_str!("samples/base/.agents/skills/review/checklist.md"),
            ),
            (
                ".agents/skills/summarize/SKILL.md",
                include_str!("samples/base/.agents/skills/summarize/SKILL.md"),
            ),
            (
                "services/sandbox/SYSTEM_PROMPT.md",
                include_str!("samples/base/services/sandbox/SYSTEM_PROMPT.md"),
            ),
            (
                "tools/productivity/slack/pyproject.toml",
                include_str!("samples/base/tools/productivity/slack/pyproject.toml"),
            ),
            (
                "tools/productivity/slack/slack.py",
                include_str!("samples/base/tools/productivity/slack/slack.py"),
            ),
            (
                "tools/search/pyproject.toml",
                include_str!("samples/base/tools/search/pyproject.toml"),
            ),
            ("tools/search/search.py", include_str!("samples/base/tools/search/search.py")),
            ("workflows/triage.py", include_str!("samples/base/workflows/triage.py")),
        ],
    },
    Sample {
        name: "acme/team",
        prompt_path: None,
        files: &[
            (
                ".agents/skills/review/SKILL.md",
                include_str!("samples/team/.agents/skills/review/SKILL.md"),
            ),
            ("tools/slack/pyproject.toml", include_str!("samples/team/tools/slack/pyproject.toml")),
            ("tools/slack/slack.py", include_str!("samples/team/tools/slack/slack.py")),
            ("workflows/release.py", include_str!("samples/team/workflows/release.py")),
        ],
    },
];

/// What is pushed to the team's source while the view is mounted.
pub(super) const UPDATE: Sample = Sample {
    name: "acme/team",
    prompt_path: None,
    files: &[(
        ".agents/skills/review/SKILL.md",
        include_str!("samples/update/.agents/skills/review/SKILL.md"),
    )],
};
