//! What rooms do with what participants do, over the simulation.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::mpsc;

use super::sim::{Got, Sim, TICK, letter, signature, who};
use super::*;
use crate::sfu::session::Injected;
use crate::sfu::signalling::message::SlotSource;
use Source::{Camera, Microphone, Screen};

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn media_reaches_exactly_the_others_of_the_room() {
    let mut sim = Sim::new();
    let a: Vec<usize> = (0..3).map(|_| sim.join("a", &[Microphone, Camera], 4, 4)).collect();
    let b: Vec<usize> = (0..2).map(|_| sim.join("b", &[Microphone, Camera], 4, 4)).collect();
    sim.run(seconds(4));
    for room in [&a, &b] {
        for person in room {
            let expected: Vec<(u8, u8)> = room
                .iter()
                .filter(|other| *other != person)
                .flat_map(|other| [(who(*other), b'c'), (who(*other), b'm')])
                .collect();
            let got = sim.got(*person);
            let mut senders: Vec<_> = got.keys().copied().collect();
            let mut expected_sorted = expected.clone();
            senders.sort_unstable();
            expected_sorted.sort_unstable();
            assert_eq!(senders, expected_sorted, "person {person}");
            assert!(got.values().all(|n| *n > 50), "person {person}: {got:?}");
        }
    }
    assert_eq!(sim.net.refused, 0);
    let audio = sim.people[0].packets.iter().find(|p| signature(&p.payload).1 == b'm').unwrap();
    assert_eq!(audio.audio_level, Some(-30));
}

#[test]
fn slots_say_what_the_lines_carry() {
    let mut sim = Sim::new();
    let first = sim.join("a", &[Microphone, Camera], 4, 4);
    let second = sim.join("a", &[Microphone, Camera, Screen], 4, 4);
    sim.run(seconds(3));
    let slots = sim.people[first].slots();
    let named: Vec<SlotSource> = slots.values().flatten().cloned().collect();
    assert_eq!(named.len(), 3);
    assert!(named.iter().all(|s| s.participant == sim.people[second].id));
    // What comes on a line is what was said to come on it.
    for packet in &sim.people[first].packets {
        let said = slots[&packet.mid].as_ref().unwrap();
        assert_eq!(letter(said.source), signature(&packet.payload).1);
    }
}

#[test]
fn each_line_is_one_continuous_stream() {
    let mut sim = Sim::new();
    let watcher = sim.join("a", &[], 1, 1);
    let first = sim.join("a", &[Microphone, Camera], 0, 0);
    sim.run(seconds(3));
    let second = sim.join("a", &[Microphone, Camera], 0, 0);
    sim.run(seconds(3));
    sim.leave(first);
    sim.run(seconds(3));
    let packets = &sim.people[watcher].packets;
    let mut by_ssrc: BTreeMap<u32, Vec<&Got>> = BTreeMap::new();
    for packet in packets {
        by_ssrc.entry(packet.ssrc).or_default().push(packet);
    }
    assert_eq!(by_ssrc.len(), 2);
    for stream in by_ssrc.values() {
        let senders: std::collections::BTreeSet<u8> =
            stream.iter().map(|p| signature(&p.payload).0).collect();
        assert_eq!(senders.len(), 2, "the line was pointed at the second sender");
        assert!(senders.contains(&who(second)));
        for pair in stream.windows(2) {
            assert_eq!(pair[1].seq, pair[0].seq + 1);
            let step = pair[1].time.wrapping_sub(pair[0].time);
            assert!(step < 90_000 * 4, "{step}");
        }
        let switch =
            stream.windows(2).find(|pair| signature(&pair[0].payload).0 != signature(&pair[1].payload).0);
        let [before, after] = switch.unwrap() else { panic!("windows of two") };
        if signature(&after.payload).1 == b'c' {
            assert_eq!(after.payload[6] & 1, 0, "the switch is on a keyframe");
            let picture = |p: &Got| u16::from_be_bytes([p.payload[2] & 0x7f, p.payload[3]]);
            assert_eq!(picture(after), picture(before) + 1);
            assert_eq!(after.payload[4], before.payload[4].wrapping_add(1));
        }
    }
}

