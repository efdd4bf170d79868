//! Configuration: YAML with positions in, legal values out.
//!
//! `tree` reads marked YAML, `file` holds the records as written, `check` finds every fault at once and builds
//! [`settings`]. Nothing here changes a running process: the caller decides what to do with what was loaded.

pub mod settings;
pub mod watch;

mod check;
mod effective;
mod fault;
mod file;
mod presets;
mod read;
mod restart;
mod schema;
mod secrets;
#[cfg(test)]
mod tests;
mod tree;
mod values;

pub use fault::{Fault, Faults};
pub use restart::{restart_needed, unsafe_without_restart};
pub use schema::schema;

use std::path::Path;

use check::EdgeChoice;
use fault::{Collector, Mark};
use read::{Read as _, Reader};
use settings::{Name, Settings};

/// The configuration of `roomgate run` without a file: a conference on this machine.
pub const DEMO: &str = include_str!("../../conf/demo.yaml");

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the process runs on.
    pub settings: Settings,
    /// What is legal and probably not meant, by position.
    pub warnings: Vec<Fault>,
    /// The whole configuration as YAML: defaults written out, secrets as their references.
    pub effective: String,
    /// The file's text. It holds references of secrets, never a value.
    pub text: String,
}

/// What [`check_file`] found in a file without a fault.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What is legal and probably not meant, by position.
    pub warnings: Vec<Fault>,
    /// The edges of the file; empty without `edges`.
    pub edges: Vec<Name>,
}

/// Loads the configuration of an edge. `edge` is its name in `edges`; `None` for a file without `edges`.
///
/// # Errors
/// Every fault of the file: syntax, unknown keys, wrong values, what does not fit together, what cannot be read.
pub fn load(path: &Path, edge: Option<&str>) -> Result<Loaded, Faults> {
    let name = path.display().to_string();
    let text = read_text(path, &name)?;
    load_str(&name, &text, folder(path), edge)
}

/// Loads a configuration from text. `name` stands in messages; paths in the text are relative to `base`.
///
/// # Errors
/// As for [`load`]. Bytes of any kind are an error at worst, never a panic.
pub fn load_str(name: &str, text: &str, base: &Path, edge: Option<&str>) -> Result<Loaded, Faults> {
    let (file, settings, warnings) = understand(name, text, base, EdgeChoice::Run(edge))?;
    let effective = effective::render(&settings, &file, base);
    Ok(Loaded { settings, warnings, effective, text: text.to_owned() })
}

/// Loads the compiled-in demo.
///
/// # Errors
/// Only if `edge` names an edge: the demo has no `edges`.
pub fn load_demo(edge: Option<&str>) -> Result<Loaded, Faults> {
    load_str("demo.yaml", DEMO, Path::new(""), edge)
}

/// Checks a file for every edge that it names.
///
/// # Errors
/// As for [`load`].
pub fn check_file(path: &Path) -> Result<Checked, Faults> {
    let name = path.display().to_string();
    let text = read_text(path, &name)?;
    let (file, _, warnings) = understand(&name, &text, folder(path), EdgeChoice::Any)?;
    let edges = file.edges.get().map(|edges| edges.iter().map(|(_, name, _)| name.clone()).collect());
    Ok(Checked { warnings, edges: edges.unwrap_or_default() })
}

/// Reads a duration as it stands in the file (`500ms`, `10s`, `5m`), up to a week; `None` if it is none.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    values::parse_time(text)
}

fn understand(
    name: &str,
    text: &str,
    base: &Path,
    choice: EdgeChoice<'_>,
) -> Result<(file::File, Settings, Vec<Fault>), Faults> {
    // Editors on Windows put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut faults = Collector::default();
    let understood = tree::parse(text, &mut faults).and_then(|root| {
        let mut reader = Reader::new(std::mem::take(&mut faults));
        let file = file::File::read(&root, &mut reader);
        faults = reader.faults;
        file.map(|file| {
            let settings = check::check(&file, base, choice, &mut faults);
            (file, settings)
        })
    });
    let warnings = faults.finish(name, text)?;
    match understood {
        Some((file, settings)) => Ok((file, settings, warnings)),
        None => Err(only(name, "the file cannot be understood", "")),
    }
}

fn read_text(path: &Path, name: &str) -> Result<String, Faults> {
    let bytes =
        secrets::read_file(path, tree::BYTES_MAX).map_err(|(message, cure)| only(name, &message, &cure))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let mut faults = Collector::default();
        faults.fault(tree::place_of(&text, valid), "not UTF-8", "save the file as UTF-8");
        rendered(faults, name, &text)
    })
}

/// One fault about a file as a whole.
fn only(name: &str, message: &str, cure: &str) -> Faults {
    let mut faults = Collector::default();
    faults.fault(Mark::START, message, cure);
    rendered(faults, name, "")
}

fn rendered(faults: Collector, name: &str, text: &str) -> Faults {
    match faults.finish(name, text) {
        Err(faults) => faults,
        Ok(_) => Faults::default(),
    }
}

/// The folder that a file's paths are relative to.
fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
