//! Files with faults: each is told with its place, what is wrong and what would be right.

use super::broken_l4::L4;
use super::broken_limits::LIMITS;
use super::broken_pools::POOLS;
use super::broken_routes::ROUTES;
use super::broken_sense::SENSE;
use super::broken_text::TEXT;
use super::{ISSUE, folder, load};

/// A file with faults.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// What is replaced in [`ISSUE`].
    pub(super) edits: &'static [(&'static str, &'static str)],
    pub(super) edge: Option<&'static str>,
    /// `line:column: message; cure`
    pub(super) faults: &'static [&'static str],
}

fn text(case: &Case) -> String {
    let mut text = ISSUE.to_owned();
    for (from, to) in case.edits {
        if from.is_empty() {
            text = (*to).to_owned();
            continue;
        }
        assert!(text.contains(from), "{}: no {from:?}", case.name);
        text = text.replacen(from, to, 1);
    }
    text
}

#[test]
fn every_kind_of_fault_is_told_with_its_place_and_its_cure() {
    let dir = folder();
    let at = format!("{}/", dir.path().display());
    let mut wrong = Vec::new();
    for case in TEXT.iter().chain(SENSE).chain(POOLS).chain(ROUTES).chain(LIMITS).chain(L4) {
        let text = text(case);
        let faults = match load(&text, dir.path(), case.edge) {
            Ok(_) => panic!("{}: no fault in\n{text}", case.name),
            Err(faults) => faults,
        };
        let told =
            |fault: &crate::config::Fault| fault.one_line().replace(&at, "").replacen("f.yaml:", "", 1);
        let found: Vec<String> = faults.list().iter().map(told).collect();
        if found != case.faults {
            wrong.push(format!("{}:\n  told {found:#?}\n  not  {:#?}", case.name, case.faults));
        }
        assert!(!faults.to_string().contains("hunter2"), "{}: the secret is shown", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn three_faults_of_one_file_are_all_printed_with_line_and_caret() {
    let dir = folder();
    let text = ISSUE
        .replace("redirect: https", "redirct: https")
        .replace("pool: workers", "pool: worker")
        .replace("linger: 5m", "linger: 5");
    let faults = load(&text, dir.path(), None).unwrap_err();
    assert_eq!(
        faults.to_string(),
        r#"f.yaml:4:29  unknown key "redirct" in listeners.http
    4 |   http:  { bind: [":8080"], redirct: https }
      |                             ^^^^^^^ did you mean "redirect"? known: bind, tls, redirect, acme_challenge, tcp, passthrough, turn, proxy_protocol, timeouts, limits
f.yaml:9:46  sites."*".pool: no pool is named "worker"
    9 |   "*":              { app: conference, pool: worker, auth: open }
      |                                              ^^^^^^ did you mean "workers"? known: shards, workers
f.yaml:14:23  pools.shards.sticky.linger: "5": a duration without a unit
   14 |     sticky: { linger: 5 }
      |                       ^ "5s", perhaps: a whole number and ms, s, m, h or d"#
    );
}

#[test]
fn one_bind_has_64_addresses_and_not_65() {
    let dir = folder();
    let with = |count: u8| {
        let binds: Vec<String> = (1..=count).map(|host| format!("\"127.0.1.{host}:10000\"")).collect();
        let text = ISSUE.replace("bind: [\":10000\"]", &format!("bind: [{}]", binds.join(", ")));
        load(&text, dir.path(), None)
    };
    assert!(with(64).is_ok());
    let faults = with(65).unwrap_err();
    assert!(faults.to_string().contains("media.bind: more than 64 addresses"), "{faults}");
}