#[test]
fn who_leaves_and_comes_again_is_told_in_batches() {
    let mut sim = Sim::new();
    let stays = sim.join("a", &[Microphone], 4, 4);
    let leaves = sim.join("a", &[Microphone], 4, 4);
    sim.run(seconds(2));
    let old = sim.people[leaves].id.clone();
    sim.leave(leaves);
    sim.run(seconds(1));
    let again = sim.join("a", &[Microphone], 4, 4);
    sim.forget();
    sim.run(seconds(2));
    let story: Vec<String> = sim.people[stays]
        .heard
        .iter()
        .flat_map(|message| match message {
            ServerMessage::Joined { participants } => {
                participants.iter().map(|p| format!("+{}", p.id)).collect::<Vec<_>>()
            }
            ServerMessage::Left { participants } => participants.iter().map(|id| format!("-{id}")).collect(),
            ServerMessage::Welcome { .. }
            | ServerMessage::Answer { .. }
            | ServerMessage::Sources { .. }
            | ServerMessage::Slots { .. }
            | ServerMessage::Lines { .. }
            | ServerMessage::Error { .. } => Vec::new(),
        })
        .collect();
    let new = sim.people[again].id.clone();
    assert_ne!(old, new);
    assert_eq!(story, [format!("+{old}"), format!("-{old}"), format!("+{new}")]);
    assert!(sim.got(stays).keys().eq([(who(again), b'm')].iter()));
    assert!(sim.got(again).keys().eq([(who(stays), b'm')].iter()));
}

#[test]
fn a_room_that_grows_asks_for_lines_in_steps() {
    let mut sim = Sim::new();
    let watcher = sim.join("a", &[], 4, 4);
    for _ in 0..6 {
        sim.join("a", &[Microphone, Camera], 0, 0);
    }
    sim.run(seconds(2));
    let asked: Vec<Lines> = sim.people[watcher]
        .heard
        .iter()
        .filter_map(|m| if let ServerMessage::Lines { lines } = m { Some(*lines) } else { None })
        .collect();
    assert_eq!(asked, [Lines { audio: 8, video: 8 }]);
    assert_eq!(sim.got(watcher).len(), 8);
    let more = sim.people[watcher].client.offer(&[], 4, 4, &[]).unwrap();
    let answer = sim.offer(watcher, more).unwrap();
    sim.people[watcher].client.answer(&answer).unwrap();
    sim.run(seconds(2));
    assert_eq!(sim.got(watcher).len(), 12, "all six are seen and heard");
}

#[test]
fn sources_beyond_the_lines_wait_for_one_and_nobody_is_asked_for_ever() {
    let mut sim = Sim::new();
    let watcher = sim.join("a", &[], 8, 8);
    for _ in 1..60 {
        let person = sim.join("a", &[Microphone, Camera], 4, 4);
        // Who talks does not matter here, only the first ones do.
        sim.people[person].muted = person > 9;
        sim.run(TICK * 4);
    }
    sim.run(seconds(4));
    let asked = |sim: &Sim, person: usize| -> Vec<Lines> {
        let lines =
            |m: &ServerMessage| if let ServerMessage::Lines { lines } = m { Some(*lines) } else { None };
        sim.people[person].heard.iter().filter_map(lines).collect()
    };
    // A client that cannot have more does not follow; each step is asked for once.
    let steps = [16, 32, 64].map(|lines| Lines { audio: lines, video: lines });
    assert_eq!(asked(&sim, watcher), steps);
    assert!(sim.people.iter().all(|p| p.bye.is_none() && p.is_up));
    assert_eq!(sim.host.totals.offers_refused, 0);
    let seen: Vec<u8> = (1..9).map(who).collect();
    let got = sim.got(watcher);
    assert!(seen.iter().all(|w| got.contains_key(&(*w, b'c')) && got.contains_key(&(*w, b'm'))), "{got:?}");
    assert_eq!(got.len(), 16, "the ninth has no line");
    let before = asked(&sim, 5).len();
    sim.leave(3);
    sim.forget();
    sim.run(seconds(3));
    assert!(sim.got(watcher).contains_key(&(who(9), b'c')), "the freed line takes the next");
    assert_eq!((asked(&sim, watcher).len(), asked(&sim, 5).len()), (3, before));
    // All that there is room for is asked for at once when somebody enters.
    let (late, _heard) = sim.try_join("a", Role::Talker);
    assert_eq!(late.unwrap().lines, Lines { audio: 64, video: 64 });
}

