//! Who may join a room with a token, and that the token stays a secret.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::kit::client::{Client, refusal};
use crate::kit::config;
use crate::kit::media_client::{MediaClient, Setup};
use crate::kit::process::Roomgate;

const SECRET: &str = "a secret of at least thirty-two bytes";
const HOST: &str = "127.0.0.1";

async fn start() -> Roomgate {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("jwt.secret"), SECRET).unwrap();
    let config = config::conference(1).replace("auth: open", "auth: { jwt: \"file:jwt.secret\" }");
    let roomgate = Roomgate::start_in(folder, &config).await;
    roomgate.nodes_up().await;
    roomgate
}

/// A token for a room that lives for so many seconds.
fn token(algorithm: Algorithm, secret: &str, room: &str, lives: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "room": room, "exp": i64::try_from(now).unwrap() + lives });
    encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

#[tokio::test]
async fn only_a_token_of_this_room_that_is_not_over_lets_in() {
    let roomgate = start().await;
    let client = Client::of(roomgate.https());
    let good = token(Algorithm::HS256, SECRET, "team", 60);
    let none = {
        // {"alg":"none"} and the claims, unsigned.
        let claims = good.split('.').nth(1).unwrap();
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
    };
    let cases = [
        ("no token", None, 401),
        ("nonsense", Some("nonsense".to_owned()), 401),
        ("another secret", Some(token(Algorithm::HS256, &SECRET.to_uppercase(), "team", 60)), 401),
        ("another algorithm", Some(token(Algorithm::HS384, SECRET, "team", 60)), 401),
        ("unsigned", Some(none), 401),
        ("over", Some(token(Algorithm::HS256, SECRET, "team", -300)), 401),
        ("another room", Some(token(Algorithm::HS256, SECRET, "other", 60)), 403),
    ];
    for (what, token, status) in &cases {
        let query = token.as_ref().map_or(String::new(), |token| format!("?token={token}"));
        let failure = client.websocket(HOST, &format!("/rooms/team/ws{query}")).await.err();
        let failure = failure.unwrap_or_else(|| panic!("{what}: let in"));
        assert_eq!(refusal(&failure).map(|status| status.as_u16()), Some(*status), "{what}: {failure}");
        let offer = MediaClient::new(Setup::sender()).await.offer();
        let bearer = token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/sdp")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let answer = client.send(HOST, Method::POST, "/rooms/team/whip", &headers, offer).await.unwrap();
        assert_eq!(answer.status, *status, "{what}: {}", answer.text());
    }
    assert_eq!(roomgate.room_nodes().await.len(), 0, "nobody who was refused has placed a room");

    // The claim is normalised as the path is.
    for claim in ["team", "TEAM"] {
        let good = token(Algorithm::HS256, SECRET, claim, 60);
        client.websocket(HOST, &format!("/rooms/Team/ws?token={good}")).await.unwrap();
        let bearer = format!("Bearer {good}");
        let headers = [("content-type", "application/sdp"), ("authorization", bearer.as_str())];
        let mut media = MediaClient::new(Setup::sender()).await;
        let answer =
            client.send(HOST, Method::POST, "/rooms/team/whip", &headers, media.offer()).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        media.connect(&answer.text()).await.unwrap();
    }

    let signature = good.rsplit('.').next().unwrap();
    for line in roomgate.log() {
        assert!(!line.contains(signature) && !line.contains(SECRET), "the log holds a secret: {line}");
    }
    let config = roomgate.api("/api/v1/config").await.to_string();
    assert!(!config.contains(SECRET) && config.contains("file:jwt.secret"), "{config}");
}

#[tokio::test]
async fn the_page_itself_needs_no_token() {
    let roomgate = start().await;
    let client = Client::of(roomgate.https());
    assert_eq!(client.get(HOST, "/rooms/team").await.unwrap().status, 200);
}
