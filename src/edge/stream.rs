//! One client connection as Pingora sees it: TLS or plain, with gathered writes and a fence behind each request.
//!
//! Two things happen here that Pingora leaves to the transport:
//! - *Corking.* Pingora flushes a response's head and its body one by one, which costs a TLS record, a system call and
//!   a segment each. Writes are gathered (at most [`CORK_BYTES`]) and leave when the other side next polls for
//!   reading, which is what it does while it waits for anything; or on overflow, shutdown and drop. A flush is obeyed
//!   at once when nobody waits for reading.
//! - *The fence.* Reads end where the request's body ends, by our own count. Bytes of a next request stay here, so
//!   nothing that Pingora believes about a body can make one request swallow or leak into another.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use prometheus::IntCounterVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::buffers;
use super::front_door::{ListenerState, OpenConnection};
use super::h2_guard::{Flood, H2Guard};
use super::limits::Seat;
use super::tls::ClientIdentity;
use crate::clock;
use crate::wire::http_body::Chunks;
use crate::wire::http_head::Framing;

/// Largest number of bytes gathered before they are sent: one full TLS record.
pub(crate) const CORK_BYTES: usize = buffers::BYTES;
/// At most this long for the last bytes and the TLS farewell of a closing connection.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// A closing connection whose client still sends is read for this long, so that the answer is not reset away.
const LINGER: Duration = Duration::from_secs(1);
/// And for at most so many bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// The transport of a client connection.
pub(crate) enum Io {
    /// A plain listener.
    Plain(TcpStream),
    /// A TLS listener.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is known about a client connection for all of its life.
#[derive(Debug)]
pub(crate) struct ConnMeta {
    /// The client: who connected, or whom the PROXY header names.
    pub(crate) peer: SocketAddr,
    /// What a load balancer said of the connection.
    pub(crate) proxied: Option<Box<super::proxy_header::Proxied>>,
    /// The listener that accepted it.
    pub(crate) listener: Arc<ListenerState>,
    /// How it is encrypted; `None`: it is not.
    pub(crate) tls: Option<super::access_log::Tls>,
    /// Who the client is, if its handshake was under a rule for client certificates.
    pub(crate) client: Option<Box<ClientIdentity>>,
}

/// When gathered bytes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cork {
    /// At once: tunnels, which gather by themselves.
    Off,
    /// On flush: HTTP/2, whose codec flushes once per turn.
    UntilFlush,
    /// When the other side waits for reading: HTTP/1 through Pingora.
    UntilRead,
}

/// How far the request under way has been read.
#[derive(Clone, Copy, Debug)]
enum Fence {
    /// No request is under way, or the protocol is not HTTP/1: everything passes.
    Open,
    /// This many bytes of body are left; 0: the request is over.
    Length(u64),
    /// A chunked body.
    Chunked(Chunks),
    /// The body is malformed.
    Broken,
}

impl Fence {
    fn is_over(&self) -> bool {
        match self {
            Fence::Open | Fence::Broken => false,
            Fence::Length(left) => *left == 0,
            Fence::Chunked(chunks) => chunks.is_done(),
        }
    }
}

/// One client connection.
pub(crate) struct FrontStream {
    io: Io,
    meta: Arc<ConnMeta>,
    /// Received, and not yet given to anybody. At most one read's worth.
    ahead: BytesMut,
    fence: Fence,
    /// Gathered, and not yet sent.
    out: Vec<u8>,
    out_at: usize,
    cork: Cork,
    /// The last read found nothing: whoever reads will come again.
    reader_waits: bool,
    /// Until the request is over nothing is gathered. Atomic only because Pingora lends its stream for looking, not for
    /// changing.
    at_once: AtomicBool,
    /// The transport may hold bytes that a flush must push.
    unflushed: bool,
    eof: bool,
    /// The request under way was refused before it was read: more of it may come.
    refused: bool,
    closing: Closing,
    /// HTTP/2 only.
    watch: Option<Box<Watch>>,
    /// Bounds the step of closing that is under way.
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    _open: OpenConnection,
    /// Of a WebSocket in its room.
    seat: Option<Seat>,
}

impl Io {
    /// How the connection is encrypted.
    pub(crate) fn tls(&self) -> Option<super::access_log::Tls> {
        match self {
            Io::Plain(_) => None,
            Io::Tls(tls) => Some(super::access_log::tls_of(tls.get_ref().1)),
        }
    }
}