#[test]
fn an_ice_restart_on_the_same_address_keeps_media_running() {
    let mut sim = Sim::new();
    let a = sim.join("a", &[Microphone, Camera], 4, 4);
    let b = sim.join("a", &[Microphone, Camera], 4, 4);
    sim.run(seconds(3));
    let old: Vec<SessionKey> = sim.host.session_mut(sim.people[a].session.place).unwrap().keys().collect();
    let offer = sim.people[a].client.restart_ice().unwrap();
    let answer = sim.offer(a, offer).unwrap();
    let new: Vec<SessionKey> = sim.host.session_mut(sim.people[a].session.place).unwrap().keys().collect();
    assert_eq!((old.len(), new.len()), (1, 2));
    // Every ufrag in the answer leads to this worker and this session.
    let ufrags: Vec<&str> = answer
        .lines()
        .filter_map(|l| l.strip_prefix("a=ice-ufrag:").or_else(|| l.split(" ufrag ").nth(1)))
        .collect();
    assert!(ufrags.len() >= 2);
    for ufrag in ufrags {
        let decoded = sim.host.identity.codec.decode(ufrag.trim().as_bytes()).unwrap();
        assert_eq!(SessionKey(decoded.nonce), new[1]);
    }
    sim.people[a].client.answer(&answer).unwrap();
    sim.forget();
    sim.run(seconds(3));
    for (person, other) in [(a, b), (b, a)] {
        let packets = &sim.people[person].packets;
        let longest = packets.windows(2).map(|p| p[1].at - p[0].at).max().unwrap();
        assert!(longest < Duration::from_millis(200), "{longest:?}");
        assert!(sim.got(person).contains_key(&(who(other), b'c')));
    }
    sim.run(seconds(20));
    let left: Vec<SessionKey> = sim.host.session_mut(sim.people[a].session.place).unwrap().keys().collect();
    assert_eq!(left, new[1..]);
    assert_eq!(sim.host.keys.len(), 2);
}

#[test]
fn an_ice_restart_on_another_address_moves_the_media() {
    let mut sim = Sim::new();
    let a = sim.join("a", &[Microphone, Camera], 4, 4);
    let b = sim.join("a", &[Microphone, Camera], 4, 4);
    sim.run(seconds(3));
    let new: SocketAddr = "198.51.100.9:6000".parse().unwrap();
    sim.people[a].address = new;
    sim.people[a].client.move_to(new);
    let offer = sim.people[a].client.restart_ice().unwrap();
    let answer = sim.offer(a, offer).unwrap();
    sim.people[a].client.answer(&answer).unwrap();
    sim.run(seconds(1));
    sim.forget();
    sim.run(seconds(2));
    assert!(sim.got(a).get(&(who(b), b'c')).is_some_and(|n| *n > 50), "{:?}", sim.got(a));
    assert_eq!(sim.net.refused, 0);
}

#[test]
fn a_panic_in_one_receiver_ends_that_one_only() {
    let mut sim = Sim::new();
    let people: Vec<usize> = (0..3).map(|_| sim.join("a", &[Microphone, Camera], 4, 4)).collect();
    sim.run(seconds(2));
    let victim = sim.people[people[1]].session.place;
    sim.host.session_mut(victim).unwrap().injected = Some(Injected::Write);
    sim.forget();
    sim.run(seconds(2));
    assert_eq!(sim.people[people[1]].bye, Some(Bye::Fault));
    assert_eq!(sim.host.totals.ended_panic, 1);
    let id = sim.people[people[1]].id.clone();
    for person in [people[0], people[2]] {
        let heard = &sim.people[person].heard;
        assert!(
            heard
                .iter()
                .any(|m| matches!(m, ServerMessage::Left { participants } if participants.contains(&id)))
        );
        let other = if person == people[0] { people[2] } else { people[0] };
        assert!(sim.got(person)[&(who(other), b'c')] > 50);
    }
    assert_eq!(sim.host.report(sim.now).participants, 2);
}

