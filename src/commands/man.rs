//! `man`: the manual, one page for the program and one for each subcommand.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::cli::Cli;
use super::failure::Failure;
use super::output;

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The subcommand whose page is printed (default: the page of the program)
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub into: Option<PathBuf>,
}

/// Pages of other programs that a page sends its reader to.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("overlayfs-mount", &["git(1)", "mount(8)", "fusermount3(1)", "fuse(4)"]),
    ("overlayfs-mount-mount", &["mount(8)", "fstab(5)", "fusermount3(1)"]),
    ("overlayfs-mount-unmount", &["umount(8)", "fusermount3(1)"]),
    ("overlayfs-mount-exec", &["user_namespaces(7)", "mount_namespaces(7)"]),
    ("overlayfs-mount-sync", &["git-fetch(1)", "gitcredentials(7)"]),
    ("overlayfs-mount-pass", &["fuse(4)", "unix(7)"]),
];

/// Prints a page, or writes all of them.
pub(super) fn run(arguments: &ManArgs) -> Result<ExitCode, Failure> {
    let program = program();
    if let Some(directory) = &arguments.into {
        write_all(&program, directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = &program;
    for name in &arguments.command {
        command = command.find_subcommand(name).ok_or_else(|| unknown(command, name))?;
    }
    let mut page = Vec::new();
    render(command, &program, &mut page).map_err(Failure::output)?;
    output::write(&page)
}

/// The whole command line, with the names that its parts have on pages.
fn program() -> Command {
    let mut program = Cli::command();
    program.build();
    program
}

fn unknown(command: &Command, name: &str) -> Failure {
    let known: Vec<_> = visible(command).map(Command::get_name).collect();
    let failure = Failure::usage(format!("there is no page for `{name}`"));
    if known.is_empty() {
        let page = page_name(command).replacen("overlayfs-mount-", "overlayfs-mount man ", 1);
        return failure.with_cure(page);
    }
    failure.with_cure(format!("leave it out, or give one of: {}", known.join(", ")))
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set())
}

fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn write_all(program: &Command, directory: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(format!("the manual cannot be written to `{}`: {error}", directory.display()))
            .with_cure("name a directory that you may write to, on a disk with room")
    };
    fs::create_dir_all(directory).map_err(failed)?;
    for command in commands(program) {
        let mut page = Vec::new();
        render(command, program, &mut page).map_err(failed)?;
        fs::write(directory.join(format!("{}.1", page_name(command))), page).map_err(failed)?;
    }
    Ok(())
}

/// A command and all below it that have a page.
fn commands(command: &Command) -> Vec<&Command> {
    let mut found = vec![command];
    found.extend(visible(command).flat_map(commands));
    found
}

/// A page. Its head is ours: a date that is not known has to be said to be empty, or the next field takes its place.
fn render(command: &Command, program: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let version = program.get_version().unwrap_or_default();
    let man = Man::new(command.clone());
    let title = page_name(command).to_uppercase();
    writeln!(
        page,
        ".TH {title} 1 \"\" \"overlayfs\\-mount {version}\" \"overlayfs\\-mount manual\""
    )?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if visible(command).next().is_some() {
        man.render_subcommands_section(page)?;
    }
    if let Some(help) = command.get_after_help() {
        let (heading, text) = section(&help.to_string());
        writeln!(page, ".SH {heading}\n{}", escaped(&text))?;
    }
    writeln!(page, ".SH SEE ALSO\n{}", see_also(command, program).join(",\n"))
}

/// `Exit status: 0 done` is a section of its own.
fn section(help: &str) -> (String, String) {
    match help.split_once(": ") {
        Some((heading, text)) => (heading.to_uppercase(), text.to_owned()),
        None => ("NOTES".to_owned(), help.to_owned()),
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('-', "\\-");
    text.lines().map(|line| line.trim_start_matches(['.', '\''])).collect::<Vec<_>>().join("\n")
}

/// The page above, those below, those of other programs; each in bold with its section.
fn see_also(command: &Command, program: &Command) -> Vec<String> {
    let name = page_name(command);
    let mut pages: Vec<String> = commands(program)
        .into_iter()
        .map(page_name)
        .filter(|other| is_beside(name, other))
        .map(|other| format!("{other}(1)"))
        .collect();
    let elsewhere = ELSEWHERE.iter().find(|(of, _)| *of == name);
    pages.extend(
        elsewhere.into_iter().flat_map(|(_, pages)| pages.iter().map(|page| (*page).to_owned())),
    );
    let bold = |page: &String| {
        let (name, rest) = page.split_once('(').unwrap_or((page, ""));
        format!("\\fB{}\\fR({rest}", name.replace('-', "\\-"))
    };
    pages.iter().map(bold).collect()
}

/// The one above, and those directly below.
fn is_beside(name: &str, other: &str) -> bool {
    let is_below = |lower: &str, upper: &str| {
        lower.strip_prefix(upper).is_some_and(|rest| rest.starts_with('-'))
    };
    is_below(name, other) || is_below(other, name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `name(1)` wherever a page has it, without its fonts.
    fn references(page: &str) -> Vec<String> {
        let text = page.replace("\\fR", "").replace("\\fB", "").replace("\\-", "-");
        let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == '`');
        words
            .filter_map(|word| word.trim_end_matches('.').strip_suffix("(1)"))
            .filter(|name| name.starts_with("overlayfs-mount"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_page_that_a_page_names_is_written() {
        let directory = tempfile::tempdir().unwrap();
        write_all(&program(), directory.path()).unwrap();
        let mut written = BTreeSet::new();
        let mut named = BTreeSet::new();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            written.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
            named.extend(references(&fs::read_to_string(&path).unwrap()));
        }
        let lacking: Vec<_> = named.difference(&written).collect();
        assert!(lacking.is_empty(), "pages that are named and not written: {lacking:?}");
        // Each is found from another one.
        let lonely: Vec<_> = written.difference(&named).collect();
        assert!(lonely.is_empty(), "pages that no page names: {lonely:?}");
        assert!(written.contains("overlayfs-mount-config-schema"), "{written:?}");
    }

    #[test]
    fn a_page_says_where_its_pieces_are() {
        let program = program();
        let mut page = Vec::new();
        render(program.find_subcommand("diff").unwrap(), &program, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.starts_with(".TH OVERLAYFS-MOUNT-DIFF 1 \"\" \"overlayfs\\-mount "), "{page}");
        for piece in [
            ".SH NAME",
            ".SH OPTIONS",
            ".SH EXIT STATUS\n0 no entry would change",
            ".SH SEE ALSO\n",
        ] {
            assert!(page.contains(piece), "no `{piece}` in {page}");
        }
    }
}
