//! The media client against another stack than the product's use of it: a bare str0m that sends every packet back.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use str0m::change::SdpOffer;
use str0m::crypto::from_feature_flags;
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::kit::media_client::{Direction, Kind, MediaClient, Setup, VP8_KEYFRAME};
use crate::kit::{SOON, within};

/// Sends what comes on the line `0` back on the line `1`, until dropped.
struct Mirror {
    answer: String,
    end: Arc<AtomicBool>,
}

impl Mirror {
    fn start(offer: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let config = RtcConfig::new().set_ice_lite(true).set_rtp_mode(true);
        let config = config.set_crypto_provider(Arc::new(from_feature_flags()));
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap()).unwrap();
        let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer).unwrap()).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        std::thread::spawn({
            let end = end.clone();
            move || run(rtc, &socket, &end)
        });
        Self { answer: answer.to_sdp_string(), end }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn run(mut rtc: Rtc, socket: &UdpSocket, end: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !end.load(Ordering::Relaxed) {
        match rtc.poll_output().unwrap() {
            Output::Transmit(datagram) => {
                let _ = socket.send_to(&datagram.contents, datagram.destination);
                continue;
            }
            Output::Event(Event::RtpPacket(packet)) => {
                let mut api = rtc.direct_api();
                let line = api.stream_tx_by_mid("1".into(), None).unwrap();
                line.write_rtp(RtpWrite::new(
                    packet.header.payload_type,
                    packet.seq_no,
                    packet.header.timestamp,
                    packet.timestamp,
                    packet.payload.to_vec(),
                ));
                continue;
            }
            Output::Event(_) => continue,
            Output::Timeout(_) => {}
        }
        let input = match socket.recv_from(&mut buffer) {
            Ok((length, source)) => Input::Receive(
                Instant::now(),
                Receive {
                    proto: Protocol::Udp,
                    source,
                    destination: socket.local_addr().unwrap(),
                    contents: buffer[..length].try_into().unwrap(),
                },
            ),
            Err(_) => Input::Timeout(Instant::now()),
        };
        rtc.handle_input(input).unwrap();
    }
}

async fn media_comes_back(setup: Setup, gcm: bool) {
    let mut client = MediaClient::new(setup).await;
    let mirror = Mirror::start(&client.offer());
    client.connect(&mirror.answer).await.unwrap();
    assert_eq!(client.is_gcm(), gcm);
    let received = within(SOON, "a packet comes back", async {
        loop {
            client.send(0, b"to the mirror").await;
            if let Ok(received) = tokio::time::timeout(Duration::from_millis(50), client.receive()).await {
                return received;
            }
        }
    })
    .await;
    assert_eq!(received.mid.as_deref(), Some("1"));
    assert_eq!(received.header.payload_type, Kind::Video.payload_type());
    assert_eq!(received.payload, [VP8_KEYFRAME, b"to the mirror"].concat());
    client.close().await;
}

const LINES: &[(Kind, Direction)] = &[(Kind::Video, Direction::Send), (Kind::Video, Direction::Receive)];

#[tokio::test]
async fn a_client_with_gcm_gets_its_media_back() {
    media_comes_back(Setup::with(LINES), true).await;
}

#[tokio::test]
async fn a_client_without_gcm_gets_its_media_back() {
    media_comes_back(Setup::with(LINES).without_gcm(), false).await;
}

#[tokio::test]
async fn a_wrong_fingerprint_in_the_answer_is_noticed() {
    let mut client = MediaClient::new(Setup::with(LINES)).await;
    let mirror = Mirror::start(&client.offer());
    let line = mirror.answer.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap();
    let wrong = format!("a=fingerprint:sha-256 {}", vec!["00"; 32].join(":"));
    let fault = client.connect(&mirror.answer.replace(line, &wrong)).await.unwrap_err();
    assert!(fault.contains("DTLS presents"), "{fault}");
}
