//! The rules of the house that no compiler keeps: purity, direction, size, names, versions.
//!
//! Each rule is a function from one file to its faults, proven on a bad sample below, and then held against `src`.
//! Comments, strings and the `tests` module at a file's end are not looked at, unless the rule is about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

// --- the rules ---

/// Words that don't belong in a pure file: time and bytes are passed in, effects are passed out.
const IMPURE: &[&str] = &[
    "tokio",
    "pingora",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "socket2",
    "quinn_udp",
    "std::fs",
    "::now()",
    "SystemTime",
    "Mutex",
    "RwLock",
    "thread::",
    "crate::tasks",
    "std::env",
    "std::process",
    "rand::rng",
];

/// Plain data of a crate that is impure elsewhere.
const DATA: &[&str] = &["pingora::http", "pingora::Result"];

/// Parts of the product, each of which may use those after it only.
const PARTS: &[&str] = &["main", "cli", "app", "admin", "edge", "sfu", "media", "rooms", "pool", "wire"];

/// What all parts may use. `config` here is `config::settings`.
const COMMON: &[&str] = &["telemetry", "clock", "tasks"];

/// Parts that may use all of `config`.
const KNOW_CONFIG: &[&str] = &["main", "cli", "app", "admin", "config"];

/// Crates that stay inside one folder, and the files beyond it that may name them.
const CONFINED: &[(&str, &str, &[&str])] =
    &[("str0m", "src/sfu/", &[]), ("pingora", "src/edge/", &["src/main.rs", "src/app.rs"])];

const LINES_MAX: usize = 800;

/// Finds impure words in a file that is pure by its header or its folder.
fn purity(file: &File) -> Vec<String> {
    if !file.pure() {
        return Vec::new();
    }
    let lines = file.code.iter().flat_map(|line| IMPURE.iter().map(move |word| (line, word)));
    let without_data = |text: &str| DATA.iter().fold(text.to_owned(), |text, data| text.replace(data, ""));
    lines
        .filter(|(line, word)| has_word(&without_data(&line.text), word))
        .map(|(line, word)| format!("{}:{}: `{word}` does not belong in a pure file", file.path, line.number))
        .collect()
}

/// Finds uses of a part by one that stands after it.
fn direction(file: &File) -> Vec<String> {
    let part = file.part();
    let mut faults = Vec::new();
    for (line, path) in file.uses() {
        let used = path.split("::").next().unwrap_or_default();
        let fine = if part == "lib" || used == part || COMMON.contains(&used) {
            true
        } else if used == "config" {
            path.starts_with("config::settings") || KNOW_CONFIG.contains(&part)
        } else {
            let place = |name| PARTS.iter().position(|part| *part == name);
            match (place(part), place(used)) {
                (Some(user), Some(used)) => user < used,
                // `telemetry`, `clock`, `tasks` and `config` use none of the parts; a name that is no part is an
                // item of the crate's root.
                (None, Some(_)) => false,
                (_, None) => true,
            }
        };
        if !fine {
            faults.push(format!("{}:{line}: `{part}` may not use `{path}`", file.path));
        }
    }
    for line in &file.code {
        let mut climbs = 0;
        for piece in line.text.split("super::").skip(1) {
            climbs += 1;
            if climbs >= file.depth() {
                faults.push(format!("{}:{}: name it from `crate::`", file.path, line.number));
            }
            if !piece.is_empty() {
                climbs = 0;
            }
        }
    }
    faults
}

/// Finds crates outside the folder that they are confined to.
fn confinement(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, folder, excepted) in CONFINED {
        if file.path.starts_with(folder) || excepted.contains(&file.path.as_str()) {
            continue;
        }
        for line in file.code.iter().filter(|line| has_word(&line.text, name)) {
            faults.push(format!("{}:{}: `{name}` stays inside {folder}", file.path, line.number));
        }
    }
    faults
}

/// Finds files that are too long or say nothing of themselves, and work that was left for later.
fn shape(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{}: {lines} lines; over {LINES_MAX} there is a second idea in it", file.path));
    }
    if file.path.ends_with(".rs") && !file.text.starts_with("//!") {
        faults.push(format!("{}: has no `//!` header", file.path));
    }
    // Written in two halves, so that this file keeps its own rule.
    for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!("), concat!("#[", "ignore")] {
        for (number, line) in file.text.lines().enumerate() {
            if has_word(line, word) {
                faults.push(format!("{}:{}: `{word}`: finish it or leave it out", file.path, number + 1));
            }
        }
    }
    faults
}