impl FrontStream {
    pub(crate) fn new(io: Io, meta: Arc<ConnMeta>, open: OpenConnection) -> Self {
        Self {
            io,
            meta,
            ahead: BytesMut::new(),
            fence: Fence::Open,
            out: Vec::new(),
            out_at: 0,
            cork: Cork::Off,
            reader_waits: false,
            at_once: AtomicBool::new(false),
            unflushed: false,
            eof: false,
            refused: false,
            closing: Closing::Not,
            watch: None,
            timer: None,
            _open: open,
            seat: None,
        }
    }

    pub(crate) fn meta(&self) -> &Arc<ConnMeta> {
        &self.meta
    }

    pub(crate) fn is_http2(&self) -> bool {
        match &self.io {
            Io::Plain(_) => false,
            Io::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Puts the fence behind the request whose head was just taken. `ahead` is what was read beyond the head.
    pub(crate) fn begin_request(&mut self, framing: Framing, ahead: BytesMut) {
        debug_assert!(self.ahead.is_empty(), "bytes would change their order");
        self.ahead = ahead;
        self.fence = match framing {
            Framing::None => Fence::Length(0),
            Framing::Length(length) => Fence::Length(length),
            Framing::Chunked => Fence::Chunked(Chunks::default()),
        };
        self.cork = Cork::UntilRead;
        self.reader_waits = false;
        *self.at_once.get_mut() = false;
    }

    /// Writes a last answer to a request that was refused before it was read, and closes.
    pub(crate) async fn refuse(&mut self, answer: &[u8]) {
        self.refused = true;
        self.gather(answer);
        Shutdown::shutdown(self).await;
    }

    /// Sends from here on what is written as it is written: nobody waits for reading, which would send what is
    /// gathered. Ends with the request.
    pub(crate) fn send_at_once(&self) {
        self.at_once.store(true, Ordering::Relaxed);
    }

    /// Puts bytes back in front of what will be read.
    pub(crate) fn put_back(&mut self, bytes: BytesMut) {
        debug_assert!(self.ahead.is_empty(), "bytes would change their order");
        self.ahead = bytes;
    }

    /// Takes the fence away and returns what was received of the next request; `None` if the request was not read to
    /// its end or the client has closed, so that nothing may follow.
    pub(crate) fn end_request(&mut self) -> Option<BytesMut> {
        let over = self.fence.is_over();
        self.fence = Fence::Open;
        (over && !self.eof).then(|| std::mem::take(&mut self.ahead))
    }

    /// Tells whether the client sent anything after the end of its request.
    pub(crate) fn has_more_than_the_request(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Tells whether the request's body was malformed.
    pub(crate) fn is_body_broken(&self) -> bool {
        matches!(self.fence, Fence::Broken)
    }

    /// From here on the stream is HTTP/2: its frames are counted, and a flood ends it.
    pub(crate) fn begin_http2(&mut self, guard: H2Guard, floods: IntCounterVec) {
        self.cork = Cork::UntilFlush;
        self.watch = Some(Box::new(Watch { guard, floods, flooded: false }));
    }

    fn is_flooded(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.flooded)
    }

    /// Counts the flood and says goodbye, if that does not tear a frame apart.
    fn begin_calm(&mut self, flood: Flood) {
        let Some(watch) = self.watch.as_mut().filter(|watch| !watch.flooded) else { return };
        watch.flooded = true;
        watch.floods.with_label_values(&[flood.as_str()]).inc();
        if let Some(farewell) = watch.guard.farewell() {
            self.gather(&farewell);
        }
        self.refused = true;
    }

    /// Closes a flooded connection; then reading fails, and whoever reads gives it up with all of its streams.
    fn poll_calm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = ready!(self.poll_close(cx));
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    /// Takes the fence and the cork away: from here the stream belongs to a tunnel.
    /// `seat` counts it among those of its room.
    pub(crate) fn become_tunnel(&mut self, seat: Option<Seat>) {
        self.seat = seat;
        self.fence = Fence::Open;
        self.cork = Cork::Off;
    }

    /// Reads what there is, at most one scratch buffer full, and appends it. Keeps no buffer while it waits.
    pub(crate) async fn fill(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            buffers::with_scratch(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
                into.extend_from_slice(buf.filled());
                Poll::Ready(Ok(buf.filled().len()))
            })
        })
        .await
    }

    /// Sends gathered bytes.
    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            let rest = self.out.get(self.out_at..).unwrap_or_default();
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out_at += sent;
            self.unflushed = true;
        }
        if !self.out.is_empty() {
            buffers::give(std::mem::take(&mut self.out));
            self.out_at = 0;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.out.capacity() == 0 {
            self.out = buffers::take();
        }
        self.out.extend_from_slice(bytes);
    }

    /// Gathers bytes, or sends them at once if they would not fit.
    fn poll_write_out(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if *self.at_once.get_mut() {
            ready!(self.poll_push(cx))?;
            self.unflushed = true;
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        if self.cork == Cork::Off && self.out.is_empty() {
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        if self.out.len() + buf.len() > CORK_BYTES {
            ready!(self.poll_push(cx))?;
            if buf.len() >= CORK_BYTES {
                self.unflushed = true;
                return Pin::new(&mut self.io).poll_write(cx, buf);
            }
        }
        self.gather(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// Reads from the transport without looking at the fence.
    fn poll_transport(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) && buf.filled().len() == before {
            self.eof = true;
        }
        result
    }

    /// Moves received bytes into `buf`, or reads some.
    fn poll_received(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.poll_transport(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(n));
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fenced(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.fence {
            Fence::Open => self.poll_received(cx, buf),
            Fence::Broken => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            _ if self.fence.is_over() => self.poll_after_request(cx),
            Fence::Length(left) => {
                let before = buf.filled().len();
                ready!(self.poll_received(cx, buf))?;
                let fresh = buf.filled().len() - before;
                let taken = usize::try_from(left).map_or(fresh, |left| left.min(fresh));
                self.keep_beyond(buf, before + taken);
                self.fence = Fence::Length(left - taken as u64);
                Poll::Ready(Ok(()))
            }
            Fence::Chunked(mut chunks) => {
                let before = buf.filled().len();
                ready!(self.poll_received(cx, buf))?;
                let fresh = buf.filled().get(before..).unwrap_or_default();
                let mut taken = 0;
                while taken < fresh.len() && !chunks.is_done() {
                    let Ok((n, _)) = chunks.advance(&fresh[taken..]) else {
                        self.fence = Fence::Broken;
                        buf.set_filled(before);
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    };
                    taken += n;
                }
                self.keep_beyond(buf, before + taken);
                self.fence = Fence::Chunked(chunks);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Takes back what was read beyond the fence.
    fn keep_beyond(&mut self, buf: &mut ReadBuf<'_>, end: usize) {
        let beyond = buf.filled().get(end..).unwrap_or_default();
        if !beyond.is_empty() {
            let mut kept = BytesMut::from(beyond);
            kept.extend_from_slice(&self.ahead);
            self.ahead = kept;
            buf.set_filled(end);
        }
    }

    /// The request is over: reports the client's farewell, and keeps what it sends early.
    fn poll_after_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            // One read's worth is kept, no more: the rest waits in the kernel until this request is done.
            return Poll::Pending;
        }
        buffers::with_scratch(|scratch| {
            let mut early = ReadBuf::new(scratch);
            ready!(self.poll_transport(cx, &mut early))?;
            if self.eof {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(early.filled());
            Poll::Pending
        })
    }

    /// Sends what is left and the farewell, then reads on for a moment if the client may still be sending: a socket
    /// that is closed with unread bytes resets the connection, and the answer with it.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let result = match self.closing {
                Closing::Not => {
                    self.closing = Closing::Sending;
                    continue;
                }
                Closing::Sending => {
                    let said = self.poll_farewell(cx);
                    if matches!(said, Poll::Ready(Ok(()))) && !self.is_quiet() {
                        self.fence = Fence::Open;
                        self.ahead.clear();
                        self.timer = None;
                        self.closing = Closing::Lingering { left: LINGER_BYTES };
                        continue;
                    }
                    said
                }
                Closing::Lingering { left } => match self.poll_discard(cx) {
                    Poll::Ready(Ok(n)) if n > 0 && n < left => {
                        self.closing = Closing::Lingering { left: left - n };
                        continue;
                    }
                    Poll::Ready(_) => Poll::Ready(Ok(())),
                    Poll::Pending => Poll::Pending,
                },
                Closing::Done => return Poll::Ready(Ok(())),
            };
            if result.is_pending() && !self.is_late(cx) {
                return Poll::Pending;
            }
            self.timer = None;
            self.closing = Closing::Done;
            return match result {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            };
        }
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        buffers::with_scratch(|scratch| {
            let mut sink = ReadBuf::new(scratch);
            ready!(self.poll_transport(cx, &mut sink))?;
            Poll::Ready(Ok(sink.filled().len()))
        })
    }

    /// Tells whether the step of closing that is under way has taken too long; arms its timer.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = match self.closing {
            _ if self.is_flooded() => LINGER,
            Closing::Not | Closing::Sending | Closing::Done => SHUTDOWN_TIMEOUT,
            Closing::Lingering { .. } => LINGER,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).is_ready()
    }

    /// Tells whether nothing more is expected of the client.
    fn is_quiet(&self) -> bool {
        let between_requests = matches!(self.fence, Fence::Open) && !self.refused;
        self.eof || ((between_requests || self.fence.is_over()) && self.ahead.is_empty())
    }
}