#[test]
fn a_panic_in_a_sender_ends_that_one_only() {
    let mut sim = Sim::new();
    let people: Vec<usize> = (0..3).map(|_| sim.join("a", &[Microphone, Camera], 4, 4)).collect();
    sim.run(seconds(2));
    let victim = sim.people[people[0]].session.place;
    sim.host.session_mut(victim).unwrap().injected = Some(Injected::Receive);
    sim.run(seconds(1));
    sim.forget();
    sim.run(seconds(2));
    assert_eq!(sim.people[people[0]].bye, Some(Bye::Fault));
    assert!(sim.got(people[1]).keys().eq([(who(people[2]), b'c'), (who(people[2]), b'm')].iter()));
}

#[test]
fn a_panic_in_what_is_only_read_ends_that_one_only() {
    let mut sim = Sim::new();
    let people: Vec<usize> = (0..3).map(|_| sim.join("a", &[Microphone, Camera], 4, 4)).collect();
    sim.run(seconds(2));
    let victim = sim.people[people[0]].session.place;
    sim.host.session_mut(victim).unwrap().injected = Some(Injected::Read);
    let more = sim.people[people[0]].client.offer(&[], 1, 0, &[]).unwrap();
    assert_eq!(sim.offer(people[0], more), Err(OfferFault::Engine("internal fault".to_owned())));
    sim.run(seconds(1));
    sim.forget();
    sim.run(seconds(2));
    assert_eq!((sim.people[people[0]].bye, sim.host.totals.ended_panic), (Some(Bye::Fault), 1));
    assert!(sim.got(people[1]).keys().eq([(who(people[2]), b'c'), (who(people[2]), b'm')].iter()));
}

#[test]
fn keyframe_requests_are_coalesced_and_throttled() {
    let mut sim = Sim::new();
    let sender = sim.join("a", &[Camera], 0, 0);
    let watchers: Vec<usize> = (0..5).map(|_| sim.join("a", &[], 1, 1)).collect();
    sim.run(seconds(3));
    sim.people[sender].keyframes_wanted.clear();
    let asked = sim.host.totals.keyframes_asked;
    let begin = sim.now;
    for _ in 0..40 {
        for watcher in &watchers {
            let ssrc = sim.people[*watcher].packets.last().unwrap().ssrc;
            let person = &mut sim.people[*watcher];
            person.client.want_keyframe(ssrc);
            person.flush(sim.now, &mut sim.net);
        }
        sim.run(Duration::from_millis(50));
    }
    sim.run(seconds(1));
    let wanted = &sim.people[sender].keyframes_wanted;
    let spent = sim.now - begin;
    assert!(wanted.len() as u128 <= spent.as_millis() / 500 + 1, "{}", wanted.len());
    assert!(wanted.len() >= 4, "{}", wanted.len());
    assert!(wanted.windows(2).all(|p| p[1].0 - p[0].0 >= Duration::from_millis(480)));
    assert_eq!(sim.host.totals.keyframes_asked - asked, wanted.len() as u64);
}

#[test]
fn lost_video_is_repaired_on_both_legs() {
    let mut sim = Sim::new();
    let sender = sim.join("a", &[Camera], 0, 0);
    let watcher = sim.join("a", &[], 0, 1);
    sim.run(seconds(2));
    sim.forget();
    sim.net.loss = 0.05;
    sim.run(seconds(10));
    sim.net.loss = 0.0;
    sim.run(seconds(1));
    let packets = &sim.people[watcher].packets;
    let mut numbers: Vec<u64> = packets.iter().map(|p| p.seq).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let span = numbers.last().unwrap() - numbers.first().unwrap() + 1;
    let missing = span - numbers.len() as u64;
    assert!(packets.iter().filter(|p| p.wire_rtx).count() > 10, "repairs came by RTX");
    // One in twenty is lost on each leg; without repair a tenth would be missing.
    assert!(missing * 100 <= span, "{missing} of {span} are missing");
    assert!(sim.got(watcher).keys().eq([(who(sender), b'c')].iter()));
}

