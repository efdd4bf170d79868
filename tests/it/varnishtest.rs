//! The scripts of `tests/vtc`: varnishtest is client and node, the real binary between them.
//!
//! Each script has a site and a pool of its own; its node listens on an address of 127.0.0.0/8 that nobody else uses.
//! varnishtest speaks HTTP/2 without TLS only, so a relay of the test puts TLS around it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::kit::edge_rig::tls_connect;
use crate::kit::process::Roomgate;
use crate::kit::tools::{folder, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_script_passes() {
    let mut names: Vec<String> = std::fs::read_dir(folder("vtc"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".vtc").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 19, "{names:?}");
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let node = |index: usize| format!("127.{}.{}.{}:18080", 100 + high % 100, low, index + 1);
    let host = |name: &str| format!("{}.test", name.replace('_', "-"));
    let (mut sites, mut pools) = (String::new(), String::new());
    for (index, name) in names.iter().enumerate() {
        sites += &format!("  {}: {{ pool: p{index} }}\n", host(name));
        pools += &format!("  p{index}: {{ nodes: {{ s1: \"http://{}\" }} }}\n", node(index));
    }
    let roomgate = Roomgate::start(&format!(
        r#"version: 1
listeners:
  https: {{ bind: ["127.0.0.1:0"], tls: self-signed }}
  http: {{ bind: ["127.0.0.1:0"] }}
sites:
{sites}pools:
{pools}admin: {{ bind: ["127.0.0.1:0"] }}
"#
    ))
    .await;
    let h2 = around_with_tls(roomgate.https()).await;
    let mut failed = Vec::new();
    // A few at a time: each is a process with threads of its own.
    for chunk in names.iter().enumerate().collect::<Vec<_>>().chunks(4) {
        let runs = chunk.iter().map(|(index, name)| {
            let define = |key: &str, value: &str| ["-D".to_owned(), format!("{key}={value}")];
            let arguments = [
                define("host", &host(name)).to_vec(),
                define("node", &node(*index)).to_vec(),
                define("http", &roomgate.listener("http").to_string()).to_vec(),
                define("h2", &h2.to_string()).to_vec(),
                vec!["-t".to_owned(), "30".to_owned()],
                vec![folder("vtc").join(format!("{name}.vtc")).display().to_string()],
            ]
            .concat();
            async move { run("varnishtest", &arguments, Duration::from_secs(60)).await }
        });
        for ((_, name), output) in chunk.iter().zip(futures_util::future::join_all(runs).await) {
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let from = text.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
                failed.push(format!("--- {name}\n{}", &text[from..]));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {} scripts:\n{}", failed.len(), names.len(), failed.join("\n"));
}

/// Listens without TLS and speaks HTTP/2 over TLS with the edge.
async fn around_with_tls(edge: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, edge));
        }
    });
    address
}

async fn relay(mut client: TcpStream, edge: SocketAddr) {
    let mut tls = tls_connect(edge, "plain.test", "h2").await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut tls).await;
}
