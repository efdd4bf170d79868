//! A conference in real browsers: everybody sees and hears everybody of their room, and nobody else.

use std::time::Duration;

use serde_json::json;

use roomgate::sfu::signalling::message::{LINES_ASKED_MAX, MESSAGE_BYTES_MAX};

use crate::kit::process::Roomgate;
use crate::kit::{browser, config};

#[tokio::test]
async fn everybody_sees_and_hears_their_room_and_nobody_else() {
    let roomgate = Roomgate::start_up(&config::conference(2)).await;
    let screenshots = browser::screenshots();
    let input = json!({
        "base": format!("https://{}", roomgate.https()),
        "admin": format!("http://{}/", roomgate.admin()),
        "screenshots": screenshots,
    });
    let seen = browser::run("conference.mjs", &input, Duration::from_secs(150)).await;
    for round in ["first", "last"] {
        let pages = seen[round].as_array().unwrap();
        assert_eq!(pages.len(), 5, "{seen}");
        for page in pages {
            let others = if page["room"] == "room-a" { 2 } else { 1 };
            assert_eq!(page["rates"].as_object().unwrap().len(), others, "{page}");
            eprintln!("{round}: {page}");
        }
    }
    assert_eq!(seen["faults"], json!([]), "the pages logged faults");
    for picture in ["call.png", "call-phone.png", "status.png"] {
        let size = std::fs::metadata(screenshots.join(picture)).unwrap().len();
        assert!(size > 5_000, "{picture} has {size} bytes: an empty page");
    }
    eprintln!("screenshots are in {}", screenshots.display());
}

#[tokio::test]
async fn one_layer_of_a_simulcast_sender_is_seen_and_follows_what_is_sent() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let input = json!({ "base": format!("https://{}", roomgate.https()) });
    let seen = browser::run("simulcast.mjs", &input, Duration::from_secs(120)).await;
    assert_eq!(seen["faults"], json!([]), "the viewer's page logged faults");
}

#[tokio::test]
async fn an_offer_with_all_lines_that_are_ever_asked_for_fits_twice_and_is_answered() {
    let roomgate = Roomgate::start_up(&config::conference(1)).await;
    let lines = json!(LINES_ASKED_MAX);
    let input = json!({ "base": format!("https://{}", roomgate.https()), "lines": lines });
    let seen = browser::run("lines.mjs", &input, Duration::from_secs(60)).await;
    eprintln!("{seen}");
    let sent = u64::from(LINES_ASKED_MAX.audio) + u64::from(LINES_ASKED_MAX.video) + 2;
    assert_eq!((seen["lines"].as_u64(), seen["answered"].as_u64()), (Some(sent), Some(sent)), "{seen}");
    let bytes = usize::try_from(seen["bytes"].as_u64().unwrap()).unwrap();
    assert!(bytes < MESSAGE_BYTES_MAX / 2, "an offer of {bytes} bytes leaves no margin");
    assert_eq!(seen["faults"], json!([]), "the page logged faults");
    // A server that asks for more than an offer can hold gets what fits, not a message that it must refuse.
    let cut = &seen["cut"];
    assert!(cut["lines"].as_u64().unwrap() > sent, "{seen}");
    assert!(cut["bytes"].as_u64().unwrap() < MESSAGE_BYTES_MAX as u64, "{seen}");
}
