//! The `roomgate` command.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use roomgate::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let exit = match cli::execute(Cli::parse(), &mut out, &mut err) {
        Ok(exit) => exit,
        Err(args) => {
            drop(out);
            cli::run::run(args, &mut err)
        }
    };
    exit.into()
}
