//! What is measured, and how much of it.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::try_join_all};
use tokio_tungstenite::tungstenite::Message;

use super::backend::BODIES;
use super::load::{Client, H1, H2};
use super::now;
use super::servers::Server;

/// One case of one server ends within this.
pub(super) const CASE_MAX: Duration = Duration::from_secs(240);

/// Connections, or streams, that are busy at once.
const BUSY: usize = 64;
/// HTTP/2 connections that carry them.
const H2_CONNECTIONS: usize = 16;
/// Clients that shake hands at once.
const SHAKING: usize = 16;
/// Bytes of a WebSocket message: the size of a chat line or a candidate.
const MESSAGE: usize = 200;
/// All connections together ask so often when latency is measured: neither core is busy then.
const RATE: u32 = 1000;
/// The server may still be closing what the last clients left.
const TAIL: Duration = Duration::from_millis(100);

/// What is measured. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Case {
    FullHandshake,
    ResumedHandshake,
    H1Request,
    H2Request,
    H1Latency,
    H2Latency,
    H1Body64k,
    H2Body64k,
    H1Body1m,
    H2Body1m,
    Echo,
    IdleConnection,
    IdleTunnel,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    None,
    /// At most so much of the better one of the others.
    Ratio(f64),
    /// At most so much, whatever the others need.
    AtMost(f64),
}

impl Case {
    pub(super) const ALL: [Self; 13] = [
        Self::FullHandshake,
        Self::ResumedHandshake,
        Self::H1Request,
        Self::H2Request,
        Self::H1Latency,
        Self::H2Latency,
        Self::H1Body64k,
        Self::H2Body64k,
        Self::H1Body1m,
        Self::H2Body1m,
        Self::Echo,
        Self::IdleConnection,
        Self::IdleTunnel,
    ];

    fn facts(self) -> (&'static str, &'static str, Goal) {
        const CPU: &str = "us of CPU";
        match self {
            Self::FullHandshake => ("full TLS handshake and one request", CPU, Goal::Ratio(0.6)),
            Self::ResumedHandshake => ("resumed TLS handshake and one request", CPU, Goal::None),
            Self::H1Request => ("request on keep-alive TLS, h1", CPU, Goal::Ratio(0.9)),
            Self::H2Request => ("request on keep-alive TLS, h2", CPU, Goal::Ratio(0.9)),
            Self::H1Latency => ("p99 at 1000 requests a second, h1", "ms", Goal::None),
            Self::H2Latency => ("p99 at 1000 requests a second, h2", "ms", Goal::None),
            Self::H1Body64k => ("answer of 64 KB, h1", CPU, Goal::None),
            Self::H2Body64k => ("answer of 64 KB, h2", CPU, Goal::None),
            Self::H1Body1m => ("answer of 1 MB, h1", CPU, Goal::None),
            Self::H2Body1m => ("answer of 1 MB, h2", CPU, Goal::None),
            Self::Echo => ("WSS message and its echo", CPU, Goal::Ratio(0.9)),
            Self::IdleConnection => ("idle keep-alive TLS connection", "KB", Goal::AtMost(10.0)),
            Self::IdleTunnel => ("idle WSS tunnel", "KB", Goal::AtMost(10.0)),
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.facts().0
    }

    pub(super) fn unit(self) -> &'static str {
        self.facts().1
    }

    pub(super) fn goal(self) -> Goal {
        self.facts().2
    }

    /// Measures it once, on a server that has just been started.
    pub(super) async fn measure(self, server: &Server, size: &Size) -> Result<f64, String> {
        let client = Client::of(server.address);
        match self {
            Self::FullHandshake => full_handshakes(server, &client, size.handshakes).await,
            Self::ResumedHandshake => resumed_handshakes(server, &client, size.handshakes).await,
            Self::H1Request => h1_answers(server, &client, "/small", size.requests).await,
            Self::H2Request => h2_answers(server, &client, "/small", size.requests).await,
            Self::H1Body64k => h1_answers(server, &client, "/64k", size.bodies_64k).await,
            Self::H2Body64k => h2_answers(server, &client, "/64k", size.bodies_64k).await,
            Self::H1Body1m => h1_answers(server, &client, "/1m", size.bodies_1m).await,
            Self::H2Body1m => h2_answers(server, &client, "/1m", size.bodies_1m).await,
            Self::H1Latency => latency(h1_connections(&client).await?, size.latency).await,
            Self::H2Latency => latency(h2_streams(&client).await?, size.latency).await,
            Self::Echo => echoes(server, &client, size.echoes).await,
            Self::IdleConnection => {
                idle(server, size, async |number| {
                    let mut connection = client.h1().await?;
                    connection.get(&format!("/small?room=r{}", number % BUSY)).await?;
                    Ok(connection)
                })
                .await
            }
            Self::IdleTunnel => {
                idle(server, size, async |number| {
                    let mut socket = client.websocket(&format!("/ws?room=r{}", number % BUSY)).await?;
                    echo(&mut socket, &Bytes::from_static(b"hello")).await?;
                    Ok(socket)
                })
                .await
            }
        }
    }
}