/// What looks at the frames of an HTTP/2 connection.
struct Watch {
    guard: H2Guard,
    floods: IntCounterVec,
    /// A budget is spent: nothing more is read or written but the farewell.
    flooded: bool,
}

/// How far the connection's end has come.
#[derive(Clone, Copy, Debug)]
enum Closing {
    Not,
    Sending,
    Lingering { left: usize },
    Done,
}

impl Drop for FrontStream {
    fn drop(&mut self) {
        // Pingora drops some connections without a farewell; what it wrote before still goes out if the kernel takes
        // it at once.
        if self.out_at < self.out.len() {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = self.poll_push(&mut cx);
        }
        if self.out.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.out));
        }
    }
}

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Io::Tls(tls) => {
                let result = Pin::new(tls).poll_read(cx, buf);
                // A client that closes without a TLS farewell has closed all the same; bodies have their own ends.
                let closed =
                    matches!(&result, Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof);
                if closed { Poll::Ready(Ok(())) } else { result }
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for FrontStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_flooded() {
            return this.poll_calm(cx);
        }
        if let Poll::Ready(Err(e)) = this.poll_push(cx) {
            return Poll::Ready(Err(e));
        }
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = this.poll_fenced(cx, buf);
        if let Some(watch) = &mut this.watch
            && let Err(flood) =
                watch.guard.received(buf.filled().get(before..).unwrap_or_default(), clock::now())
        {
            buf.set_filled(before);
            this.begin_calm(flood);
            return this.poll_calm(cx);
        }
        this.reader_waits = result.is_pending();
        result
    }
}