/// Finds metric names outside of `telemetry/names.rs`.
fn metric_names(file: &File) -> Vec<String> {
    if file.path == NAMES {
        return Vec::new();
    }
    let strings =
        file.code.iter().flat_map(|line| line.strings.iter().map(move |string| (line.number, string)));
    strings
        .filter(|(_, string)| is_metric(string))
        .map(|(number, string)| format!("{}:{number}: \"{string}\" belongs in {NAMES}", file.path))
        .collect()
}

/// Checks the names themselves: counters end in `_total`, each name is there once and in use.
fn names(names: &File, others: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    let mut kind = String::new();
    for (number, line) in names.text.lines().enumerate() {
        if let Some(doc) = line.strip_prefix("/// ") {
            if kind.is_empty() {
                kind = doc.split([',', ':', ' ']).next().unwrap_or_default().to_owned();
            }
            continue;
        }
        let Some((constant, value)) =
            line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str = \""))
        else {
            continue;
        };
        let value = value.split('"').next().unwrap_or_default();
        let mut fault = |what: &str| faults.push(format!("{NAMES}:{}: {value} {what}", number + 1));
        if !is_metric(value) {
            fault("is not roomgate_ and lower case");
        }
        if !["Counter", "Gauge", "Histogram"].contains(&kind.as_str()) {
            fault("does not begin its docs with Counter, Gauge or Histogram");
        }
        if (kind == "Counter") != value.ends_with("_total") {
            fault("is not named as what it is: counters and only they end in _total");
        }
        if !seen.insert(value.to_owned()) {
            fault("is there twice");
        }
        let used = others.iter().flat_map(|file| &file.code).any(|line| has_word(&line.text, constant));
        if !used {
            fault("is not used");
        }
        kind.clear();
    }
    faults
}

/// Finds locked packages that are older than a known fault allows.
fn versions(deny: &str, lock: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let floors = deny.lines().filter_map(|line| {
        let (name, floor) = line.trim().strip_prefix("{ crate = \"")?.split('"').next()?.split_once("@<")?;
        Some((name, floor))
    });
    let floors: BTreeMap<&str, &str> = floors.collect();
    for package in lock.split("[[package]]") {
        let field = |name: &str| {
            package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else { continue };
        if let Some(floor) = floors.get(name)
            && numbers(version) < numbers(floor)
        {
            faults.push(format!("{name} {version} is older than {floor}"));
        }
    }
    if floors.is_empty() {
        faults.push("no lowest versions are listed".to_owned());
    }
    faults
}

// --- src keeps them ---

#[test]
fn pure_files_stay_pure() {
    let files = sources();
    assert!(files.iter().any(File::pure), "there are pure files");
    none(files.iter().flat_map(purity));
}

#[test]
fn parts_use_those_after_them_only() {
    none(sources().iter().flat_map(direction));
}

#[test]
fn crates_stay_where_they_belong() {
    none(sources().iter().flat_map(confinement));
}

#[test]
fn files_have_one_idea_and_a_header_and_nothing_is_left_for_later() {
    let mut files = sources();
    files.extend(read("src", &["js", "mjs", "css", "html"]));
    none(files.iter().flat_map(shape));
    let tests = [read("tests", &["rs", "mjs"]), read("benches", &["rs"])].concat();
    none(tests.iter().flat_map(shape).filter(|fault| !fault.contains(" lines; over ")));
}

#[test]
fn metric_names_are_in_one_file_and_in_use() {
    let files = sources();
    none(files.iter().flat_map(metric_names));
    let (list, others): (Vec<File>, Vec<File>) = files.into_iter().partition(|file| file.path == NAMES);
    none(names(&list[0], &others).into_iter());
}

#[test]
fn no_locked_package_is_older_than_a_known_fault_allows() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    none(versions(&text(".deny.toml"), &text("Cargo.lock")).into_iter());
}

// --- and they find what they should ---

mod samples {
    use super::*;

