//! How often a sender is asked for a keyframe.
//!
//! Pure: one [`KeyframeThrottle`] a source layer. All receivers' requests meet here, so that a thousand joins cause
//! two keyframes a second and not a thousand. A request within the pause is not lost: it is sent when the pause ends,
//! unless a keyframe came meanwhile.

use std::time::{Duration, Instant};

/// Coalesces and spaces the keyframe requests towards one source layer.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyframeThrottle {
    sent: Option<Instant>,
    waiting: bool,
}

impl KeyframeThrottle {
    /// Notes that a receiver needs a keyframe. Returns whether the sender is to be asked now.
    pub(super) fn request(&mut self, now: Instant) -> bool {
        self.waiting = true;
        self.poll(now)
    }

    /// Returns whether a request that waited is to be sent now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        if !self.waiting || self.due().is_some_and(|due| due > now) {
            return false;
        }
        self.sent = Some(now);
        self.waiting = false;
        true
    }

    /// Notes that a keyframe came: whoever waited has it.
    pub(super) fn on_keyframe(&mut self) {
        self.waiting = false;
    }

    /// Returns when [`KeyframeThrottle::poll`] will say yes; `None` when nobody waits or nothing holds the request.
    pub(super) fn due(&self) -> Option<Instant> {
        if !self.waiting {
            return None;
        }
        self.sent.map(|sent| sent + PAUSE)
    }
}

/// Shortest time between two requests to one layer.
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn requests_within_the_pause_become_one_at_its_end() {
        let start = crate::clock::now();
        let mut throttle = KeyframeThrottle::default();
        assert!(throttle.request(start));
        let sent = (1..1500).filter(|ms| throttle.request(at(start, *ms))).collect::<Vec<_>>();
        assert_eq!(sent, [500, 1000]);
    }

    #[test]
    fn a_request_in_the_pause_is_sent_when_it_ends() {
        let start = crate::clock::now();
        let mut throttle = KeyframeThrottle::default();
        assert!(throttle.request(start));
        assert!(!throttle.request(at(start, 100)));
        assert_eq!(throttle.due(), Some(at(start, 500)));
        assert!(!throttle.poll(at(start, 499)));
        assert!(throttle.poll(at(start, 500)));
        assert_eq!(throttle.due(), None);
        assert!(!throttle.poll(at(start, 2000)));
    }

    #[test]
    fn a_keyframe_answers_everyone_who_waited() {
        let start = crate::clock::now();
        let mut throttle = KeyframeThrottle::default();
        assert!(throttle.request(start));
        assert!(!throttle.request(at(start, 100)));
        throttle.on_keyframe();
        assert_eq!(throttle.due(), None);
        assert!(!throttle.poll(at(start, 600)));
    }
}