/// How much of everything.
#[derive(Clone, Debug)]
pub(super) struct Size {
    handshakes: usize,
    requests: usize,
    bodies_64k: usize,
    bodies_1m: usize,
    echoes: usize,
    latency: Duration,
    idle: usize,
    /// Connections before the first reading: they pay for what all share.
    idle_before: usize,
    /// For so long memory must stand still.
    still: Duration,
}

impl Size {
    /// About a second of the server's time for each case.
    pub(super) fn full(idle: usize) -> Self {
        Self {
            handshakes: 2_400,
            requests: 40_000,
            bodies_64k: 6_000,
            bodies_1m: 600,
            echoes: 40_000,
            latency: Duration::from_secs(4),
            idle,
            idle_before: 100,
            still: Duration::from_millis(500),
        }
    }

    /// Just enough to see that it works.
    pub(super) fn quick(idle: usize) -> Self {
        Self {
            handshakes: 64,
            requests: 640,
            bodies_64k: 128,
            bodies_1m: 64,
            echoes: 640,
            latency: Duration::from_millis(200),
            idle,
            idle_before: 5,
            still: Duration::from_millis(50),
        }
    }
}

/// Microseconds of the server's CPU for each of so many pieces of work.
async fn cpu_each(
    server: &Server,
    pieces: usize,
    work: impl Future<Output = Result<(), String>>,
) -> Result<f64, String> {
    let before = server.cpu();
    work.await?;
    tokio::time::sleep(TAIL).await;
    let used = server.cpu().saturating_sub(before);
    Ok(used as f64 / 1000.0 / pieces.max(1) as f64)
}

async fn full_handshakes(server: &Server, client: &Client, count: usize) -> Result<f64, String> {
    let shake = async |count: usize| {
        let left = AtomicUsize::new(count);
        let one = async |number: usize| {
            while take(&left) {
                let mut connection = client.h1().await?;
                connection.get(&format!("/small?room=r{number}")).await?;
                connection.close().await;
            }
            Ok::<_, String>(())
        };
        try_join_all((0..SHAKING).map(one)).await.map(drop)
    };
    shake(count / 10).await?;
    cpu_each(server, count, shake(count)).await
}

async fn resumed_handshakes(server: &Server, client: &Client, count: usize) -> Result<f64, String> {
    let mut clients: Vec<_> = (0..SHAKING).map(|_| client.resuming()).collect();
    // The first connection of each is a full one, a few more warm the server.
    let each = count.div_ceil(SHAKING);
    for times in [1 + each / 10, each] {
        let work = async {
            let one = async |(number, client): (usize, &mut super::load::Resuming<'_>)| {
                for _ in 0..times {
                    let mut connection = client.h1().await?;
                    connection.get(&format!("/small?room=r{number}")).await?;
                    connection.close().await;
                }
                Ok::<_, String>(())
            };
            try_join_all(clients.iter_mut().enumerate().map(one)).await.map(drop)
        };
        let cpu = cpu_each(server, times * SHAKING, work).await?;
        if times == each {
            return Ok(cpu);
        }
    }
    Err("nothing was measured".into())
}

/// Whatever answers GET.
trait Get {
    async fn get(&mut self, path: &str) -> Result<usize, String>;
}

impl Get for H1 {
    async fn get(&mut self, path: &str) -> Result<usize, String> {
        H1::get(self, path).await
    }
}

impl Get for H2 {
    async fn get(&mut self, path: &str) -> Result<usize, String> {
        H2::get(self, path).await
    }
}

async fn h1_connections(client: &Client) -> Result<Vec<H1>, String> {
    try_join_all((0..BUSY).map(|_| client.h1())).await
}

async fn h2_streams(client: &Client) -> Result<Vec<H2>, String> {
    let connections = try_join_all((0..H2_CONNECTIONS).map(|_| client.h2())).await?;
    Ok(connections.iter().cycle().take(BUSY).cloned().collect())
}

async fn h1_answers(server: &Server, client: &Client, path: &str, count: usize) -> Result<f64, String> {
    answers(server, h1_connections(client).await?, path, count).await
}

async fn h2_answers(server: &Server, client: &Client, path: &str, count: usize) -> Result<f64, String> {
    answers(server, h2_streams(client).await?, path, count).await
}