impl AsyncWrite for FrontStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_flooded() {
            // Nothing may follow the farewell; an error would cut it short.
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(this.poll_write_out(cx, buf))?;
        if let Some(watch) = &mut this.watch
            && let Err(flood) = watch.guard.sent(buf.get(..written).unwrap_or_default(), clock::now())
        {
            this.begin_calm(flood);
            // Reading says goodbye, and nothing may come that would wake it.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.cork {
            _ if this.is_flooded() => Poll::Ready(Ok(())),
            Cork::UntilRead if this.reader_waits && !*this.at_once.get_mut() => Poll::Ready(Ok(())),
            Cork::UntilRead | Cork::UntilFlush => this.poll_push(cx),
            Cork::Off => {
                ready!(this.poll_push(cx))?;
                Pin::new(&mut this.io).poll_flush(cx)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx)
    }
}

#[async_trait]
impl Shutdown for FrontStream {
    async fn shutdown(&mut self) {
        let _ = std::future::poll_fn(|cx| self.poll_close(cx)).await;
    }
}

impl UniqueID for FrontStream {
    fn id(&self) -> UniqueIDType {
        self.io.tcp().as_raw_fd()
    }
}

impl Ssl for FrontStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.is_http2().then_some(ALPN::H2)
    }
}

impl Peek for FrontStream {}

impl GetTimingDigest for FrontStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for FrontStream {
    /// HTTP/2 streams have no way back to their connection but this one.
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        if !self.is_http2() {
            return None;
        }
        let response = ResponseHeader::build(200, Some(0)).ok()?;
        Some(Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(self.meta.clone())))))
    }
}

impl GetSocketDigest for FrontStream {
    /// Asked for once a request. Made each time: it is large, and idle connections and tunnels need none.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        let socket = SocketDigest::from_raw_fd(self.io.tcp().as_raw_fd());
        // Known since accept: saves Pingora a system call.
        let _ = socket.peer_addr.set(Some(self.meta.peer.into()));
        Some(Arc::new(socket))
    }
}

impl fmt::Debug for FrontStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontStream").field("listener", &self.meta.listener.name()).finish_non_exhaustive()
    }
}
