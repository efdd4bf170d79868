//! Asks nodes how they are, one connection for each question.

mod h2;
pub mod http;
pub mod judge;
pub mod tcp;

use std::sync::Arc;

use http::{Question, Way};
use judge::judge;

use crate::config::settings::{CheckSettings, Probe, ProbeKind};
use crate::pool::Node;
use crate::pool::health::{CheckOutcome, FailReason};
use crate::pool::resolve::Resolver;

/// Makes one check: asks everything at once and waits for all answers, at most the check's timeout. What failed first
/// in the check's order is the reason, and says which probe it was where there are several. `announced`: each connection
/// begins with a PROXY header that says that it is our own.
pub async fn check(
    resolver: &Arc<Resolver>,
    node: &Node,
    check: &CheckSettings,
    announced: bool,
) -> CheckOutcome {
    let asked = check.probes.iter().map(|probe| ask(resolver, node, probe, check, announced));
    let answers = futures_util::future::join_all(asked).await;
    let several = answers.len() > 1;
    let mut lack = None;
    for (probe, answer) in check.probes.iter().zip(answers) {
        match answer {
            Ok(()) => {}
            // The node may be well: what it failed by itself counts more.
            Err(reason @ FailReason::Local(_)) => lack = Some(reason),
            Err(reason) if several => {
                let (probe, reason) = (probe.kind.as_str(), Box::new(reason));
                return CheckOutcome::Fail(FailReason::Probe { probe, reason });
            }
            Err(reason) => return CheckOutcome::Fail(reason),
        }
    }
    lack.map_or(CheckOutcome::Pass, CheckOutcome::Fail)
}

async fn ask(
    resolver: &Arc<Resolver>,
    node: &Node,
    probe: &Probe,
    check: &CheckSettings,
    announced: bool,
) -> Result<(), FailReason> {
    let (host, service) = node.target.service(Some(&probe.service))?;
    let post = match probe.kind {
        ProbeKind::Bosh => Some(("text/xml; charset=utf-8", BOSH_EMPTY)),
        ProbeKind::Http { .. } | ProbeKind::Jicofo => None,
    };
    let question = Question { path: &probe.path, host: probe.host.as_deref(), post, announced };
    let tls = if service.tls { Some(node.tls()?) } else { None };
    let way = Way { resolver, host, port: service.port, tls: tls.as_deref(), protocol: node.protocol() };
    let answer = http::ask(way, &question, check.timeout).await?;
    judge(&probe.kind, &answer)
}

/// XEP-0124 section 7.1: a first request names its `to`. Without it the server says what is wrong and makes no session.
const BOSH_EMPTY: &str = "<body xmlns='http://jabber.org/protocol/httpbind'/>";
