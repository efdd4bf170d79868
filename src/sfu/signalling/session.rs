//! One WebSocket participant, from the 101 to the close frame.
//!
//! The task owns the socket and the hold on the room. Messages of the client become commands of the room's worker;
//! what the worker has to say comes through a bounded channel. Nothing here waits without a deadline: a client that
//! does not read is let go, and meanwhile the channel fills and the worker lets it go from the room.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role as WireRole, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::message::{ClientMessage, MESSAGE_BYTES_MAX, NAME_CHARS_MAX, ServerMessage};
use super::rate::Rate;
use crate::clock;
use crate::sfu::command::{Bye, Command, Join, Notice, Role, SessionId};
use crate::sfu::control::{JoinContext, Sfu};
use crate::sfu::room::RoomRef;

/// How a WebSocket ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The client left.
    Left,
    /// The process stops.
    Stopping,
    /// A message was not understood; the sentence says why.
    Refused(String),
    /// Join again: the room moved, or the media broke.
    Again(&'static str),
    /// Full: try later.
    Full(String),
    /// The connection is gone.
    Lost,
}

impl End {
    /// Returns the close code; `None` when nobody would hear it.
    fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Left => Some(CloseCode::Normal),
            Self::Stopping => Some(CloseCode::Away),
            Self::Refused(_) => Some(CloseCode::Policy),
            Self::Again(_) => Some(CloseCode::Restart),
            Self::Full(_) => Some(CloseCode::Again),
            Self::Lost => None,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Stopping => "the service stops",
            Self::Refused(_) => "refused",
            Self::Again(reason) => reason,
            Self::Full(_) => "full",
            Self::Lost => "",
        }
    }
}

/// Runs one participant.
pub(in crate::sfu) async fn serve<S>(sfu: &Sfu, stream: S, context: JoinContext)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let gauge = &sfu.metrics().websockets;
    gauge.inc();
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(stream, WireRole::Server, Some(config)).await;
    let now = clock::now();
    let mut session = Session {
        sfu,
        socket,
        context,
        joined: None,
        notices: None,
        offers: 0,
        rate: Rate::new(now),
        begun: now,
        heard: now,
    };
    let end = session.run().await;
    if let Some(joined) = session.joined.take() {
        sfu.tell(session.context.worker, Command::Leave { session: joined });
    }
    let code = end.code().map_or_else(|| "lost".to_owned(), |code| u16::from(code).to_string());
    session.close(&end).await;
    sfu.metrics().websockets_ended.with_label_values(&[&code]).inc();
    gauge.dec();
}

struct Session<'a, S> {
    sfu: &'a Sfu,
    socket: WebSocketStream<S>,
    context: JoinContext,
    joined: Option<SessionId>,
    notices: Option<mpsc::Receiver<Notice>>,
    // The largest offer id so far, plus one.
    offers: u64,
    rate: Rate,
    begun: Instant,
    heard: Instant,
}

impl<S> Session<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn run(&mut self) -> End {
        let lost = self.context.hold.lost();
        let tasks = self.sfu.tasks().clone();
        let mut lost = std::pin::pin!(lost);
        let mut farewell = std::pin::pin!(tasks.farewell());
        let mut tick = tokio::time::interval_at((self.begun + TICK).into(), TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pinged = self.begun;
        loop {
            tokio::select! {
                biased;
                () = &mut farewell => return End::Stopping,
                () = &mut lost => return End::Again("the room moved"),
                notice = next(&mut self.notices) => {
                    let sent = match notice {
                        Some(Notice::Message(message)) => self.send(&message).await,
                        Some(Notice::Bye(bye)) => return End::Again(words(bye)),
                        None => return End::Again("the connection did not keep up"),
                    };
                    if let Err(end) = sent {
                        return end;
                    }
                }
                received = self.socket.next() => {
                    self.heard = clock::now();
                    if let Err(end) = self.on_received(received).await {
                        return end;
                    }
                }
                _ = tick.tick() => {
                    let now = clock::now();
                    if self.joined.is_none() && now.duration_since(self.begun) >= JOIN_TIMEOUT {
                        return self.refuse("no join message came within 10 s").await;
                    }
                    if now.duration_since(self.heard) >= IDLE_MAX {
                        return End::Lost;
                    }
                    if now.duration_since(pinged) >= PING_EVERY {
                        pinged = now;
                        if let Err(end) = self.write(Message::Ping(Vec::new().into())).await {
                            return end;
                        }
                    }
                }
            }
        }
    }

