//! What the figures say: medians, ratios against the better one of the others, and which goals hold.
//!
//! Pure: a Markdown table of what was measured, ready for benches/README.md.

use std::collections::BTreeMap;
use std::fmt;

use super::cases::{Case, Goal};
use super::servers::Kind;

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// One value for each round.
    pub(super) figures: BTreeMap<(Kind, Case), Vec<f64>>,
    pub(super) versions: BTreeMap<Kind, String>,
    pub(super) rounds: usize,
    pub(super) idle: usize,
    pub(super) quick: bool,
    /// Machine, date, revision: who starts the run knows them.
    pub(super) where_and_when: Option<String>,
}

impl Report {
    fn median(&self, kind: Kind, case: Case) -> Option<f64> {
        median(self.figures.get(&(kind, case))?)
    }

    /// Roomgate against the better one of the others.
    fn ratio(&self, case: Case) -> Option<f64> {
        let others = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Roomgate);
        let better = others.filter_map(|kind| self.median(kind, case)).reduce(f64::min)?;
        Some(self.median(Kind::Roomgate, case)? / better)
    }

    /// Whether a goal holds; `None` when there is none, or nothing to hold it against.
    fn holds(&self, case: Case) -> Option<bool> {
        match case.goal() {
            Goal::None => None,
            Goal::Ratio(most) => Some(self.ratio(case)? <= most),
            Goal::AtMost(most) => Some(self.median(Kind::Roomgate, case)? <= most),
        }
    }

    /// The cases that have figures of these servers. For tests of the harness.
    #[allow(dead_code, reason = "the integration test looks here")]
    pub(crate) fn measured(&self) -> usize {
        self.figures.values().filter(|values| values.len() == self.rounds).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<&str> = self.versions.values().map(String::as_str).collect();
        let quick = if self.quick { ", quick: the figures mean little" } else { "" };
        writeln!(f, "{}: medians of {} rounds{quick}.", versions.join(", "), self.rounds)?;
        if let Some(text) = &self.where_and_when {
            writeln!(f, "{text}")?;
        }
        writeln!(
            f,
            "TLS 1.3, X25519, AES-128-GCM, ECDSA P-256; memory with {} connections open.\n",
            self.idle
        )?;
        writeln!(f, "| Work | Unit | Nginx | HAProxy | Roomgate | Ratio | Goal | Holds |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for case in Case::ALL {
            let of = |kind| self.median(kind, case).map(shown).unwrap_or_default();
            if Kind::ALL.iter().all(|kind| self.median(*kind, case).is_none()) {
                continue;
            }
            let ratio = self.ratio(case).map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let goal = match case.goal() {
                Goal::None => String::new(),
                Goal::Ratio(most) => format!("{most} x"),
                Goal::AtMost(most) => format!("{most} {}", case.unit()),
            };
            let holds = self.holds(case).map_or("", |holds| if holds { "yes" } else { "no" });
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {ratio} | {goal} | {holds} |",
                case.name(),
                case.unit(),
                of(Kind::Nginx),
                of(Kind::Haproxy),
                of(Kind::Roomgate),
            )?;
        }
        Ok(())
    }
}

/// Three digits are what such a figure is worth.
fn shown(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: &[(Kind, Case, &[f64])]) -> Report {
        Report {
            figures: figures.iter().map(|(kind, case, values)| ((*kind, *case), values.to_vec())).collect(),
            versions: BTreeMap::from([(Kind::Nginx, "Nginx 1".to_owned())]),
            rounds: 3,
            idle: 1000,
            quick: false,
            where_and_when: Some("here and now".to_owned()),
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn the_better_one_of_the_others_is_what_counts() {
        let report = report(&[
            (Kind::Nginx, Case::FullHandshake, &[500.0, 510.0, 490.0]),
            (Kind::Haproxy, Case::FullHandshake, &[600.0, 600.0, 600.0]),
            (Kind::Roomgate, Case::FullHandshake, &[301.0, 301.0, 301.0]),
            (Kind::Roomgate, Case::IdleTunnel, &[9.0, 9.9, 10.5]),
        ]);
        assert_eq!(report.ratio(Case::FullHandshake), Some(0.602));
        assert_eq!(report.holds(Case::FullHandshake), Some(false), "0.6 is the goal");
        assert_eq!(report.holds(Case::IdleTunnel), Some(true));
        assert_eq!(report.holds(Case::H1Latency), None);
        let text = report.to_string();
        let row = "| full TLS handshake and one request | us of CPU | 500 | 600 | 301 | 0.60 | 0.6 x | no |";
        assert!(text.lines().any(|line| line == row), "{text}");
        let row = "| idle WSS tunnel | KB |  |  | 9.90 |  | 10 KB | yes |";
        assert!(text.lines().any(|line| line == row), "{text}");
        assert!(!text.contains("h1"), "what was not measured has no row: {text}");
        assert_eq!(report.measured(), 4);
    }
}
