//! Replays the fuzzer's corpora, and every input cut short at each byte, through what is fuzzed.

use std::path::Path;

#[path = "../fuzz/targets.rs"]
mod targets;

/// Feeds one target with its corpus.
fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{} holds a corpus", folder.display());
    for file in files {
        let input = std::fs::read(&file).unwrap();
        eprintln!("{}", file.display());
        target(&input);
        for end in 0..input.len().min(600) {
            target(&input[..end]);
        }
        // Every byte once with each of its bits turned, up to a length that takes no time.
        for at in 0..input.len().min(300) {
            for bit in 0..8 {
                let mut turned = input.clone();
                turned[at] ^= 1 << bit;
                target(&turned);
            }
        }
    }
}

#[test]
fn stun() {
    replay("stun", targets::stun);
}

#[test]
fn ufrag() {
    replay("ufrag", targets::ufrag);
}

#[test]
fn rtp_header() {
    replay("rtp_header", targets::rtp_header);
}

#[test]
fn http_head() {
    replay("http_head", targets::http_head);
}

#[test]
fn h2_frames() {
    replay("h2_frames", targets::h2_frames);
}

#[test]
fn proxy_protocol() {
    replay("proxy_protocol", targets::proxy_protocol);
}

#[test]
fn config() {
    replay("config", targets::config);
}

#[test]
fn signalling() {
    replay("signalling", targets::signalling);
}

#[test]
fn cache_control() {
    replay("cache_control", targets::cache_control);
}

#[test]
fn room_key() {
    replay("room_key", targets::room_key);
}
