//! `env`: the variables by which the platform's programs find what a view shows. Reads the configuration only.

mod variables;

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::cli::ConfigArgs;
use super::failure::Failure;
use super::{input, output};
use variables::{Variables, variables};

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

/// Prints the variables of one program.
pub(super) fn run(arguments: &EnvArgs) -> Result<ExitCode, Failure> {
    let config = input::config(&arguments.config)?;
    let variables = variables(&config, arguments.program, arguments.style)?;
    match arguments.format {
        EnvFormat::Sh => output::write(sh(&variables).map_err(Failure::new)?.as_bytes()),
        EnvFormat::Json => output::json(&variables),
        EnvFormat::Yaml => output::write(yaml(&variables).map_err(Failure::new)?.as_bytes()),
    }
}

/// For `eval`.
fn sh(variables: &Variables) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for (name, value) in variables {
        writeln!(text, "export {name}='{}'", value.replace('\'', r"'\''"))?;
    }
    Ok(text)
}

/// A mapping; a string of JSON is one of YAML.
fn yaml(variables: &Variables) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for (name, value) in variables {
        writeln!(text, "{name}: {}", serde_json::Value::from(value.as_str()))?;
    }
    if text.is_empty() {
        text.push_str("{}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_in_every_format() {
        let variables = [("A", "it's $HOME"), ("B", "x: \"y\"\n")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(sh(&variables).unwrap(), "export A='it'\\''s $HOME'\nexport B='x: \"y\"\n'\n");
        assert_eq!(yaml(&variables).unwrap(), "A: \"it's $HOME\"\nB: \"x: \\\"y\\\"\\n\"\n");
        assert_eq!(yaml(&Variables::new()).unwrap(), "{}\n");
    }
}
