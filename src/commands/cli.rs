//! The command line, as data.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use super::exec::ExecArgs;
pub use super::man::ManArgs;
pub use super::pass::PassArgs;
pub use super::upgrade::UpgradeArgs;
use crate::config;
use crate::control::http::Address;

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
    /// Have the program that is on disk now take over a view that was mounted with `--supervised`
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
    /// Say what of this machine would stop a mount, each with its cure
    Doctor(DoctorArgs),
    /// Mount sample sources, walk through them, update one, and unmount
    Demo,
    /// Things about the configuration file
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
    /// The configuration file
    #[arg(short = 'c', long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A Helm values file of the platform, as it is
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
}

/// Arguments of `mount`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct MountArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Serve many views: each `*.yaml` of this directory is the configuration of one, at its `mount.at`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ConfigArgs", "mountpoint", "fuse_fd", "fuse_socket"])]
    pub views: Option<PathBuf>,
    /// Where to mount (default: `mount.at` of the configuration), or `/dev/fd/N` as for `--fuse-fd`
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Serve a mount that was made already: its descriptor of /dev/fuse
    #[arg(long, value_name = "N", conflicts_with = "fuse_socket")]
    pub fuse_fd: Option<u16>,
    /// Serve a mount that `pass` makes: the path of its socket
    #[arg(long, value_name = "PATH")]
    pub fuse_socket: Option<PathBuf>,
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    pub foreground: bool,
    /// Clone and fetch the sources into the repo cache while mounted
    #[arg(long)]
    pub sync: bool,
    /// Show the revision set of the start for good: nothing that moves later is followed
    #[arg(long)]
    pub pin: bool,
    /// Have a second process keep the mount: if the one that serves it dies, another goes on, and nobody gets an error
    #[arg(long, conflicts_with_all = ["fuse_fd", "fuse_socket"])]
    pub supervised: bool,
    /// Serve metrics and health over HTTP: PORT for this machine only, HOST:PORT or `[IPV6]:PORT`
    /// (default: `$OVERLAYFS_MOUNT_METRICS`, else nowhere)
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<Address>,
    /// Mount options, as mount(8) gives them
    #[arg(short = 'o', long = "options", value_name = "OPT,...", value_delimiter = ',')]
    pub options: Vec<String>,
    /// Write the log to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// What the log looks like: auto, text, json or journald
    #[arg(long, value_name = "KIND", value_enum, default_value_t = LogFormat::Auto, hide_possible_values = true)]
    pub log_format: LogFormat,
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

/// Arguments of `unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    /// Where it is mounted
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: PathBuf,
    /// Detach it now, and let those who hold it finish
    #[arg(short = 'l', long)]
    pub lazy: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Look into skills, workflows and tools for what fails where they are used; exit 1 if there is any
    #[arg(long)]
    pub lint: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this surface
    #[arg(value_name = "SURFACE")]
    pub surface: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A path in the view, or a path below a mount
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(
    override_usage = "overlayfs-mount diff [OPTIONS] <--to <FILE>|--ref <SOURCE=REF>>",
    group(clap::ArgGroup::new("other").args(["to", "refs"])),
    after_help = "Exit status: 0 no entry would change, 1 some would, 2 anything else."
)]
pub struct DiffArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Compare with this configuration (a values file after `--values`)
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Compare with this ref for one source; repeat it for more
    #[arg(long = "ref", value_name = "SOURCE=REF")]
    pub refs: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The directory to write; what an earlier export left there is replaced
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only this surface, its entries directly in DIR
    #[arg(long, value_name = "NAME")]
    pub surface: Option<String>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where it is mounted (default: every mount)
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Exit 1 unless everything is ready
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Where it is mounted (default: the only mount)
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Whose variables
    #[arg(long = "for", value_name = "PROGRAM", value_enum, default_value_t = EnvProgram::Sandbox)]
    pub program: EnvProgram,
    /// One directory of the view, or one for each source
    #[arg(long, value_enum, default_value_t = EnvStyle::Union)]
    pub style: EnvStyle,
    /// How they are printed
    #[arg(long, value_enum, default_value_t = EnvFormat::Sh)]
    pub format: EnvFormat,
}

/// A program of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvProgram {
    /// Its API.
    Api,
    /// A sandbox of an agent.
    Sandbox,
    /// What runs workflows.
    WorkflowHost,
    /// What keeps repositories.
    RepoCache,
}

/// What a list of directories is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvStyle {
    /// The one directory of the view that shows all.
    Union,
    /// One directory for each source.
    List,
}

/// How variables are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EnvFormat {
    /// Commands for `eval`.
    Sh,
    /// One object of strings.
    Json,
    /// One mapping of strings.
    Yaml,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 ready, 1 not ready in time, 2 usage or configuration.")]
pub struct WaitArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Wait for the view that is mounted there, and not for the sources
    #[arg(value_name = "MOUNTPOINT", conflicts_with_all = ["config", "values", "sources"])]
    pub mountpoint: Option<PathBuf>,
    /// Wait until the view shows this revision set: its id, or the first digits of it
    #[arg(long, value_name = "ID", requires = "mountpoint", value_parser = revision)]
    pub revision: Option<String>,
    /// How long to wait; `0` looks once
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub timeout: Duration,
}

/// Eight hexadecimal digits or more tell one set from all others.
fn revision(text: &str) -> Result<String, String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if (8..=64).contains(&text.len()) && text.bytes().all(is_digit) {
        return Ok(text.to_owned());
    }
    Err("give 8 to 64 lower-case hexadecimal digits, as `status` and `.overlay/revision` print them".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| config::DURATION_CURE.to_owned())
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Do one round and exit: 0 if all of the cache is as the remotes are, else 1 (default: a round each
    /// `repoCache.interval` until SIGTERM)
    #[arg(long)]
    pub once: bool,
    /// Serve metrics and health over HTTP: PORT for this machine only, HOST:PORT or `[IPV6]:PORT`
    /// (default: `$OVERLAYFS_MOUNT_METRICS`, else nowhere)
    #[arg(long, value_name = "ADDR", conflicts_with = "once")]
    pub metrics: Option<Address>,
    /// What is said looks like a log: text, json or journald (auto: for people)
    #[arg(long, value_name = "KIND", value_enum, default_value_t = LogFormat::Auto, hide_possible_values = true)]
    pub log_format: LogFormat,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigCommandArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the JSON Schema of the configuration file
    Schema,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
