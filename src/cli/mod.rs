//! The `roomgate` command: one file per subcommand.
//!
//! Exit codes: 0; 1 for a failure; 2 for a wrong command line or a faulty configuration. What was asked for goes to
//! standard output; faults and warnings go to standard error.

pub mod check;
pub mod config;
pub mod explain;
pub mod run;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Arguments of the command.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "roomgate",
    version,
    about = "The edge of a video-conference service: HTTPS, WSS and UDP media, with every room on one healthy node",
    after_help = "To try it out: `roomgate run`, then open https://localhost:8443.\n\
                  Exit codes: 0; 1 failure; 2 wrong command line or faulty configuration.\n\
                  ROOMGATE_LOG sets what is logged, for example ROOMGATE_LOG=roomgate=debug."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM; SIGHUP or a change of the file reloads the configuration
    Run(RunArgs),
    /// Check a configuration and print every fault in it, with its line
    Check(check::CheckArgs),
    /// Show the configuration, or the schema of its file
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Say what would become of a request, and why
    Explain(explain::ExplainArgs),
    /// Print the version
    Version,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// The configuration; without it, the demo: a conference on https://localhost:8443
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which edge of the file this one is; needed if the file has `edges`
    #[arg(long, value_name = "NAME")]
    pub edge: Option<String>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It was right to ask, and it failed.
    Failure,
    /// A wrong command line or a faulty configuration.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::SUCCESS,
            Exit::Failure => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Carries out every command but `run`, which it hands back.
