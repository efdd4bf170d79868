//! ACME challenges on the redirecting listener: what certbot puts into the webroot is answered, and nothing else.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::backends::Backend;
use crate::kit::config::{JITSI, Shards};
use crate::kit::process::Roomgate;
use crate::kit::{SOON, within};

async fn ask(roomgate: &Roomgate, method: &str, target: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(roomgate.listener("http")).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(SOON, "an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_challenge_is_answered_before_the_redirect() {
    let folder = tempfile::tempdir().unwrap();
    let webroot = folder.path().join("acme");
    std::fs::create_dir(&webroot).unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    let backends = Backend::start_many(1).await;
    let config =
        Shards::of(&backends).text().replace("redirect: https", "redirect: https, acme_challenge: acme");
    let roomgate = Roomgate::start_in(folder, &config).await;
    let path = "/.well-known/acme-challenge/";
    let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA";
    // Nothing is there, not even the folders that certbot makes.
    assert!(ask(&roomgate, "GET", &format!("{path}{token}"), JITSI).await.starts_with("HTTP/1.1 404 "));
    let challenges = webroot.join(".well-known/acme-challenge");
    std::fs::create_dir_all(&challenges).unwrap();
    std::fs::write(challenges.join(token), format!("{token}.digest")).unwrap();
    std::os::unix::fs::symlink("../../../secret", challenges.join("link")).unwrap();
    // The authority asks for names that no site has too: a certificate comes before its site.
    for host in [JITSI, "new.example.org"] {
        let answer = ask(&roomgate, "GET", &format!("{path}{token}"), host).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{token}.digest")), "{answer}");
    }
    let head = ask(&roomgate, "HEAD", &format!("{path}{token}?x=1"), JITSI).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    for target in ["link", "missing", "..%2f..%2f..%2fsecret", "../../../secret", "a.b", ""] {
        let answer = ask(&roomgate, "GET", &format!("{path}{target}"), JITSI).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("secret\r"), "{target}: {answer}");
    }
    for (method, target) in [("GET", "/room"), ("GET", "/.well-known/other"), ("POST", path)] {
        let answer = ask(&roomgate, method, target, JITSI).await;
        assert!(answer.starts_with("HTTP/1.1 308 "), "{method} {target}: {answer}");
    }
}
