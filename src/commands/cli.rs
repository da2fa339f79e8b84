//! The command line, as data: the list of subcommands, and what several of them take. What one of them takes is beside its code.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use super::check::CheckArgs;
pub use super::completions::CompletionsArgs;
pub use super::diff::DiffArgs;
pub use super::doctor::DoctorArgs;
pub use super::env::{EnvArgs, EnvFormat, EnvProgram, EnvStyle};
pub use super::exec::ExecArgs;
pub use super::explain::ExplainArgs;
pub use super::export::ExportArgs;
pub use super::ls::LsArgs;
pub use super::man::ManArgs;
pub use super::mount::MountArgs;
pub use super::pass::PassArgs;
pub use super::reload::ReloadArgs;
pub use super::schema::{ConfigCommand, ConfigCommandArgs};
pub use super::status::StatusArgs;
pub use super::sync::SyncArgs;
pub use super::unmount::UnmountArgs;
pub use super::upgrade::UpgradeArgs;
pub use super::wait::WaitArgs;

/// Mount a read-only union view of ordered git sources.
#[derive(Debug, Parser)]
#[command(
    name = "overlayfs-mount",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done, 1 failed, 2 usage or configuration."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One subcommand each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount the view; returns when it can be read
    Mount(MountArgs),
    /// Unmount a view; returns when it is gone and its daemon has ended
    Unmount(UnmountArgs),
    /// Check configuration and sources, and show what hides what; mounts nothing
    Check(CheckArgs),
    /// List the entries, each with its source, revision and what it hides
    Ls(LsArgs),
    /// Say why a path shows what it shows, or nothing
    Explain(ExplainArgs),
    /// Say which entries another configuration or other refs would change; mounts nothing
    Diff(DiffArgs),
    /// Write the same tree as plain files, put in place atomically
    Export(ExportArgs),
    /// Show what is mounted, from which revisions, and what is wrong
    Status(StatusArgs),
    /// Read configuration and refs anew; returns when every new look-up sees the result
    Reload(ReloadArgs),
    /// Have the program that is now on disk take over a view that was mounted with `--supervised`
    Upgrade(UpgradeArgs),
    /// Run a command with the view mounted for it alone: no root, no fusermount3
    Exec(ExecArgs),
    /// Mount for a daemon that has no privileges, and hand it the descriptor over a socket
    Pass(PassArgs),
    /// Print the variables by which the platform's programs find what a view shows
    Env(EnvArgs),
    /// Wait until the sources can be read, or a view is mounted and can be read
    Wait(WaitArgs),
    /// Clone and fetch the sources into the repo cache
    Sync(SyncArgs),
    /// Check this machine for what would stop a mount, and say what to do about it
    Doctor(DoctorArgs),
    /// Show how it works, without any file: mount samples, update one, and unmount
    Demo,
    /// Print the schema of the configuration file
    Config(ConfigCommandArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual: the page of the program, or of a subcommand
    Man(ManArgs),
}

/// Where the configuration comes from. Without any of these: `$OVERLAYFS_MOUNT_CONFIG`, `./overlays.yaml`,
/// `$XDG_CONFIG_HOME/overlayfs-mount/overlays.yaml`, `/etc/overlayfs-mount/overlays.yaml`.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub struct ConfigArgs {
    /// The configuration file (default: `overlays.yaml` here, else the user's, else the machine's)
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A Helm values file of the platform, in place of a configuration file
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// A source, without any file: PATH, or `owner/repo[@REF]`; repeat it, the last is on top
    #[arg(long = "source", value_name = "SPEC")]
    pub sources: Vec<String>,
}

impl ConfigArgs {
    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        self.config.is_some() || self.values.is_some() || !self.sources.is_empty()
    }

    /// The options as they are typed after another command, each after a blank.
    pub(super) fn as_typed(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let file =
            |option: &str, path: &PathBuf| format!(" {option} {}", quoted(&path.to_string_lossy()));
        let config = self.config.iter().map(|path| file("-c", path));
        let values = self.values.iter().map(|path| file("--values", path));
        let sources = self.sources.iter().map(|spec| format!(" --source {}", quoted(spec)));
        config.chain(values).chain(sources).collect()
    }
}

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// As is best here.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Fields of journald.
    Journald,
}
