//! Plain TCP listeners: every byte to a node of the pool and back, half-close, choice of node, limits and ends.

use std::sync::Arc;
use std::time::Duration;

use roomgate::pool::Checker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::edge_rig::{DEADLINE, Rig, settings_from, soon, until};
use crate::kit::port::Port;
use crate::kit::tcp_node::{TcpClient, TcpNode};

/// A file with a TCP listener on these nodes; `more` goes into the pool.
fn file(nodes: &[(&str, String)], more: &str) -> String {
    let nodes: Vec<String> = nodes.iter().map(|(name, node)| format!("{name}: {node}")).collect();
    format!(
        "version: 1\nlisteners: {{ turns: {{ bind: [\"127.0.0.1:0\"], tcp: coturn }} }}\n\
         sites: {{ s.test: {{ pool: web }} }}\n\
         pools:\n  web: {{ nodes: {{ a: \"http://127.0.0.1:1\" }} }}\n  coturn: {{ nodes: {{ {} }}{more} }}\n\
         admin: {{ bind: [] }}\nshutdown: {{ deadline: 2s }}\n",
        nodes.join(", ")
    )
}

fn start(nodes: &[&TcpNode], more: &str) -> Rig {
    let nodes: Vec<_> = nodes.iter().map(|n| (n.name.as_str(), format!("\"{}\"", n.url()))).collect();
    Rig::start_with(settings_from(&file(&nodes, more), &[]), |_, _| None)
}

fn closed(rig: &Rig, reason: &str) -> u64 {
    rig.metrics.edge.l4_closed.with_label_values(&[reason]).get()
}

async fn connect(rig: &Rig) -> TcpClient {
    TcpClient::connect(rig.addr("turns")).await
}

#[tokio::test]
async fn bytes_pass_as_they_are_and_each_side_ends_by_itself() {
    let node = TcpNode::start("t1").await;
    let rig = start(&[&node], "");
    let mut client = connect(&rig).await;
    assert_eq!(client.line().await, "t1", "the node may speak first");
    client.echoes("\u{0}\u{1}binary \u{7f}").await;
    assert_eq!(rig.metrics.edge.l4_streams.get(), 1);
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.line().await, "got 11", "the node's side outlives the client's");
    assert!(client.rest().await.is_empty());
    until("the stream has ended", || closed(&rig, "ended") == 1).await;
    assert_eq!((rig.metrics.edge.l4_streams.get(), rig.metrics.edge.connections.get()), (0, 0));
    let counted = (rig.metrics.edge.l4_bytes_from_client.get(), rig.metrics.edge.l4_bytes_from_node.get());
    assert_eq!(counted, (11, 3 + 11 + 7));
    rig.end().await;
}

#[tokio::test]
async fn megabytes_pass_whole_both_ways_at_once() {
    let node = TcpNode::start("t1").await;
    let rig = start(&[&node], "");
    let mut client = connect(&rig).await;
    client.line().await;
    let sent: Vec<u8> = (0..4_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut reads, mut writes) = tokio::io::split(client.stream);
    let mut back = vec![0; sent.len()];
    let (written, read) = soon("the transfer", async {
        tokio::join!(
            async {
                writes.write_all(&sent).await?;
                writes.flush().await
            },
            reads.read_exact(&mut back)
        )
    })
    .await;
    written.unwrap();
    read.unwrap();
    assert!(back == sent, "another byte came back");
    drop((reads, writes));
    rig.end().await;
}

#[tokio::test]
async fn a_side_that_takes_nothing_stops_the_other_and_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = format!("\"tcp://{}\"", listener.local_addr().unwrap());
    let rig = Rig::start_with(settings_from(&file(&[("t1", node)], ""), &[]), |_, _| None);
    let mut client = TcpStream::connect(rig.addr("turns")).await.unwrap();
    let (mut taken, _) = soon("the node is dialled", listener.accept()).await.unwrap();
    // Until nothing more is taken for a while: the sockets' buffers are full and Roomgate holds the rest.
    let (part, mut sent) = (vec![7; 64 * 1024], 0);
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), client.write(&part)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "nobody reads, and it is taken all the same");
    }
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    soon("all of it arrives", taken.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), sent);
    drop((client, taken));
    rig.end().await;
}

#[tokio::test]
async fn a_new_stream_goes_to_the_node_with_the_fewest_and_to_weight_0_last() {
    let nodes = [TcpNode::start("t1").await, TcpNode::start("t2").await, TcpNode::start("t3").await];
    let entry =
        |n: &TcpNode, weight: u32| (n.name.clone(), format!("{{ url: \"{}\", weight: {weight} }}", n.url()));
    let entries = [entry(&nodes[0], 100), entry(&nodes[1], 1), entry(&nodes[2], 0)];
    let entries: Vec<_> = entries.iter().map(|(name, node)| (name.as_str(), node.clone())).collect();
    let rig = Rig::start_with(settings_from(&file(&entries, ""), &[]), |_, _| None);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = connect(&rig).await;
        let name = client.line().await;
        clients.push((name, client));
    }
    let on = |clients: &[(String, TcpClient)], name: &str| clients.iter().filter(|(n, _)| n == name).count();
    assert_eq!((on(&clients, "t1"), on(&clients, "t2"), on(&clients, "t3")), (4, 4, 0));
    clients.retain(|(name, _)| name != "t2");
    until("the ended streams are counted", || nodes[1].open() == 0).await;
    until("the ended streams are counted at the edge", || rig.metrics.edge.l4_streams.get() == 4).await;
    for _ in 0..4 {
        let mut client = connect(&rig).await;
        assert_eq!(client.line().await, "t2");
        clients.push(("t2".to_owned(), client));
    }
    drop(clients);
    rig.end().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_passed_over_and_down_at_once() {
    let mut dead = TcpNode::start("t1").await;
    dead.kill().await;
    let node = TcpNode::start("t2").await;
    let rig = start(&[&dead, &node], "");
    for _ in 0..6 {
        assert_eq!(connect(&rig).await.line().await, "t2");
    }
    let pool = rig.pools.get("coturn").unwrap();
    assert!(!pool.node("t1").unwrap().can_serve() && pool.node("t2").unwrap().can_serve());
    assert_eq!(rig.metrics.edge.connect_failures.get(), 1, "a node that is down is not asked again");
    drop(pool);
    rig.end().await;
}

