//! TCP nodes that say their names: each greets with a line, echoes, and says how much it got when the client's side is
//! over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::edge_rig::soon;

/// One node. It dies with its value.
pub(crate) struct TcpNode {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    open: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
    accept: JoinHandle<()>,
}

impl TcpNode {
    /// Starts a node on a free port.
    pub(crate) async fn start(name: &str) -> Self {
        Self::on(name, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts a node on a listener.
    pub(crate) fn on(name: &str, listener: TcpListener) -> Self {
        let (open, total) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let addr = listener.local_addr().unwrap();
        let (greeting, counts) = (format!("{name}\n"), (open.clone(), total.clone()));
        let accept = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::Relaxed);
                counts.1.fetch_add(1, Ordering::Relaxed);
                let counted = Open(counts.0.clone());
                let greeting = greeting.clone();
                connections.spawn(async move {
                    let _counted = counted;
                    echo(stream, &greeting).await
                });
            }
        });
        Self { name: name.to_owned(), addr, open, total, accept }
    }

    /// `tcp://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("tcp://{}", self.addr)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections so far, those of checks too.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Stops listening and cuts every connection.
    pub(crate) async fn kill(&mut self) {
        self.accept.abort();
        let _ = (&mut self.accept).await;
    }
}

impl Drop for TcpNode {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn echo(mut stream: TcpStream, greeting: &str) -> Option<()> {
    stream.write_all(greeting.as_bytes()).await.ok()?;
    let (mut buffer, mut got) = (vec![0; 64 * 1024], 0);
    loop {
        let n = stream.read(&mut buffer).await.ok()?;
        if n == 0 {
            break;
        }
        got += n;
        stream.write_all(&buffer[..n]).await.ok()?;
    }
    stream.write_all(format!("got {got}\n").as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

/// A client of such a node, through whatever lies between.
pub(crate) struct TcpClient<S = TcpStream> {
    pub(crate) stream: BufStream<S>,
}

impl TcpClient {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).await.unwrap())
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> TcpClient<S> {
    pub(crate) fn of(stream: S) -> Self {
        Self { stream: BufStream::new(stream) }
    }

    /// The next line, without its end; empty at the end of the stream.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = soon("a line", self.stream.read_line(&mut line)).await;
        line.trim_end().to_owned()
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a line and expects it back.
    pub(crate) async fn echoes(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes()).await;
        assert_eq!(self.line().await, line);
    }

    /// Waits for the end of the stream; returns what came before it.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = soon("the end", self.stream.read_to_end(&mut rest)).await;
        rest
    }
}