    fn check(rule: fn(&File) -> Vec<String>, cases: &[(&str, &str, usize)]) {
        for (path, text, faults) in cases {
            let found = rule(&File::new((*path).to_owned(), (*text).to_owned()));
            assert_eq!(found.len(), *faults, "{path}: {text:?} gave {found:#?}");
        }
    }

    #[test]
    fn purity_is_found_broken() {
        check(
            purity,
            &[
                ("src/wire/stun.rs", "//! STUN.\nuse std::sync::Mutex;\n", 1),
                ("src/wire/stun.rs", "//! STUN.\nfn f() { g(Instant::now()) }\n", 1),
                ("src/rooms/key.rs", "//! Keys.\n//!\n//! Pure: bytes in.\nuse tokio::net::TcpStream;\n", 2),
                ("src/rooms/key.rs", "//! Keys.\n//!\n//! Pure: bytes in.\nuse crate::tasks::Tasks;\n", 1),
                ("src/rooms/mod.rs", "//! The shell.\nuse std::sync::Mutex;\n", 0),
                (
                    "src/edge/headers.rs",
                    "//! H.\n//!\n//! Pure: values.\nuse pingora::http::RequestHeader;\n",
                    0,
                ),
                ("src/edge/headers.rs", "//! H.\n//!\n//! Pure: values.\nuse pingora::proxy::Session;\n", 1),
                (
                    "src/wire/stun.rs",
                    "//! No tokio.\n// nor Mutex\nconst A: &str = \"RwLock\"; /* std::fs */\n",
                    0,
                ),
                ("src/wire/stun.rs", "//! Pure.\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", 0),
            ],
        );
    }

    #[test]
    fn wrong_directions_are_found() {
        check(
            direction,
            &[
                ("src/pool/mod.rs", "//! P.\nuse crate::rooms::Rooms;\n", 1),
                ("src/pool/mod.rs", "//! P.\nuse crate::{wire::ufrag, edge::Edge, sfu};\n", 2),
                ("src/pool/mod.rs", "//! P.\nfn f() { crate::media::go(); }\n", 1),
                ("src/pool/mod.rs", "//! P.\nuse crate::config::load;\n", 1),
                (
                    "src/pool/mod.rs",
                    "//! P.\nuse crate::config::settings::Name;\nuse crate::{clock, tasks::Tasks};\n",
                    0,
                ),
                ("src/pool/mod.rs", "//! P.\nuse super::edge::Edge;\n", 1),
                ("src/pool/probe/http.rs", "//! P.\nuse super::super::Pool;\n", 0),
                ("src/pool/probe/http.rs", "//! P.\nuse super::super::super::edge::Edge;\n", 1),
                ("src/clock.rs", "//! C.\nuse crate::pool::Pool;\n", 1),
                ("src/config/check.rs", "//! C.\nuse crate::edge::Edge;\nuse crate::config::tree;\n", 1),
                (
                    "src/app.rs",
                    "//! A.\nuse crate::{admin, edge, sfu, media, rooms, pool, wire, config};\n",
                    0,
                ),
                ("src/app.rs", "//! A.\nuse crate::cli::Arguments;\n", 1),
                ("src/main.rs", "//! M.\nuse roomgate::cli;\n", 0),
                ("src/lib.rs", "//! L.\npub use crate::edge::Edge;\n", 0),
            ],
        );
    }

    #[test]
    fn strays_are_found() {
        check(
            confinement,
            &[
                ("src/media/worker.rs", "//! W.\nuse str0m::Rtc;\n", 1),
                ("src/sfu/room.rs", "//! R.\nuse str0m::Rtc;\nuse pingora::http::X;\n", 1),
                ("src/edge/proxy.rs", "//! P.\nuse pingora::http::X;\n", 0),
                ("src/telemetry/log.rs", "//! L.\nconst F: &str = \"pingora=off,str0m=warn\";\n", 0),
            ],
        );
    }

    #[test]
    fn bad_shapes_are_found() {
        let long = format!("//! L.\n{}", "fn f() {}\n".repeat(LINES_MAX));
        let later = concat!("//! L.\n// TO", "DO: more\n");
        check(
            shape,
            &[
                ("src/a.rs", &long, 1),
                ("src/a.rs", &long[..long.len() - 10], 0),
                ("src/a.rs", "fn f() {}\n", 1),
                ("src/a.rs", later, 1),
                ("src/a.css", "body {}\n", 0),
            ],
        );
    }

