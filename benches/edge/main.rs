//! `scripts/bench edge`: Nginx, HAProxy and Roomgate in turn on one core, and what each costs.
#![allow(
    unused_imports,
    dead_code,
    reason = "Cargo compiles a bench's unit tests, which tests/it runs, without a harness"
)]

mod run;

use std::path::PathBuf;
use std::process::ExitCode;

/// What can be said on the command line.
const USAGE: &str =
    "usage: scripts/bench edge [--rounds N] [--quick] [--idle N] [--servers A,B] [--only WORD]
  --rounds N     rounds, 1 to 20; 3 unless said
  --quick        one round of few connections: shows that it works, its figures mean little
  --idle N       idle connections and tunnels, up to 8000; 1000 unless said
  --servers A,B  of nginx, haproxy, roomgate; all unless said
  --only WORD    only the cases whose name holds it";

fn main() -> ExitCode {
    let roomgate = std::env::var_os("ROOMGATE_BIN").map(PathBuf::from);
    let options = match run::Options::parse(std::env::args().skip(1), roomgate) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("error: {fault}\n{}", USAGE);
            return ExitCode::from(2);
        }
    };
    match run::run(&options) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}