    async fn on_received(&mut self, received: Option<Result<Message, Error>>) -> Result<(), End> {
        let message = match received {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => {
                let reason = format!("a message was longer than {MESSAGE_BYTES_MAX} bytes");
                return Err(self.refuse(&reason).await);
            }
            Some(Err(_)) | None => return Err(End::Lost),
        };
        if !self.rate.take(clock::now()) {
            return Err(self.refuse("too many messages").await);
        }
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => self.on_message(message).await,
                Err(error) => {
                    let reason = format!("the message was not understood: {error}");
                    Err(self.refuse(&reason).await)
                }
            },
            Message::Binary(_) => Err(self.refuse("messages are text frames").await),
            Message::Close(_) => Err(End::Left),
            // Pings are answered by the next read or write of the socket.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn on_message(&mut self, message: ClientMessage) -> Result<(), End> {
        match (message, self.joined) {
            (ClientMessage::Join { name }, None) => self.join(&name).await,
            (ClientMessage::Join { .. }, Some(_)) => Err(self.refuse("join came twice").await),
            (ClientMessage::Leave, _) => Err(End::Left),
            (_, None) => Err(self.refuse("the first message must be join").await),
            (ClientMessage::Offer { id, sdp, tracks }, Some(session)) => {
                if u64::from(id) < self.offers {
                    return Err(self.refuse("each offer needs a larger id than the last").await);
                }
                self.offers = u64::from(id) + 1;
                let answer = match self.sfu.offer(self.context.worker, session, sdp, tracks).await {
                    Ok(Ok(sdp)) => ServerMessage::Answer { id, sdp },
                    Ok(Err(fault)) => ServerMessage::Error { message: fault.to_string(), fatal: false },
                    Err(error) => return Err(End::Full(error.to_string())),
                };
                self.send(&answer).await
            }
            (ClientMessage::Mute { source, muted }, Some(session)) => {
                self.sfu.tell(self.context.worker, Command::Mute { session, source, muted });
                Ok(())
            }
        }
    }

    async fn join(&mut self, name: &str) -> Result<(), End> {
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        let room = RoomRef::Public(self.context.room.clone());
        let join = Join { room, name: display_name(name), role: Role::Talker, notices };
        let joined = match self.sfu.join(self.context.worker, join).await {
            Ok(Ok(joined)) => joined,
            Ok(Err(fault)) => return Err(self.full(&fault.to_string()).await),
            Err(error) => return Err(self.full(&error.to_string()).await),
        };
        self.joined = Some(joined.session);
        self.notices = Some(heard);
        let welcome = ServerMessage::Welcome {
            you: joined.you,
            room: self.context.room.key.as_str().to_owned(),
            participants: joined.participants,
            lines: joined.lines,
        };
        self.send(&welcome).await
    }

    async fn refuse(&mut self, reason: &str) -> End {
        let message = ServerMessage::Error { message: reason.to_owned(), fatal: true };
        match self.send(&message).await {
            Ok(()) => End::Refused(reason.to_owned()),
            Err(end) => end,
        }
    }

    async fn full(&mut self, reason: &str) -> End {
        let message = ServerMessage::Error { message: reason.to_owned(), fatal: true };
        match self.send(&message).await {
            Ok(()) => End::Full(reason.to_owned()),
            Err(end) => end,
        }
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), End> {
        let json = serde_json::to_string(message).expect("messages have string keys only");
        self.write(Message::Text(json.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(WRITE_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Lost),
        }
    }

    /// Sends the close frame and waits a little for the client's.
    async fn close(mut self, end: &End) {
        let Some(code) = end.code() else { return };
        let frame = CloseFrame { code, reason: end.reason().into() };
        let goodbye = async {
            if self.socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
            // Bytes that nobody reads would make the end a reset, and the client might never see the close frame.
            let stream = self.socket.get_mut();
            if stream.shutdown().await.is_ok() {
                let mut rest = [0; BUFFER_BYTES];
                while matches!(stream.read(&mut rest).await, Ok(bytes) if bytes > 0) {}
            }
        };
        // Whoever does not answer is gone all the same.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// Waits for the next notice; for ever while there is no channel.
async fn next(notices: &mut Option<mpsc::Receiver<Notice>>) -> Option<Notice> {
    match notices {
        Some(notices) => notices.recv().await,
        None => std::future::pending().await,
    }
}

fn words(bye: Bye) -> &'static str {
    match bye {
        Bye::Closed => "the media was closed",
        Bye::Silent => "no media connectivity",
        Bye::Fault => "the media failed",
    }
}

/// Cuts a display name and takes out what would not show.
pub(in crate::sfu) fn display_name(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect::<String>().trim().to_owned()
}

const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(15);
const IDLE_MAX: Duration = Duration::from_secs(45);
const TICK: Duration = Duration::from_secs(1);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What may wait for a participant; at more, they are out of the room.
const NOTICES_MAX: usize = 256;
const BUFFER_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_and_cleaned() {
        for (name, expected) in [
            ("Ada", "Ada"),
            ("  Ada\u{7}\n ", "Ada"),
            (&"\u{e9}".repeat(100), &"\u{e9}".repeat(NAME_CHARS_MAX)),
            ("", ""),
        ] {
            assert_eq!(display_name(name), expected);
        }
    }
}