async fn answers<G: Get>(server: &Server, mut gets: Vec<G>, path: &str, count: usize) -> Result<f64, String> {
    let length = BODIES.iter().find(|(known, _)| *known == path).map(|(_, length)| *length);
    let mut all = async |count: usize| {
        let left = AtomicUsize::new(count);
        let one = async |(number, get): (usize, &mut G)| {
            let path = format!("{path}?room=r{number}");
            while take(&left) {
                let got = get.get(&path).await?;
                if Some(got) != length {
                    return Err(format!("{path}: {got} bytes instead of {length:?}"));
                }
            }
            Ok(())
        };
        try_join_all(gets.iter_mut().enumerate().map(one)).await.map(drop)
    };
    all(count / 10).await?;
    cpu_each(server, count, all(count)).await
}

/// Milliseconds that 99 of 100 answers take when few are asked for.
async fn latency<G: Get>(mut gets: Vec<G>, length: Duration) -> Result<f64, String> {
    let interval = Duration::from_secs(1) / RATE;
    let every = interval * u32::try_from(gets.len()).unwrap_or(u32::MAX);
    let start = now();
    let one = async |(number, get): (u32, &mut G)| {
        let path = format!("/small?room=r{number}");
        // Known rooms, open connections.
        get.get(&path).await?;
        let mut took = Vec::new();
        let mut due = start + every + interval * number;
        while due < start + every + length {
            tokio::time::sleep_until(due.into()).await;
            let asked = now();
            get.get(&path).await?;
            took.push(now().duration_since(asked));
            due += every;
        }
        Ok::<_, String>(took)
    };
    let took = try_join_all((0..).zip(gets.iter_mut()).map(one)).await?;
    percentile(took.concat(), 99).map(|p99| p99.as_secs_f64() * 1000.0).ok_or("no answer was measured".into())
}

fn percentile(mut all: Vec<Duration>, percent: usize) -> Option<Duration> {
    all.sort_unstable();
    all.get((all.len() * percent / 100).min(all.len().checked_sub(1)?)).copied()
}

async fn echoes(server: &Server, client: &Client, count: usize) -> Result<f64, String> {
    let paths: Vec<_> = (0..BUSY).map(|number| format!("/ws?room=r{number}")).collect();
    let mut sockets = try_join_all(paths.iter().map(|path| client.websocket(path))).await?;
    let message = Bytes::from(vec![b'm'; MESSAGE]);
    let mut all = async |count: usize| {
        let left = AtomicUsize::new(count);
        let one = async |socket: &mut super::load::WebSocket| {
            while take(&left) {
                echo(socket, &message).await?;
            }
            Ok::<_, String>(())
        };
        try_join_all(sockets.iter_mut().map(one)).await.map(drop)
    };
    all(count / 10).await?;
    cpu_each(server, count, all(count)).await
}

async fn echo(socket: &mut super::load::WebSocket, message: &Bytes) -> Result<(), String> {
    socket.send(Message::Binary(message.clone())).await.map_err(|error| format!("send: {error}"))?;
    match socket.next().await {
        Some(Ok(Message::Binary(back))) if back == *message => Ok(()),
        other => Err(format!("{other:?} instead of the echo")),
    }
}

/// Kilobytes of the server's memory for each of so many connections that do nothing any more.
async fn idle<C>(
    server: &Server,
    size: &Size,
    open: impl AsyncFn(usize) -> Result<C, String>,
) -> Result<f64, String> {
    let mut kept = Vec::new();
    for number in 0..size.idle_before {
        kept.push(open(number).await?);
    }
    let before = settled(server, size.still).await;
    for number in 0..size.idle {
        kept.push(open(number).await?);
    }
    let used = settled(server, size.still).await.saturating_sub(before);
    Ok(used as f64 / 1024.0 / size.idle.max(1) as f64)
}

/// Waits until the server's memory stands still for so long, at most ten times as long.
async fn settled(server: &Server, still: Duration) -> u64 {
    let mut last = server.usage().memory;
    for _ in 0..10 {
        tokio::time::sleep(still).await;
        let now = server.usage().memory;
        if now.abs_diff(last) <= 64 * 1024 {
            return now;
        }
        last = now;
    }
    last
}

/// Takes one of what is left.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_one_of_the_values() {
        let of = |count: u64| percentile((1..=count).rev().map(Duration::from_millis).collect(), 99);
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some(Duration::from_millis(1)));
        assert_eq!(of(1000), Some(Duration::from_millis(991)));
    }

    #[test]
    fn nothing_is_taken_twice() {
        let left = AtomicUsize::new(2);
        assert_eq!([take(&left), take(&left), take(&left), take(&left)], [true, true, false, false]);
    }

    #[test]
    fn every_case_is_listed_once_in_the_order_of_the_table() {
        assert!(Case::ALL.is_sorted_by(|a, b| a < b));
    }
}
