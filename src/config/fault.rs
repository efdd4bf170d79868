//! What is wrong with a configuration, where, and what would be right.
//!
//! Pure. Faults are collected while the file is walked and rendered once at the end, so that a message can show its
//! line. A line never shows a value that stands where a secret's reference should be.

use std::fmt;

/// A stretch of the file. Lines and columns count from 1, columns and widths in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
    /// Characters on the first line; at least 1 when printed.
    pub(super) width: u32,
    pub(super) last_line: u32,
}

impl Mark {
    /// The first character of the file: for what has no place of its own.
    pub(super) const START: Self = Self { line: 1, column: 1, width: 1, last_line: 1 };
}

/// One fault or warning, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong, in lower case, with the path of the key.
    pub message: String,
    /// What would be right; may be empty.
    pub cure: String,
    excerpt: String,
    caret: String,
}

impl Fault {
    /// Returns the fault without its excerpt, for a log line.
    pub fn one_line(&self) -> String {
        let Self { file, line, column, message, cure, .. } = self;
        if cure.is_empty() {
            format!("{file}:{line}:{column}: {message}")
        } else {
            format!("{file}:{line}:{column}: {message}; {cure}")
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}  {}", self.file, self.line, self.column, self.message)?;
        if self.excerpt.is_empty() {
            // What has no line to show: a file that is empty, or cannot be read.
            return if self.cure.is_empty() { Ok(()) } else { write!(f, "\n      | {}", self.cure) };
        }
        let space = if self.cure.is_empty() { "" } else { " " };
        write!(f, "\n{:>5} | {}\n      | {}{space}{}", self.line, self.excerpt, self.caret, self.cure)
    }
}

/// Every fault of a file, in the order of the file. `Display` prints them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    faults: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// The faults, at most 50, by position.
    pub fn list(&self) -> &[Fault] {
        &self.faults
    }

    /// Number of faults, those past the first 50 included.
    pub fn total(&self) -> usize {
        self.faults.len() + self.more
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects faults and warnings. Keeps the first [`SHOWN_MAX`] of each by position and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Collector {
    faults: Drafts,
    warnings: Drafts,
    masks: Vec<Mark>,
}

#[derive(Debug)]
struct Draft {
    at: Mark,
    message: String,
    cure: String,
}

#[derive(Debug, Default)]
struct Drafts {
    kept: Vec<Draft>,
    dropped: usize,
}

impl Drafts {
    fn push(&mut self, draft: Draft) {
        self.kept.push(draft);
        if self.kept.len() >= SHOWN_MAX * 4 {
            self.trim();
        }
    }

    /// Sorts by position (faults of one place stay in the order they were found) and drops what is not shown.
    fn trim(&mut self) {
        self.kept.sort_by_key(|draft| (draft.at.line, draft.at.column));
        self.dropped += self.kept.len().saturating_sub(SHOWN_MAX);
        self.kept.truncate(SHOWN_MAX);
    }

    fn render(mut self, page: &Page<'_>) -> (Vec<Fault>, usize) {
        self.trim();
        (self.kept.into_iter().map(|draft| page.fault(draft)).collect(), self.dropped)
    }
}

impl Collector {
    pub(super) fn fault(&mut self, at: Mark, message: impl Into<String>, cure: impl Into<String>) {
        self.faults.push(Draft { at, message: message.into(), cure: cure.into() });
    }

    pub(super) fn warn(&mut self, at: Mark, message: impl Into<String>, cure: impl Into<String>) {
        self.warnings.push(Draft { at, message: message.into(), cure: cure.into() });
    }

    /// Keeps what stands at `at` out of every excerpt.
    pub(super) fn mask(&mut self, at: Mark) {
        if self.masks.len() < MASKS_MAX {
            self.masks.push(at);
        }
    }

    /// Takes over what another collector found.
    pub(super) fn append(&mut self, other: Self) {
        self.faults.dropped += other.faults.dropped;
        self.warnings.dropped += other.warnings.dropped;
        other.faults.kept.into_iter().for_each(|draft| self.faults.push(draft));
        other.warnings.kept.into_iter().for_each(|draft| self.warnings.push(draft));
        other.masks.into_iter().for_each(|mask| self.mask(mask));
    }

    /// Renders what was collected: `Err` with the faults, or the warnings.
    pub(super) fn finish(self, file: &str, text: &str) -> Result<Vec<Fault>, Faults> {
        let page =
            Page { file, lines: lines(text), masks: &self.masks, masks_full: self.masks.len() == MASKS_MAX };
        let (faults, more) = self.faults.render(&page);
        if faults.is_empty() {
            return Ok(self.warnings.render(&page).0);
        }
        Err(Faults { faults, more })
    }
}

struct Page<'a> {
    file: &'a str,
    lines: Vec<&'a str>,
    masks: &'a [Mark],
    masks_full: bool,
}