///
/// # Errors
/// The arguments of `run`: it needs the whole process.
pub fn execute(cli: Cli, out: &mut dyn Write, err: &mut dyn Write) -> Result<Exit, RunArgs> {
    let done = match cli.command {
        Command::Run(args) => return Err(args),
        Command::Check(args) => check::check(&args, out, err),
        Command::Config(command) => config::config(&command, out, err),
        Command::Explain(args) => explain::explain(&args, out, err),
        Command::Version => writeln!(out, "roomgate {}", env!("CARGO_PKG_VERSION")).map(|()| Exit::Ok),
    };
    // A reader that went away (`roomgate config schema | head`) is not worth a word.
    Ok(done.unwrap_or(Exit::Failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> (Exit, String, String) {
        let cli = Cli::try_parse_from([&["roomgate"], arguments].concat()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = execute(cli, &mut out, &mut err).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_command_line_is_consistent_and_helps() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        for word in ["run", "check", "config", "explain", "version", "https://localhost:8443", "Exit codes"] {
            assert!(help.contains(word), "{word}: {help}");
        }
        for wrong in [&["run", "--nonsense"][..], &["check"], &["nonsense"], &[]] {
            let error = Cli::try_parse_from([&["roomgate"], wrong].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn run_is_handed_back_with_its_arguments() {
        let cli = Cli::try_parse_from(["roomgate", "run", "-c", "a.yaml", "--edge", "e1"]).unwrap();
        let args = execute(cli, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert_eq!((args.config, args.edge), (Some(PathBuf::from("a.yaml")), Some("e1".to_owned())));
    }

    #[test]
    fn version_and_schema_go_to_standard_output() {
        let (exit, out, err) = run(&["version"]);
        assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
        assert!(out.starts_with("roomgate "));
        let (exit, out, _) = run(&["config", "schema"]);
        assert_eq!(exit, Exit::Ok);
        assert_eq!(out, crate::config::schema());
    }

    #[test]
    fn check_says_ok_or_prints_every_fault_and_exits_with_2() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("roomgate.yaml");
        std::fs::write(&file, crate::config::DEMO).unwrap();
        let path = file.to_str().unwrap();
        let (exit, out, err) = run(&["check", path]);
        assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
        assert!(out.contains("no fault"), "{out}");

        let broken = crate::config::DEMO
            .replace("embedded", "embeded")
            .replace("pool: workers", "pool: worker")
            .replace("127.0.0.1:9180", "9180");
        std::fs::write(&file, broken).unwrap();
        let (exit, out, err) = run(&["check", path]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        for word in ["did you mean \"embedded\"?", "did you mean \"workers\"?", "write \":9180\"", "faults"] {
            assert!(err.contains(word), "{word}: {err}");
        }
    }

    #[test]
    fn show_prints_the_file_or_all_of_it() {
        let (exit, out, _) = run(&["config", "show"]);
        assert_eq!((exit, out.as_str()), (Exit::Ok, crate::config::DEMO));
        let (exit, out, _) = run(&["config", "show", "--effective"]);
        assert_eq!(exit, Exit::Ok);
        assert!(out.contains("linger: 5m"), "{out}");
        let (exit, _, err) = run(&["config", "show", "-c", "/nonexistent/roomgate.yaml"]);
        assert_eq!(exit, Exit::Usage);
        assert!(err.contains("cannot read /nonexistent/roomgate.yaml"), "{err}");
    }

    #[test]
    fn explain_tells_site_route_room_node_and_headers() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("roomgate.yaml");
        let text = "version: 1\nlisteners: { http: { bind: [\"127.0.0.1:0\"] } }\nsites: { meet.test: { app: jitsi, pool: shards } }\n\
                    pools:\n  shards:\n    check: { http: / }\n    nodes:\n      s1: { host: 10.0.1.11, web: 80, prosody: 5280, jicofo: 8888 }\n      \
                    s2: { host: 10.0.1.12, web: 80, prosody: 5280, jicofo: 8888, region: eu }\n";
        std::fs::write(&file, text).unwrap();
        let explain = |url: &str, more: &[&str]| {
            let path = file.to_str().unwrap();
            run(&[&["explain", "-c", path, url], more].concat())
        };
        let (exit, out, err) = explain("https://meet.test/T/http-bind?room=R%2541_s2&token=x", &[]);
        assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
        for line in [
            "request      GET https://meet.test/T/http-bind?room=R%2541_s2&token=x\n",
            "outcome      sent to s2 of pool shards\n",
            "site         meet.test\n",
            "             {tenant} is \"T\"\n",
            "room         t/ra_s2 (site meet.test, pool shards)\n",
            "             as sent: R%2541_s2\n",
            "             decoded: R%41_s2\n",
            "             decoded again: RA_s2\n",
            "placement    the room has no place; it would get s2, as the route prefers it\n",
            "node         shards/s2, service prosody at 10.0.1.12:5280, region eu\n",
            "node gets    /http-bind?prefix=T&room=R%2541_s2&token=x\n",
            "             X-Forwarded-For: 192.0.2.1\n",
        ] {
            assert!(out.contains(line), "{line}\n{out}");
        }
        assert!(out.lines().any(|line| line.starts_with("route        bosh: path matches ")), "{out}");
        assert!(out.to_lowercase().contains("x-jitsi-shard: s2\n"), "{out}");
        let (_, out, _) = explain("https://meet.test/_unlock?room=a", &["--json"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["route"]["name"], "unlock", "{out}");
        assert_eq!(json["room"]["key"], "a", "{out}");
        for (url, expected) in [
            ("https://other.test/", "421: no site has the name other.test"),
            ("https://meet.test/%2e%2e%2f..%2f", "400: the path leaves its root"),
            ("https://meet.test/http-bind?room=%252525", "400: the room name is percent-encoded"),
            ("https://meet.test/colibri-ws/x/y/z", "404"),
        ] {
            let (exit, out, _) = explain(url, &[]);
            assert!(exit == Exit::Ok && out.contains(&format!("outcome      {expected}")), "{url}: {out}");
        }
        let (exit, _, err) = explain("meet.test/x", &[]);
        assert!(exit == Exit::Usage && err.contains("write https://HOST/PATH"), "{err}");
    }
}
