//! What the README shows is true: its configuration is a good one.

use crate::kit::process::command;

#[test]
fn the_configuration_of_the_readme_has_no_fault() {
    let readme = include_str!("../../README.md");
    let config = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("tls")).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["meet.example.com".to_owned()]).unwrap();
    std::fs::write(at("tls/cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(at("tls/key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(at("jwt.secret"), "a secret of at least thirty-two bytes").unwrap();
    std::fs::write(at("roomgate.yaml"), config).unwrap();
    let output = command(&["check", "roomgate.yaml"], folder.path());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}
