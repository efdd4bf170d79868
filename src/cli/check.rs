//! `roomgate check FILE`: every fault at once, each with its place.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::config::{self, Fault, Faults};

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check it for this edge; without it, for every edge of the file
    #[arg(long, value_name = "NAME")]
    pub edge: Option<String>,
}

/// Checks a file: its secrets and certificates are read, nothing is opened or changed.
pub(super) fn check(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let checked = match &args.edge {
        Some(edge) => config::load(&args.file, Some(edge)).map(|loaded| (loaded.warnings, edge.clone())),
        None => config::check_file(&args.file).map(|checked| (checked.warnings, checked.edges.join(", "))),
    };
    match checked {
        Ok((warnings, edges)) => {
            print_warnings(&warnings, err)?;
            let edges = if edges.is_empty() { edges } else { format!(" (edges: {edges})") };
            writeln!(out, "{}: no fault{edges}", args.file.display())?;
            Ok(Exit::Ok)
        }
        Err(faults) => print_faults(&faults, err),
    }
}

/// Prints warnings as `check` does.
///
/// # Errors
/// Those of the writer.
pub fn print_warnings(warnings: &[Fault], err: &mut dyn Write) -> io::Result<()> {
    for warning in warnings {
        writeln!(err, "warning: {warning}")?;
    }
    Ok(())
}

/// Prints faults as `check` does.
///
/// # Errors
/// Those of the writer.
pub fn print_faults(faults: &Faults, err: &mut dyn Write) -> io::Result<Exit> {
    let total = faults.total();
    writeln!(err, "{faults}\n{total} {}", if total == 1 { "fault" } else { "faults" })?;
    Ok(Exit::Usage)
}
