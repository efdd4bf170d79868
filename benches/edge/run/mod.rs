//! Side by side: which servers and cases, how often, in which order.
//!
//! The server under test has core 0 for itself, load and nodes share core 1. In each round every server is started,
//! warmed, measured in all cases and ended, one after the other, and the next round begins with another one: what the
//! machine does meanwhile meets all of them. Everything is on loopback and bounded in count and time.

mod backend;
mod cases;
mod load;
mod measure;
mod report;
mod servers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use report::Report;

/// Rows of the table.
#[allow(dead_code, reason = "the integration test looks here")]
pub(crate) const CASES: usize = Case::ALL.len();

use backend::Backend;
use cases::{Case, Size};
use servers::{Kind, Server};

/// Everything together ends after this, whatever happens.
const WHOLE_RUN_MAX: Duration = Duration::from_secs(3600);
/// The load needs two descriptors for each idle connection: the client's and the node's.
const IDLE_MAX: usize = 8000;

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    rounds: usize,
    quick: bool,
    idle: usize,
    servers: Vec<Kind>,
    only: String,
    /// Roomgate's binary.
    roomgate: PathBuf,
    /// Whether server and load get a core each.
    pinned: bool,
}

impl Options {
    /// Reads the command line; `roomgate` is the binary.
    ///
    /// # Errors
    /// What is wrong with it, for the person who wrote it.
    pub(crate) fn parse(
        arguments: impl Iterator<Item = String>,
        roomgate: Option<PathBuf>,
    ) -> Result<Self, String> {
        let roomgate = roomgate.ok_or("ROOMGATE_BIN does not name the binary (scripts/bench edge does)")?;
        let mut options = Self {
            rounds: 3,
            quick: false,
            idle: 1000,
            servers: Kind::ALL.to_vec(),
            only: String::new(),
            roomgate,
            pinned: true,
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(&argument, &value()?, 20)?,
                "--idle" => options.idle = number(&argument, &value()?, IDLE_MAX)?,
                "--only" => options.only = value()?,
                "--servers" => {
                    let names = value()?;
                    let kinds =
                        names.split(',').map(|name| Kind::of(name).ok_or(format!("no server {name}")));
                    options.servers = kinds.collect::<Result<_, _>>()?;
                }
                "--quick" => options.quick = true,
                // Cargo's word to every bench.
                "--bench" => {}
                _ => return Err(format!("unknown option {argument}")),
            }
        }
        if options.quick {
            (options.rounds, options.idle) = (1, options.idle.min(50));
        }
        Ok(options)
    }

    /// A short run of everything with this binary, on whatever cores there are.
    #[allow(dead_code, reason = "the integration test's way in")]
    pub(crate) fn smoke(roomgate: PathBuf) -> Self {
        let (servers, only) = (Kind::ALL.to_vec(), String::new());
        Self { rounds: 1, quick: true, idle: 20, servers, only, roomgate, pinned: false }
    }
}

fn number(option: &str, text: &str, max: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or(format!("{option} takes a number from 1 to {max}, not `{text}`"))
}

/// Measures everything.
///
/// # Errors
/// The first thing that went wrong. All servers have ended then, too.
pub(crate) fn run(options: &Options) -> Result<Report, String> {
    raise_descriptors();
    if options.pinned {
        pin_load()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            report = rounds(options) => report,
            // Ended here, the servers end too: they are dropped with the future above.
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            () = tokio::time::sleep(WHOLE_RUN_MAX) => Err(format!("not done within {WHOLE_RUN_MAX:?}")),
        }
    })
}

/// Reads the clock. Not the product's: without its crate this program is linked in seconds.
#[expect(clippy::disallowed_methods, reason = "a bench runs on real time")]
fn now() -> Instant {
    Instant::now()
}

async fn rounds(options: &Options) -> Result<Report, String> {
    let size = if options.quick { Size::quick(options.idle) } else { Size::full(options.idle) };
    let cases: Vec<Case> =
        Case::ALL.iter().copied().filter(|case| case.name().contains(&options.only)).collect();
    let backend = Backend::start().await?;
    let pair = servers::Pair::make()?;
    let mut figures: BTreeMap<(Kind, Case), Vec<f64>> = BTreeMap::new();
    let mut versions = BTreeMap::new();
    for round in 0..options.rounds {
        for turn in 0..options.servers.len() {
            let Some(kind) = options.servers.get((round + turn) % options.servers.len()).copied() else {
                continue;
            };
            versions.entry(kind).or_insert(kind.version(&options.roomgate)?);
            // Each case has a process of its own: what was busy before keeps pages and warm tables.
            for case in &cases {
                let named = |fault: String| format!("{}, {}: {fault}", kind.name(), case.name());
                let server = Server::start(kind, options.pinned, &options.roomgate, &pair, backend.nodes())
                    .await
                    .map_err(named)?;
                let measured = tokio::time::timeout(cases::CASE_MAX, case.measure(&server, &size)).await;
                let value = measured.map_err(|_| named("not done in time".into()))?.map_err(named)?;
                eprintln!(
                    "round {}: {}: {}: {value:.2} {}",
                    round + 1,
                    kind.name(),
                    case.name(),
                    case.unit()
                );
                figures.entry((kind, *case)).or_default().push(value);
            }
        }
    }
    let (rounds, quick, idle) = (options.rounds, options.quick, options.idle);
    let where_and_when = std::env::var("ROOMGATE_BENCH_ON").ok();
    Ok(Report { figures, versions, rounds, idle, quick, where_and_when })
}

/// Every idle connection takes descriptors, here and in the servers, which inherit the limit.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused the limit stays, and a case that needs more says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn pin_load() -> Result<(), String> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    if cores < 2 {
        return Err("two cores are needed: one for the server, one for the load".into());
    }
    let own = std::process::id().to_string();
    let done = Command::new("taskset").args(["-a", "-c", "-p", "1", &own]).stdout(Stdio::null()).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("taskset: {status}")),
        Err(error) => Err(format!("taskset: {error} (it is in Debian's util-linux)")),
    }
}