impl Page<'_> {
    fn fault(&self, draft: Draft) -> Fault {
        let Draft { at, message, cure } = draft;
        let (excerpt, caret) = self.excerpt(at);
        let (line, column) = (at.line.max(1), at.column.max(1));
        Fault { file: self.file.to_owned(), line, column, message, cure, excerpt, caret }
    }

    /// Returns the line, as it may be shown, and the caret below it.
    fn excerpt(&self, at: Mark) -> (String, String) {
        let index = (at.line.max(1) - 1) as usize;
        let mut chars: Vec<char> = self.lines.get(index).unwrap_or(&"").chars().map(printable).collect();
        if self.masks_full {
            chars.clear();
        }
        for mask in self.masks.iter().filter(|m| m.line <= at.line && at.line <= m.last_line) {
            let (from, to) = if mask.line == at.line && mask.last_line == at.line {
                ((mask.column.max(1) - 1) as usize, (mask.column.max(1) - 1 + mask.width) as usize)
            } else {
                (if mask.line == at.line { (mask.column.max(1) - 1) as usize } else { 0 }, chars.len())
            };
            let (from, to) = (from.min(chars.len()), to.min(chars.len()));
            chars[from.min(to)..to].fill('*');
        }
        let start = ((at.column.max(1) - 1) as usize).min(chars.len());
        let width = (at.width.max(1) as usize).min((chars.len() - start).max(1));
        // A long line is cut to a window around the place.
        let from = if start + width.min(LINE_MAX / 2) > LINE_MAX { start - LINE_MAX / 4 } else { 0 };
        let to = (from + LINE_MAX).min(chars.len());
        let mut shown = String::new();
        let mut shift = start - from;
        if from > 0 {
            shown.push('…');
            shift += 1;
        }
        shown.extend(&chars[from..to]);
        if to < chars.len() {
            shown.push('…');
        }
        let width = width.min(LINE_MAX + 1 - shift.min(LINE_MAX));
        (shown.trim_end().to_owned(), format!("{}{}", " ".repeat(shift), "^".repeat(width)))
    }
}

/// Splits at every line break that YAML knows.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\n', '\r']) {
        lines.push(&rest[..end]);
        let skip = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[end + skip..];
    }
    lines.push(rest);
    lines
}

