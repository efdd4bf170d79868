//! Bytes that nobody would write: a fault at worst.

use std::path::Path;

use proptest::prelude::*;

use super::super::fault::Collector;
use super::super::tree::{self, Kind, Node, ScalarType};
use super::{ISSUE, load};

/// Loads and renders, so that every path to a message runs as well.
fn survive(text: &str) {
    match load(text, Path::new("/nonexistent"), None) {
        Ok(loaded) => assert!(!loaded.effective.is_empty()),
        Err(faults) => {
            assert!(faults.total() > 0);
            assert!(!faults.to_string().is_empty());
            for fault in faults.list() {
                assert!(fault.line >= 1 && fault.column >= 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn texts_of_yaml_signs_are_survived(text in "([-?:,\\[\\]{}#&*!|>'\"%@`~ \n\ta0.<=]|---|\\.\\.\\.|  |\r\n){0,60}") {
        survive(&text);
    }

    #[test]
    fn a_real_file_with_a_hole_or_a_graft_is_survived(
        at in 0..ISSUE.len(), cut in 0usize..40, graft in "[-?:,\\[\\]{}#&*!|>'\"a-z0-9 \n]{0,20}"
    ) {
        let to = (at + cut).min(ISSUE.len());
        survive(&format!("{}{graft}{}", &ISSUE[..at], &ISSUE[to..]));
    }

    /// What is a number, a boolean or nothing is the same here and in serde_yaml.
    #[test]
    fn scalars_are_what_serde_yaml_reads(text in "[-+.0-9a-zA-Z_~]{0,12}|[-+]?[0-9]{1,18}|[-+]?(0x|0o|0b)[0-9a-f]{1,6}|[-+]?[0-9]*\\.[0-9]*(e[-+]?[0-9]{1,3})?") {
        let yaml = format!("k: {text}\n");
        if let Ok(serde_yaml::Value::Mapping(theirs)) = serde_yaml::from_str(&yaml) {
            let theirs = &theirs["k"];
            let mut faults = Collector::default();
            let root = tree::parse(&yaml, &mut faults).unwrap();
            let Kind::Map(entries) = &root.kind else { panic!() };
            prop_assert_eq!(agree(&entries[0].value, theirs), Ok(()));
        }
    }
}

/// Says where our tree and serde_yaml's differ.
pub(super) fn agree(ours: &Node, theirs: &serde_yaml::Value) -> Result<(), String> {
    use serde_yaml::Value;
    let same = match (&ours.kind, theirs) {
        (Kind::Map(entries), Value::Mapping(map)) => {
            for entry in entries {
                let theirs = map.get(entry.key.as_str()).ok_or_else(|| format!("no key {:?}", entry.key))?;
                agree(&entry.value, theirs)?;
            }
            entries.len() == map.len()
        }
        (Kind::List(items), Value::Sequence(theirs)) => {
            items.iter().zip(theirs).try_for_each(|(ours, theirs)| agree(ours, theirs))?;
            items.len() == theirs.len()
        }
        (Kind::Scalar(scalar), theirs) => match (scalar.scalar_type(), theirs) {
            (ScalarType::Nothing, Value::Null) => true,
            (ScalarType::Bool, Value::Bool(b)) => scalar.text.eq_ignore_ascii_case(&b.to_string()),
            (ScalarType::Int(int), Value::Number(n)) => {
                n.as_i64().map(i128::from) == Some(int)
                    || n.as_u64().map(i128::from) == Some(int)
                    || n.is_f64()
            }
            (ScalarType::Float, Value::Number(n)) => n.is_f64(),
            (ScalarType::Text, Value::String(text)) => *text == scalar.text,
            _ => false,
        },
        _ => false,
    };
    if same { Ok(()) } else { Err(format!("{ours:?} is not {theirs:?}")) }
}

#[test]
fn depth_size_and_number_are_bounded() {
    let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
    let many = format!("a: [{}]", "1,".repeat(250_000));
    let large = " ".repeat(5 << 20);
    for (text, message) in
        [(deep, "more than 32 levels"), (many, "more than 200000 values"), (large, "bytes")]
    {
        let faults = load(&text, Path::new(""), None).unwrap_err();
        assert_eq!(faults.total(), 1);
        assert!(faults.list()[0].message.contains(message), "{faults}");
    }
}

#[test]
fn names_of_one_map_are_bounded() {
    let nodes: String = (0..5000).map(|i| format!("      n{i}: \"http://10.0.0.1:{}\"\n", i + 1)).collect();
    let dir = super::folder();
    let text = ISSUE.replace("  workers: {", &format!("  large:\n    nodes:\n{nodes}  workers: {{"));
    let faults = load(&text, dir.path(), None).unwrap_err();
    let message = "f.yaml:4113:7: pools.large.nodes: more than 4096 names";
    assert_eq!(faults.list().iter().map(crate::config::Fault::one_line).collect::<Vec<_>>(), [message]);
}

#[test]
fn a_file_of_a_thousand_faults_shows_fifty() {
    let mut text = ISSUE.to_owned();
    for i in 0..1000 {
        text.push_str(&format!("wrong-{i}: 1\n"));
    }
    let dir = super::folder();
    let faults = load(&text, dir.path(), None).unwrap_err();
    assert_eq!((faults.total(), faults.list().len()), (1000, 50));
    assert!(faults.to_string().ends_with("and 950 more"));
}
