//! One participant over the WebSocket of a conference site, with the independent media client.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::client::{Client, WebSocket};
use super::media_client::{Direction, Kind, MediaClient, Received, Setup};
use super::{SOON, within};

/// A participant whose media is connected: line 0 sends audio, line 1 video, the others receive.
pub(crate) struct Participant {
    /// Its id.
    pub(crate) you: String,
    pub(crate) media: MediaClient,
    socket: WebSocket,
    offers: u32,
    /// A `lines` that came while something else was waited for: the server asks once.
    asked: Option<Value>,
}

impl Participant {
    /// Joins a room and connects its media.
    ///
    /// # Errors
    ///
    /// Says which step failed and why.
    pub(crate) async fn join(client: &Client, room: &str, name: &str, port: u16) -> Result<Self, String> {
        let socket = client.websocket("127.0.0.1", &format!("/rooms/{room}/ws")).await;
        let mut socket = socket.map_err(|fault| format!("WebSocket: {fault}"))?;
        say(&mut socket, json!({ "type": "join", "name": name })).await?;
        let welcome = hear(&mut socket, "welcome", &mut None).await?;
        let mut lines = vec![(Kind::Audio, Direction::Send), (Kind::Video, Direction::Send)];
        for (kind, asked) in [(Kind::Audio, "audio"), (Kind::Video, "video")] {
            let asked = welcome["lines"][asked].as_u64().ok_or("welcome asks for no lines")?;
            lines.extend((0..asked).map(|_| (kind, Direction::Receive)));
        }
        let mut setup = Setup::with(&lines);
        setup.port = port;
        let you = welcome["you"].as_str().ok_or("welcome names nobody")?.to_owned();
        let mut joined = Self { you, media: MediaClient::new(setup).await, socket, offers: 0, asked: None };
        let offer = joined.media.offer();
        joined.negotiate(offer).await?;
        Ok(joined)
    }

    /// Restarts ICE on the living connection.
    ///
    /// # Errors
    ///
    /// Says which step failed and why.
    pub(crate) async fn restart_ice(&mut self) -> Result<(), String> {
        let offer = self.media.offer_ice_restart();
        self.negotiate(offer).await
    }

    /// Sends pictures until `other` has received one of them, and returns it. Both attend to what the server asks.
    pub(crate) async fn send_to(&mut self, other: &mut Self, mark: &[u8]) -> Received {
        within(SOON, "media gets to the other participant", async {
            loop {
                self.media.send(1, mark).await;
                // What older marks left behind is read in one go: sending again must not outrun reading.
                let marked = async {
                    loop {
                        let received = other.media.receive().await;
                        if received.payload.ends_with(mark) {
                            return received;
                        }
                    }
                };
                if let Ok(received) = tokio::time::timeout(Duration::from_millis(50), marked).await {
                    return received;
                }
                self.attend().await.expect("the sender's session goes on");
                other.attend().await.expect("the receiver's session goes on");
            }
        })
        .await
    }

    /// Reads what has come from the server, and offers more lines when it asks for them.
    ///
    /// # Errors
    ///
    /// Says which step failed and why.
    pub(crate) async fn attend(&mut self) -> Result<(), String> {
        if let Some(asked) = self.asked.take() {
            self.add_lines(&asked).await?;
        }
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(1), self.socket.next()).await {
            match message {
                Some(Ok(Message::Text(text))) => {
                    let message: Value =
                        serde_json::from_str(&text).map_err(|fault| format!("{fault}: {text}"))?;
                    if message["type"] == "lines" {
                        self.add_lines(&message).await?;
                    }
                }
                Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}")),
                Some(Ok(_)) => {}
                Some(Err(fault)) => return Err(format!("broken: {fault}")),
                None => return Err("ended".to_owned()),
            }
        }
        Ok(())
    }

    async fn add_lines(&mut self, asked: &Value) -> Result<(), String> {
        for (kind, name) in [(Kind::Audio, "audio"), (Kind::Video, "video")] {
            let asked =
                usize::try_from(asked[name].as_u64().ok_or("lines without a number")?).expect("a few");
            let have = self.media.lines(kind, Direction::Receive);
            self.media.add_lines(kind, Direction::Receive, asked.saturating_sub(have));
        }
        let offer = self.media.offer();
        self.negotiate(offer).await
    }

    /// Waits for a message of this type.
    ///
    /// # Errors
    ///
    /// Tells how the connection ended.
    pub(crate) async fn hear(&mut self, kind: &str) -> Result<Value, String> {
        hear(&mut self.socket, kind, &mut self.asked).await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Tells how the connection ended.
    pub(crate) async fn say(&mut self, message: Value) -> Result<(), String> {
        say(&mut self.socket, message).await
    }

    /// Waits until the server closes the connection.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        within(SOON, "the server closes the connection", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => return frame,
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        })
        .await
    }

    /// Leaves the room.
    pub(crate) async fn leave(mut self) -> Option<CloseFrame> {
        say(&mut self.socket, json!({ "type": "leave" })).await.expect("the connection lives");
        self.closed().await
    }

    async fn negotiate(&mut self, offer: String) -> Result<(), String> {
        self.offers += 1;
        let tracks = json!([{ "mid": "0", "source": "microphone" }, { "mid": "1", "source": "camera" }]);
        let offer = json!({ "type": "offer", "id": self.offers, "sdp": offer, "tracks": tracks });
        say(&mut self.socket, offer).await?;
        let answer = hear(&mut self.socket, "answer", &mut self.asked).await?;
        if answer["id"] != self.offers {
            return Err(format!("an answer to the offer {}", answer["id"]));
        }
        self.media.connect(answer["sdp"].as_str().unwrap_or_default()).await
    }
}

async fn say(socket: &mut WebSocket, message: Value) -> Result<(), String> {
    socket.send(Message::text(message.to_string())).await.map_err(|fault| format!("send: {fault}"))
}

async fn hear(socket: &mut WebSocket, kind: &str, asked: &mut Option<Value>) -> Result<Value, String> {
    within(SOON, &format!("a message {kind}"), async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value =
                        serde_json::from_str(&text).map_err(|fault| format!("{fault}: {text}"))?;
                    if message["type"] == kind {
                        return Ok(message);
                    }
                    if message["type"] == "lines" {
                        *asked = Some(message);
                        continue;
                    }
                    if message["type"] == "error" {
                        return Err(format!("the server says {message}"));
                    }
                }
                Some(Ok(Message::Close(frame))) => return Err(format!("closed: {frame:?}")),
                Some(Ok(_)) => {}
                Some(Err(fault)) => return Err(format!("broken: {fault}")),
                None => return Err("ended".to_owned()),
            }
        }
    })
    .await
}