/// Keeps a terminal safe: no control character and no change of direction gets through.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Quotes text of the file for a message: escaped, and cut when it is long.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Returns the known word that is nearest to `word`, if one is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).take(QUOTE_MAX).collect();
    known
        .into_iter()
        .take(NEAREST_MAX)
        .map(|candidate| (distance(&word, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(word.len().min(candidate.chars().count()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Lists known words, and puts the likely one first: `did you mean "http"? known: every, http, ...`.
pub(super) fn known<'a>(word: &str, words: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let mut list: Vec<&str> = words.clone().into_iter().take(KNOWN_MAX + 1).collect();
    let more = list.len() > KNOWN_MAX;
    list.truncate(KNOWN_MAX);
    let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let list = if more { format!("{list}, ...") } else { list };
    match nearest(word, words) {
        Some(near) => format!("did you mean {near:?}? known: {list}"),
        None => format!("known: {list}"),
    }
}

/// Edit distance in which swapping two neighbours is one step.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Faults that are printed; the rest is counted.
const SHOWN_MAX: usize = 50;
/// Values that are kept out of excerpts. Past it no excerpt is shown at all.
const MASKS_MAX: usize = 10_000;
/// Characters of an excerpt.
const LINE_MAX: usize = 120;
/// Characters of quoted text.
const QUOTE_MAX: usize = 60;
/// Words in a list of known ones.
const KNOWN_MAX: usize = 16;
/// Words that are compared for "did you mean".
const NEAREST_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let known = ["http", "every", "timeout", "rise", "fall"];
        for (word, expected) in [
            ("htp", Some("http")),
            ("HTTP", Some("http")),
            ("htpt", Some("http")),
            ("evry", Some("every")),
            ("time_out", Some("timeout")),
            ("x", None),
            ("interval", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }

    #[test]
    fn an_excerpt_shows_the_line_and_a_caret_below_the_place() {
        let mut c = Collector::default();
        c.fault(Mark { line: 2, column: 3, width: 4, last_line: 2 }, "unknown key \"lett\"", "known: let");
        let faults = c.finish("f.yaml", "a: 1\n  lett: 2\r\nz: 3\n").unwrap_err();
        assert_eq!(
            faults.to_string(),
            "f.yaml:2:3  unknown key \"lett\"\n    2 |   lett: 2\n      |   ^^^^ known: let"
        );
    }

    #[test]
    fn fifty_faults_are_shown_by_position_and_the_rest_is_counted() {
        let mut c = Collector::default();
        for line in (1..=1000).rev() {
            c.fault(Mark { line, column: 1, width: 1, last_line: line }, "m", "");
        }
        let faults = c.finish("f", "").unwrap_err();
        assert_eq!(faults.total(), 1000);
        assert_eq!(faults.list().iter().map(|f| f.line).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
        assert!(faults.to_string().ends_with("\nand 950 more"));
    }

    #[test]
    fn a_masked_value_and_control_characters_are_not_shown() {
        let mut c = Collector::default();
        c.mask(Mark { line: 1, column: 6, width: 7, last_line: 1 });
        c.fault(Mark { line: 1, column: 15, width: 1, last_line: 1 }, "m", "");
        let text = c.finish("f", "jwt: hunter2, \u{1b}x: 1").unwrap_err().to_string();
        assert!(text.contains("jwt: *******, \u{fffd}x: 1"), "{text}");
        let mut c = Collector::default();
        c.mask(Mark { line: 1, column: 6, width: 1, last_line: 3 });
        c.fault(Mark { line: 2, column: 1, width: 1, last_line: 2 }, "m", "");
        let text = c.finish("f", "jwt: |\n  hunter2\n  x\n").unwrap_err().to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn what_has_no_line_is_told_without_one() {
        let mut c = Collector::default();
        c.fault(Mark::START, "the file is empty", "cure");
        assert_eq!(c.finish("f", "").unwrap_err().to_string(), "f:1:1  the file is empty\n      | cure");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}bad{}", "x".repeat(5000), "y".repeat(5000));
        let mut c = Collector::default();
        c.fault(Mark { line: 1, column: 5001, width: 3, last_line: 1 }, "m", "");
        let text = c.finish("f", &line).unwrap_err().to_string();
        let shown: Vec<&str> = text.lines().collect();
        let caret = shown[2].find('^').map(|at| shown[2][..at].chars().count());
        let bad = shown[1].find("bad").map(|at| shown[1][..at].chars().count());
        assert_eq!(caret, bad);
        assert!(shown[1].chars().count() < 140);
    }
}
