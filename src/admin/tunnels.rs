//! Reads a wish to close tunnels, as it stands in the body of `POST /api/v1/tunnels/close`.
//!
//! Pure: bytes in, a wish or one sentence for the operator out.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::view::{CloseTunnels, RoomName, WhichTunnels};
use crate::config;

/// What clients are told unless the wish says otherwise: come again at once.
const CODE: u16 = 1012;
/// Longest spread.
const OVER_MAX: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    node: Option<String>,
    room: Option<RoomName>,
    client: Option<String>,
    id: Option<u64>,
    code: Option<u16>,
    over: Option<String>,
}

/// Reads the wish.
///
/// # Errors
///
/// What is wrong, and the cure.
pub(super) fn read(body: &[u8]) -> Result<CloseTunnels, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("the body: {error}; {FORM}"))?;
    let mut which = Vec::new();
    if let Some(node) = body.node {
        let (pool, name) =
            node.split_once('/').ok_or_else(|| format!("node: {node:?} is not \"pool/name\""))?;
        which.push(WhichTunnels::Node { pool: pool.to_owned(), name: name.to_owned() });
    }
    which.extend(body.room.map(WhichTunnels::Room));
    if let Some(client) = body.client {
        let network = client.parse::<IpNet>().or_else(|_| client.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| format!("client: {client:?} is not an address or a network"))?;
        which.push(WhichTunnels::Client(network));
    }
    which.extend(body.id.map(WhichTunnels::Id));
    let one = <[WhichTunnels; 1]>::try_from(which).map_err(|which| {
        format!("the body names {} kinds of tunnels, it must name one; {FORM}", which.len())
    })?;
    let over = match body.over {
        None => Duration::ZERO,
        Some(text) => match config::duration(&text) {
            Some(over) if over <= OVER_MAX => over,
            Some(_) | None => return Err(format!("over: {text:?} is not a time up to 1h, such as \"10s\"")),
        },
    };
    let [which] = one;
    Ok(CloseTunnels { which, code: body.code.unwrap_or(CODE), over })
}

const FORM: &str = "one of \"node\": \"pool/name\", \"room\": { \"pool\", \"scope\", \"key\" }, \"client\": \"192.0.2.0/24\" and \"id\": 1, with \"code\": 1001, 1008, 1012 or 1013 and \"over\": \"10s\" as wished";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_wish_is_read() {
        let node = WhichTunnels::Node { pool: "shards".to_owned(), name: "s1".to_owned() };
        let room = RoomName { pool: "p".to_owned(), scope: "*".to_owned(), key: "a/b".to_owned() };
        let seconds = Duration::from_secs;
        for (body, which, code, over) in [
            (r#"{"node":"shards/s1"}"#, node, 1012, seconds(0)),
            (
                r#"{"room":{"pool":"p","scope":"*","key":"a/b"},"code":1013,"over":"10s"}"#,
                WhichTunnels::Room(room),
                1013,
                seconds(10),
            ),
            (
                r#"{"client":"192.0.2.0/24","code":1008}"#,
                WhichTunnels::Client("192.0.2.0/24".parse().unwrap()),
                1008,
                seconds(0),
            ),
            (
                r#"{"client":"2001:db8::1"}"#,
                WhichTunnels::Client("2001:db8::1/128".parse().unwrap()),
                1012,
                seconds(0),
            ),
            (r#"{"id":7,"over":"1h"}"#, WhichTunnels::Id(7), 1012, seconds(3600)),
        ] {
            assert_eq!(read(body.as_bytes()), Ok(CloseTunnels { which, code, over }), "{body}");
        }
    }

    #[test]
    fn a_wrong_wish_is_named() {
        for (body, expected) in [
            ("", "the body: EOF while parsing"),
            ("[]", "the body: invalid"),
            ("{}", "the body names 0 kinds"),
            (r#"{"id":1,"node":"a/b"}"#, "the body names 2 kinds"),
            (r#"{"node":"s1"}"#, "node: \"s1\" is not \"pool/name\""),
            (r#"{"client":"me"}"#, "client: \"me\" is not an address"),
            (r#"{"id":1,"over":"soon"}"#, "over: \"soon\" is not a time"),
            (r#"{"id":1,"over":"2h"}"#, "over: \"2h\" is not a time"),
            (r#"{"id":-1}"#, "the body: invalid value"),
            (r#"{"all":true}"#, "the body: unknown field `all`"),
            (r#"{"room":{"pool":"p","key":"k"}}"#, "the body: missing field `scope`"),
        ] {
            let wrong = read(body.as_bytes()).unwrap_err();
            assert!(wrong.starts_with(expected), "{body}: {wrong}");
        }
    }
}
