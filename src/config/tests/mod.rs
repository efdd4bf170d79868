//! Tests of the whole: files in, settings or faults out.

mod broken;
mod broken_l4;
mod broken_limits;
mod broken_pools;
mod broken_routes;
mod broken_sense;
mod broken_text;
mod example;
mod hostile;
mod whole;

use std::path::Path;

/// The configuration of the documentation: two sites on shards, the rest in the embedded conference.
const ISSUE: &str = r#"version: 1
listeners:
  https: { bind: [":8443"], tls: { certificates: [ { cert: tls/cert.pem, key: tls/key.pem } ] } }
  http:  { bind: [":8080"], redirect: https }
media: { bind: [":10000"], advertise: auto }
sites:
  meet.example.com: { app: jitsi, pool: shards }
  api.example.com:  { pool: shards, room: [ { query: room }, { path: last } ] }
  "*":              { app: conference, pool: workers, auth: open }
pools:
  shards:
    nodes: { s1: "http://127.0.0.1:9001", s2: "http://127.0.0.1:9002", s3: "http://127.0.0.1:9003" }
    check: { http: /about/health, every: 2s, timeout: 1s, rise: 2, fall: 2 }
    sticky: { linger: 5m }
  workers: { embedded: auto }
store: memory
admin: { bind: ["127.0.0.1:9180"] }
"#;

/// A folder with all that the test files refer to.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("tls")).unwrap();
    let pair = rcgen::generate_simple_self_signed(["meet.example.com".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other.example.com".to_owned()]).unwrap();
    let again = rcgen::CertificateParams::new(["again.example.com".to_owned()]).unwrap();
    let again = again.self_signed(&pair.signing_key).unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = ca.self_signed(&pair.signing_key).unwrap();
    let mut soon = rcgen::CertificateParams::new(["soon.example.com".to_owned()]).unwrap();
    soon.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let soon = soon.self_signed(&pair.signing_key).unwrap();
    std::fs::create_dir(at("acme")).unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (name, text) in [
        ("tls/cert.pem", pair.cert.pem()),
        ("tls/key.pem", pair.signing_key.serialize_pem()),
        ("tls/cert-again.pem", again.pem()),
        ("tls/key-again.pem", pair.signing_key.serialize_pem()),
        ("tls/ca.pem", ca.pem()),
        ("tls/ca-other.pem", ca.pem()),
        ("tls/expired.pem", soon.pem()),
        ("tickets.keys", format!("# first\n{}\n{}\n", "ab".repeat(32), "cd".repeat(32))),
        ("tickets-other.keys", format!("{}\n", "ef".repeat(32))),
        ("tls/other-key.pem", other.signing_key.serialize_pem()),
        ("tls/encrypted-key.pem", encrypted.to_owned()),
        ("tls/cut.pem", pair.cert.pem().replace("-----END CERTIFICATE-----", "")),
        ("tls/text.pem", "no PEM at all\n".to_owned()),
        ("media.key", "000102030405060708090a0b0c0d0e0f\n".to_owned()),
        ("access-log.key", "000102030405060708090a0b0c0d0e0f\n".to_owned()),
        ("media-other.key", "100102030405060708090A0B0C0D0E0F\n".to_owned()),
        ("media-short.key", "0001\n".to_owned()),
        ("jwt.secret", "0123456789abcdef0123456789abcdef\n".to_owned()),
        ("jwt-other.secret", "fedcba9876543210fedcba9876543210\n".to_owned()),
        ("ops.token", "0123456789abcdef\n".to_owned()),
        ("ops-other.token", "fedcba9876543210\n".to_owned()),
        ("short", "hunter2\n".to_owned()),
        ("empty", "\n".to_owned()),
    ] {
        std::fs::write(at(name), text).unwrap();
    }
    dir
}

/// Loads text for an edge with `folder` as its folder.
fn load(text: &str, folder: &Path, edge: Option<&str>) -> Result<super::Loaded, super::Faults> {
    super::load_str("f.yaml", text, folder, edge)
}
