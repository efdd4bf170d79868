//! `sslyze` judges the profile `intermediate` by Mozilla's guideline, and knows of no attack that works.

use std::process::Command;

use super::tls_certificates::with_tls;
use crate::kit::backends::Backend;
use crate::kit::process::Roomgate;
use crate::kit::tls::Authority;

#[tokio::test]
async fn sslyze_calls_the_intermediate_profile_compliant() {
    let python = std::env::var_os("ROOMGATE_PYTHON")
        .expect("ROOMGATE_PYTHON names the Python with sslyze: run this with scripts/test, which makes one");
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    // RSA and ECDSA side by side, as an operator would have them.
    authority.issue_with(&["localhost"], &rcgen::PKCS_RSA_SHA256, "rsa", 90).write(folder.path(), "rsa");
    authority.issue(&["localhost"]).write(folder.path(), "ecdsa");
    let tls = "{ certificates: [ { cert: rsa.pem, key: rsa.key }, { cert: ecdsa.pem, key: ecdsa.key } ], \
               profile: intermediate }";
    let backends = Backend::start_many(1).await;
    let roomgate = Roomgate::start_in(folder, &with_tls(&backends, tls)).await;
    let (file, port) = (roomgate.folder().join("ca.pem"), roomgate.https().port());
    let scan = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .arg("150")
            .arg(python)
            .args(["-m", "sslyze", "--mozilla_config=intermediate", "--early_data"])
            // Its own list of authorities cannot know the test's: with this file the path is verified as well.
            .arg("--certinfo_ca_file")
            .arg(file)
            .arg(format!("localhost:{port}"))
            .output()
    });
    let output = scan.await.unwrap().expect("timeout and python are there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
    assert!(said.contains("OK - Compliant."), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "* TLS 1.3 Early Data: Not Supported",
        "OK - Compression disabled",
        "OK - Not vulnerable to Heartbleed",
        "OK - Not vulnerable, RSA cipher suites not supported.",
        "OK - Not vulnerable to OpenSSL CCS injection",
        "Client Renegotiation DoS Attack: OK - Not vulnerable",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