#[test]
fn of_a_simulcast_the_best_active_layer_is_forwarded() {
    let mut sim = Sim::new();
    let sender = sim.join_as("a", Role::Talker, &[Camera], 0, 0, &["q", "h", "f"]);
    let watcher = sim.join("a", &[], 0, 1);
    sim.run(seconds(4));
    sim.forget();
    sim.run(seconds(1));
    assert!(sim.got(watcher).keys().eq([(who(sender), b'c' + 2)].iter()), "{:?}", sim.got(watcher));
    // The sender has no bandwidth for the best layer any more.
    sim.people[sender].rids.truncate(2);
    sim.run(seconds(3));
    sim.forget();
    sim.run(seconds(1));
    assert!(sim.got(watcher).keys().eq([(who(sender), b'c' + 1)].iter()), "{:?}", sim.got(watcher));
    let ssrcs: std::collections::BTreeSet<u32> = sim.people[watcher].packets.iter().map(|p| p.ssrc).collect();
    assert_eq!(ssrcs.len(), 1);
}

#[test]
fn who_falls_silent_is_out_after_15_s() {
    let mut sim = Sim::new();
    let stays = sim.join("a", &[Microphone], 4, 4);
    let silent = sim.join("a", &[Microphone], 4, 4);
    sim.run(seconds(2));
    sim.people[silent].gone = true;
    sim.run(seconds(13));
    assert_eq!(sim.people[silent].bye, None);
    sim.run(seconds(5));
    assert_eq!(sim.people[silent].bye, Some(Bye::Silent));
    assert_eq!(sim.people[stays].bye, None);
    let id = sim.people[silent].id.clone();
    let is_told =
        |m: &ServerMessage| matches!(m, ServerMessage::Left { participants } if participants.contains(&id));
    assert!(sim.people[stays].heard.iter().any(is_told));
}

#[test]
fn who_never_connects_is_out_after_30_s() {
    let mut sim = Sim::new();
    let never = sim.join("a", &[Microphone], 4, 4);
    sim.people[never].gone = true;
    sim.run(seconds(29));
    assert_eq!(sim.people[never].bye, None);
    sim.run(seconds(2));
    assert_eq!(sim.people[never].bye, Some(Bye::Silent));
    assert_eq!(sim.host.places.len(), 0);
}

#[test]
fn who_closes_dtls_is_out_at_once() {
    let mut sim = Sim::new();
    let stays = sim.join("a", &[Microphone], 4, 4);
    let closes = sim.join("a", &[Microphone], 4, 4);
    sim.run(seconds(2));
    sim.people[closes].client.close();
    sim.people[closes].drain(sim.now, &mut sim.net, &[]);
    sim.run(Duration::from_millis(300));
    assert_eq!(sim.people[closes].bye, Some(Bye::Closed));
    assert_eq!(sim.people[stays].bye, None);
}

#[test]
fn who_does_not_listen_is_out() {
    let mut sim = Sim::new();
    let (joined, mut notices) = sim.try_join("a", Role::Talker);
    let session = joined.unwrap().session;
    // Each comes and goes in batches of their own: the queue of the first fills.
    for _ in 0..80 {
        let (other, _heard) = sim.try_join("a", Role::Talker);
        sim.run(Duration::from_millis(120));
        let session = other.unwrap().session;
        sim.host.handle_command(Command::Leave { session }, sim.now, &mut sim.net);
        sim.run(Duration::from_millis(120));
    }
    assert_eq!(sim.host.find(session), None);
    assert_eq!(sim.host.totals.ended_slow, 1);
    let mut told = 0;
    while notices.try_recv().is_ok() {
        told += 1;
    }
    assert_eq!(told, 64);
}

#[test]
fn a_full_worker_and_a_full_room_refuse() {
    let mut sim = Sim::with_limits(SfuLimits { sessions_max: 3, room_participants_max: 2 });
    let mut seats = Vec::new();
    for (room, expected) in [
        ("a", None),
        ("a", None),
        ("a", Some(JoinFault::RoomFull)),
        ("b", None),
        ("c", Some(JoinFault::WorkerFull)),
    ] {
        let (joined, heard) = sim.try_join(room, Role::Talker);
        seats.push(heard);
        assert_eq!(joined.err(), expected, "{room}");
    }
    assert_eq!(sim.host.totals.refused, 2);
}