    #[test]
    fn stray_and_wrong_metric_names_are_found() {
        check(
            metric_names,
            &[
                ("src/a.rs", "//! A.\nconst X: &str = \"roomgate_x_total\";\n", 1),
                ("src/a.rs", "//! A.\n// \"roomgate_x_total\"\nconst X: &str = \"roomgate.yaml\";\n", 0),
            ],
        );
        let list = "//! N.\n/// Counter: a.\npub const A: &str = \"roomgate_a_total\";\n\
                    /// Gauge: b.\npub const B: &str = \"roomgate_b_total\";\n\
                    /// Something.\npub const C: &str = \"roomgate_c\";\n\
                    /// Gauge: a again.\npub const D: &str = \"roomgate_A\";\n";
        let list = File::new(NAMES.to_owned(), list.to_owned());
        let user = File::new(
            "src/a.rs".to_owned(),
            "//! A.\nfn f() { g(names::A, names::B, names::D) }\n".to_owned(),
        );
        let found = names(&list, &[user]);
        let expected = [
            "roomgate_b_total is not named",
            "roomgate_c does not begin",
            "roomgate_c is not used",
            "roomgate_A is not",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} instead of {expected}");
        }
    }

    #[test]
    fn old_packages_are_found() {
        let deny = "deny = [\n  { crate = \"h2@<0.4.18\", reason = \"floods\" },\n]\n";
        let lock = |version: &str| format!("[[package]]\nname = \"h2\"\nversion = \"{version}\"\n");
        for (version, faults) in
            [("0.4.17", 1), ("0.4.18", 0), ("0.4.20", 0), ("0.10.1", 0), ("1.0.0-rc.1", 0)]
        {
            assert_eq!(versions(deny, &lock(version)).len(), faults, "{version}");
        }
        assert_eq!(versions("", &lock("0.4.20")).len(), 1, "an empty list is no list");
    }

    #[test]
    fn code_is_told_from_comments_and_strings() {
        let text = "//! A.\nlet a = \"x // y\"; // z\nlet b = 'q'; /* m\nn */ let c: &'static str = r#\"o \" p\"#;\nlet d = '\"'; e\n";
        let file = File::new("src/a.rs".to_owned(), text.to_owned());
        let lines: Vec<&str> = file.code.iter().map(|line| line.text.trim()).collect();
        assert_eq!(
            lines,
            ["", "let a = \"\";", "let b = ' ';", "let c: &'static str = \"\";", "let d = ' '; e"]
        );
        assert_eq!(file.code[1].strings, ["x // y"]);
        assert_eq!(file.code[3].strings, ["o \" p"]);
    }
}

// --- reading files ---

const NAMES: &str = "src/telemetry/names.rs";

/// One file: its text, and its code without comments, without the insides of strings, and without unit tests.
#[derive(Clone)]
struct File {
    /// Relative to the project, with `/`.
    path: String,
    text: String,
    code: Vec<Line>,
}

#[derive(Clone, Default)]
struct Line {
    number: usize,
    text: String,
    strings: Vec<String>,
}

impl File {
    fn new(path: String, text: String) -> Self {
        let code = if path.ends_with(".rs") { code(&text) } else { Vec::new() };
        Self { path, text, code }
    }

    fn pure(&self) -> bool {
        let header = self.text.lines().take_while(|line| line.starts_with("//!"));
        self.path.starts_with("src/wire/") || header.into_iter().any(|line| line.starts_with("//! Pure"))
    }

    /// Names below `src`: 1 for `src/edge/mod.rs` and `src/app.rs`, 2 for `src/edge/h1.rs`.
    fn depth(&self) -> usize {
        self.path.trim_end_matches("/mod.rs").split('/').count() - 1
    }

