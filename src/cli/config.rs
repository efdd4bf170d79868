//! `roomgate config show` and `roomgate config schema`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Exit;
use super::check::{print_faults, print_warnings};
use crate::config;

/// What to show.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration, checked; a secret shows where it is, never what it is
    Show(ShowArgs),
    /// Print the JSON schema of the file, for an editor
    Schema,
}

/// Arguments of `config show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Write every default out, rather than print the file as it is
    #[arg(long)]
    pub effective: bool,
    /// The configuration; without it, the demo
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For which edge; needed if the file has `edges`
    #[arg(long, value_name = "NAME")]
    pub edge: Option<String>,
}

/// Carries out `config ...`.
pub(super) fn config(command: &ConfigCommand, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let args = match command {
        ConfigCommand::Show(args) => args,
        ConfigCommand::Schema => {
            out.write_all(config::schema().as_bytes())?;
            return Ok(Exit::Ok);
        }
    };
    let edge = args.edge.as_deref();
    let loaded = match &args.config {
        Some(file) => config::load(file, edge),
        None => config::load_demo(edge),
    };
    match loaded {
        Ok(loaded) => {
            print_warnings(&loaded.warnings, err)?;
            out.write_all(if args.effective { loaded.effective.as_bytes() } else { loaded.text.as_bytes() })?;
            Ok(Exit::Ok)
        }
        Err(faults) => print_faults(&faults, err),
    }
}