#[tokio::test]
async fn without_a_node_the_client_is_closed_and_counted() {
    let mut dead = TcpNode::start("t1").await;
    dead.kill().await;
    let rig = start(&[&dead], "");
    for reason in ["unreachable", "no_node"] {
        assert!(connect(&rig).await.rest().await.is_empty());
        until("it is counted", || closed(&rig, reason) == 1).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn a_check_brings_a_node_up_and_takes_it_down_with_its_streams() {
    let mut nodes = [TcpNode::start("t1").await, TcpNode::start("t2").await];
    let check = ", check: { tcp: connect, every: 500ms, timeout: 500ms, rise: 1, fall: 2 }";
    let rig = start(&[&nodes[0], &nodes[1]], check);
    let states = |rig: &Rig| {
        let pool = rig.pools.get("coturn").unwrap();
        pool.nodes.iter().map(|node| node.can_serve()).collect::<Vec<_>>()
    };
    assert_eq!(states(&rig), [false, false], "not before a check");
    Checker::start(rig.pools.clone(), None, Arc::new(|_| {}), &rig.tasks);
    let mut client = connect(&rig).await;
    assert!(client.line().await.starts_with('t'), "a stream waits for the first check");
    until("both are up", || states(&rig) == [true, true]).await;
    drop(client);
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = connect(&rig).await;
        clients.push((client.line().await, client));
    }
    nodes[0].kill().await;
    let kept = Port::of(nodes[0].addr).unwrap();
    until("t1 is down", || states(&rig) == [false, true]).await;
    for (name, client) in &mut clients {
        if name == "t1" {
            client.rest().await;
        } else {
            client.echoes("still here").await;
        }
    }
    assert_eq!(connect(&rig).await.line().await, "t2");
    nodes[0] = TcpNode::on("t1", TcpListener::bind(nodes[0].addr).await.unwrap());
    drop(kept);
    until("t1 is back", || states(&rig) == [true, true]).await;
    assert!(nodes[0].total() > 0);
    drop(clients);
    rig.end().await;
}

#[tokio::test]
async fn a_silent_stream_is_closed_and_a_slow_one_is_not() {
    let node = TcpNode::start("t1").await;
    let rig = start(&[&node], ", timeouts: { idle: 1s }");
    let (mut silent, mut slow) = (connect(&rig).await, connect(&rig).await);
    assert_eq!((silent.line().await, slow.line().await), ("t1".to_owned(), "t1".to_owned()));
    let ended = tokio::spawn(async move { silent.rest().await });
    let mut echoed = 0;
    // A byte now and then keeps a stream, however slow the machine is.
    while !ended.is_finished() || echoed < 5 {
        slow.echoes("x").await;
        echoed += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(ended.await.unwrap().is_empty());
    until("it is counted", || closed(&rig, "idle") == 1).await;
    slow.echoes("still here").await;
    drop(slow);
    rig.end().await;
}

#[tokio::test]
async fn streams_end_with_the_process_within_its_deadline() {
    let node = TcpNode::start("t1").await;
    let rig = start(&[&node], "");
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = connect(&rig).await;
        client.line().await;
        clients.push(client);
    }
    // The file's deadline is 2 s; the rest is for a machine that is busy.
    let (left, ()) = tokio::join!(rig.tasks.drain(DEADLINE), async {
        for client in &mut clients {
            client.rest().await;
        }
    });
    assert_eq!((left, closed(&rig, "stopping")), (0, 20));
}

#[tokio::test]
async fn a_reload_sends_new_streams_elsewhere_and_touches_no_other() {
    let nodes = [TcpNode::start("t1").await, TcpNode::start("t2").await];
    let rig = start(&[&nodes[0]], "");
    let mut before = connect(&rig).await;
    assert_eq!(before.line().await, "t1");
    let both: Vec<_> = nodes.iter().map(|n| (n.name.as_str(), format!("\"{}\"", n.url()))).collect();
    let second = |text: String| {
        text.replace("coturn }", "other }").replace(
            "  coturn:",
            &format!("  other: {{ nodes: {{ t2: \"{}\" }} }}\n  coturn:", nodes[1].url()),
        )
    };
    let settings = settings_from(&second(file(&both[..1], "")), &[]);
    rig.pools.apply(&settings.pools);
    rig.edge.apply(Arc::new(settings)).unwrap();
    assert_eq!(connect(&rig).await.line().await, "t2");
    before.echoes("still here").await;
    // Its node goes away: that is the one thing that closes it.
    let text = second(file(&both[..1], "")).replace("t1: ", "t9: ");
    let settings = settings_from(&text, &[]);
    rig.pools.apply(&settings.pools);
    rig.edge.apply(Arc::new(settings)).unwrap();
    assert!(before.rest().await.is_empty());
    until("it is counted", || closed(&rig, "node_down") == 1).await;
    rig.end().await;
}