#[test]
fn a_viewer_sees_one_participant_alone_and_is_not_seen() {
    let mut sim = Sim::new();
    let first = sim.join("a", &[Microphone, Camera], 4, 4);
    let second = sim.join("a", &[Microphone, Camera], 4, 4);
    let only = Some(sim.people[second].id.clone());
    let viewer = sim.join_as("a", Role::Viewer { only }, &[], 2, 2, &[]);
    sim.run(seconds(3));
    assert!(sim.got(viewer).keys().eq([(who(second), b'c'), (who(second), b'm')].iter()));
    let id = sim.people[viewer].id.clone();
    let names = |m: &ServerMessage| format!("{m:?}").contains(&id);
    assert!(!sim.people[first].heard.iter().any(names));
    let report = sim.host.report(sim.now);
    assert_eq!((report.rooms[0].participants, report.rooms[0].viewers), (2, 1));
}

#[test]
fn a_seat_whose_task_is_gone_ends_without_a_word() {
    let mut sim = Sim::with_limits(SfuLimits { sessions_max: 2000, room_participants_max: 2000 });
    let stays = sim.join("a", &[Microphone], 4, 4);
    let gone: Vec<String> = (0..600).map(|_| sim.try_join("a", Role::Talker).0.unwrap().you).collect();
    sim.run(seconds(1) + TICK * 2);
    assert_eq!(sim.host.totals.ended_lost, LOOKS_MAX as u64 - 1, "some at a time");
    sim.run(seconds(1));
    assert_eq!((sim.host.totals.ended_lost, sim.host.taken()), (600, 1));
    let left =
        |m: &ServerMessage| if let ServerMessage::Left { participants } = m { participants.len() } else { 0 };
    sim.run(seconds(1));
    assert_eq!(sim.people[stays].heard.iter().map(left).sum::<usize>(), gone.len());
    assert!(sim.people[stays].bye.is_none());
}

#[test]
fn hidden_rooms_do_not_show() {
    let mut sim = Sim::new();
    let (notices, _heard) = mpsc::channel(8);
    let join = Join { room: RoomRef::Hidden(1), name: String::new(), role: Role::Talker, notices };
    let joined = sim.command(|reply| Command::Join { join, reply });
    assert!(joined.is_ok());
    let report = sim.host.report(sim.now);
    assert_eq!((report.participants, report.rooms.len(), report.totals.joined), (0, 0, 0));
}

#[test]
fn aes_gcm_is_what_this_side_picks() {
    let mut sim = Sim::new();
    sim.join("a", &[Microphone], 1, 0);
    sim.join("a", &[Microphone], 1, 0);
    sim.run(seconds(2));
    // Audio payloads have 11 bytes here; what SRTP adds is 16 bytes with GCM (RFC 7714) and 10 with HMAC-SHA1-80.
    let is_rtp = |b: &[u8]| b[0] >= 128 && !(64..96).contains(&(b[1] & 0x7f));
    let bytes = (0..20)
        .find_map(|_| {
            sim.run(TICK);
            sim.net.to_clients.iter().map(|(_, _, b)| b.clone()).find(|b| is_rtp(b))
        })
        .unwrap();
    let words = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let header = 12 + usize::from(bytes[0] & 0x0f) * 4 + if bytes[0] & 0x10 != 0 { 4 + words * 4 } else { 0 };
    assert_eq!(bytes.len() - header - 11, 16);
}

#[test]
fn a_refused_offer_leaves_the_session_as_it_was() {
    let mut sim = Sim::new();
    let a = sim.join("a", &[Microphone, Camera], 4, 4);
    let b = sim.join("a", &[Microphone, Camera], 4, 4);
    sim.run(seconds(2));
    assert_eq!(sim.offer(a, ("no sdp".to_owned(), Vec::new())), Err(OfferFault::NotSdp));
    // Good SDP with new ICE credentials, and a name for a line that is not there.
    let keys = |sim: &mut Sim| -> Vec<SessionKey> {
        sim.host.session_mut(sim.people[a].session.place).unwrap().keys().collect()
    };
    let before = keys(&mut sim);
    let mut restart = sim.people[a].client.restart_ice().unwrap();
    restart.1[0].mid = "nowhere".to_owned();
    assert_eq!(sim.offer(a, restart.clone()), Err(OfferFault::Track("nowhere".to_owned())));
    assert_eq!((keys(&mut sim), sim.host.totals.ice_restarts), (before, 0));
    // The client goes on with its old credentials, for longer than a path may be silent.
    sim.run(seconds(20));
    assert_eq!(sim.people[a].bye, None);
    sim.forget();
    sim.run(seconds(1));
    assert!(sim.got(a)[&(who(b), b'c')] > 20);
}