    fn part(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Every path that starts at the crate's root, groups taken apart as far as the first two names.
    fn uses(&self) -> Vec<(usize, String)> {
        let start = if self.part() == "main" { "roomgate::" } else { "crate::" };
        let mut all = String::new();
        let mut starts = Vec::new();
        for line in &self.code {
            starts.push((all.len(), line.number));
            all.push_str(&line.text);
            all.push('\n');
        }
        let mut uses = Vec::new();
        for (at, _) in all.match_indices(start) {
            // `$crate::` and names that end in `crate` are something else.
            if all[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let line = starts.iter().rev().find(|(from, _)| *from <= at).map_or(0, |(_, number)| *number);
            let rest = &all[at + start.len()..];
            let paths = if rest.starts_with('{') { group(rest) } else { vec![path(rest)] };
            uses.extend(paths.into_iter().map(|path| (line, path)));
        }
        uses
    }
}

/// The leading `a::b::c` of a text.
fn path(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect()
}

/// The paths of `{a::x, b::{c, d}}`: `a::x` and `b::`.
fn group(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut depth = 0;
    let mut from = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            let one = path(text[from..at].trim());
            if !one.is_empty() {
                paths.push(one);
            }
            from = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    paths
}

/// Takes code apart into lines without comments, with strings emptied, up to the `tests` module.
fn code(text: &str) -> Vec<Line> {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut lines = Vec::new();
    let mut line = Line { number: 1, ..Line::default() };
    let mut rest = text;
    // The string that is being read (with the end it waits for), or the depth of block comments.
    let mut string: Option<(String, String)> = None;
    let mut comments = 0;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        if c == '\n' {
            let number = line.number + 1;
            lines.push(std::mem::replace(&mut line, Line { number, ..Line::default() }));
            if let Some((inside, _)) = &mut string {
                inside.push(c);
            }
        } else if let Some((inside, end)) = &mut string {
            if rest.starts_with(end.as_str()) {
                taken = end.len();
                line.text.push('"');
                line.strings.push(std::mem::take(inside));
                string = None;
            } else {
                inside.push(c);
                if c == '\\' && end == "\"" {
                    taken += rest[taken..].chars().next().map_or(0, char::len_utf8);
                }
            }
        } else if rest.starts_with("*/") && comments > 0 {
            comments -= 1;
            taken = 2;
        } else if rest.starts_with("/*") {
            comments += 1;
            taken = 2;
        } else if comments > 0 {
        } else if rest.starts_with("//") {
            taken = rest.find('\n').unwrap_or(rest.len());
        } else if let Some(hashes) = raw_string(rest).filter(|_| !line.text.ends_with(char::is_alphanumeric))
        {
            taken = 2 + hashes;
            string = Some((String::new(), format!("\"{}", "#".repeat(hashes))));
            line.text.push('"');
        } else if c == '"' {
            string = Some((String::new(), "\"".to_owned()));
            line.text.push('"');
        } else if let Some(length) = character(rest) {
            taken = length;
            line.text.push_str("' '");
        } else {
            line.text.push(c);
        }
        rest = &rest[taken..];
    }
    if !line.text.is_empty() {
        lines.push(line);
    }
    lines
}

/// Number of `#` of a raw string that starts here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Length of a character literal that starts here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let mut chars = inside.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let (at, quote) = chars.next()?;
    (quote == '\'').then_some(at + 2)
}

/// Whether `word` stands in `text` with no letter, digit or `_` of its own kind beside it.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part) && word.starts_with(part);
        let after = text[at + word.len()..].chars().next().is_some_and(part) && word.ends_with(part);
        !before && !after
    })
}

fn is_metric(text: &str) -> bool {
    text.strip_prefix("roomgate_").is_some_and(|rest| {
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

fn numbers(version: &str) -> Vec<u64> {
    version
        .split(['-', '+'])
        .next()
        .unwrap_or_default()
        .split('.')
        .map(|n| n.parse().unwrap_or_default())
        .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<File> {
    let files = read("src", &["rs"]);
    assert!(files.len() > 20, "src was found");
    files
}

fn read(folder: &str, endings: &[&str]) -> Vec<File> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.map_while(Result::ok).map(|entry| entry.path()) {
            if entry.is_dir() {
                if !entry.ends_with("target") && !entry.ends_with("node_modules") {
                    walk(&entry, found);
                }
            } else {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    let wanted = found.into_iter().filter(|path| {
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
    });
    wanted
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            File::new(name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn none(faults: impl Iterator<Item = String>) {
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
