//! The side-by-side benches work: every server answers every case, in a run too short for figures.

#[path = "../../benches/edge/run/mod.rs"]
mod run;

use std::path::PathBuf;

#[test]
fn nginx_haproxy_and_roomgate_serve_every_case() {
    let options = run::Options::smoke(PathBuf::from(env!("CARGO_BIN_EXE_roomgate")));
    let report = run::run(&options).unwrap();
    let text = report.to_string();
    assert_eq!(report.measured(), 3 * run::CASES, "{text}");
    // A head of three lines and a blank one, the table's head, and a row for each case.
    let rows = text.lines().filter(|line| line.starts_with("| ")).count();
    assert_eq!(rows, 2 + run::CASES, "{text}");
}

#[test]
fn the_command_line_is_checked() {
    for (line, fault) in [
        ("--rounds 0", "--rounds takes a number from 1 to 20, not `0`"),
        ("--idle 100000", "--idle takes a number from 1 to 8000, not `100000`"),
        ("--servers nginx,apache", "no server apache"),
        ("--only", "--only needs a value"),
        ("--fast", "unknown option --fast"),
    ] {
        let words = line.split(' ').map(str::to_owned);
        assert_eq!(run::Options::parse(words, Some(PathBuf::new())).unwrap_err(), fault);
    }
    assert!(run::Options::parse(std::iter::empty(), None).is_err(), "there must be a binary");
}
