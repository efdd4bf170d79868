//! Which simulcast layer of a source is forwarded.
//!
//! Pure: every layer of a source is counted; the best one that was active in the last second is the target of all
//! receivers. "Best" is the one with the largest picture where keyframes tell it, else the one with the most bytes:
//! that needs no knowledge of the codec and works when payloads are encrypted end to end. Bytes alone would show a
//! still picture in its smallest size, and the order of rids means nothing: it differs between clients.

use std::time::{Duration, Instant};

/// Counts the layers of one source and picks one.
#[derive(Clone, Debug)]
pub(super) struct Layers<K> {
    layers: Vec<Layer<K>>,
    target: Option<K>,
    window: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Layer<K> {
    key: K,
    // Bytes of the running and of the last whole window.
    bytes: u64,
    bytes_last: u64,
    // Of its last keyframe.
    pixels: Option<u32>,
    seen: Instant,
}

impl<K: Copy + Eq> Layers<K> {
    /// Creates an empty set.
    pub(super) fn new() -> Self {
        Self { layers: Vec::new(), target: None, window: None }
    }

    /// Counts one packet; `pixels` is the size of the picture that it begins, if it tells. Returns whether the target changed. At [`LAYERS_MAX`] layers, a new one takes the place of
    /// the one that was silent longest.
    pub(super) fn on_packet(&mut self, key: K, bytes: usize, pixels: Option<u32>, now: Instant) -> bool {
        match self.layers.iter_mut().find(|layer| layer.key == key) {
            Some(layer) => {
                layer.bytes += bytes as u64;
                layer.pixels = pixels.or(layer.pixels);
                layer.seen = now;
            }
            None => {
                if self.layers.len() >= LAYERS_MAX
                    && let Some(oldest) = (0..self.layers.len()).min_by_key(|i| self.layers[*i].seen)
                {
                    self.layers.swap_remove(oldest);
                }
                self.layers.push(Layer { key, bytes: bytes as u64, bytes_last: 0, pixels, seen: now });
            }
        }
        let Some(target) = self.target else {
            self.target = Some(key);
            self.window = Some(now);
            return true;
        };
        let window = *self.window.get_or_insert(now);
        if now.duration_since(window) < WINDOW {
            return false;
        }
        self.window = Some(now);
        for layer in &mut self.layers {
            layer.bytes_last = std::mem::take(&mut layer.bytes);
        }
        let picked = self.pick(target, now);
        self.target = Some(picked);
        picked != target
    }

    /// Returns the layer that receivers are to be given.
    pub(super) fn target(&self) -> Option<K> {
        self.target
    }

    /// Returns the best active layer; the present one stays unless another is larger, or better by a fifth.
    fn pick(&self, target: K, now: Instant) -> K {
        let active = |layer: &&Layer<K>| now.duration_since(layer.seen) < WINDOW && layer.bytes_last > 0;
        let sizes_known = self.layers.iter().filter(active).all(|layer| layer.pixels.is_some());
        let rank = |layer: &Layer<K>| (layer.pixels.filter(|_| sizes_known), layer.bytes_last);
        let present = self.layers.iter().filter(active).find(|layer| layer.key == target);
        let best = self.layers.iter().filter(active).max_by_key(|layer| rank(layer));
        match (present, best) {
            (Some(present), Some(best)) if rank(best).0 > rank(present).0 => best.key,
            (Some(present), Some(best)) if best.bytes_last * 5 > present.bytes_last * 6 => best.key,
            (None, Some(best)) => best.key,
            (Some(_), _) | (None, None) => target,
        }
    }
}

/// Layers of one source that are counted at once.
pub(super) const LAYERS_MAX: usize = 4;
/// A layer without a packet for so long is not active.
const WINDOW: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `rates` (bytes every 20 ms, by layer) for `ms` and returns the targets in the order of their change.
    fn run(layers: &mut Layers<u8>, start: Instant, from: u64, ms: u64, rates: &[(u8, usize)]) -> Vec<u8> {
        let mut changes = Vec::new();
        for t in (from..from + ms).step_by(20) {
            for (key, bytes) in rates {
                if layers.on_packet(*key, *bytes, None, start + Duration::from_millis(t)) {
                    changes.extend(layers.target());
                }
            }
        }
        changes
    }

    #[test]
    fn the_layer_with_most_bytes_wins_and_a_silent_one_loses() {
        let start = crate::clock::now();
        let mut layers = Layers::new();
        assert_eq!(run(&mut layers, start, 0, 2000, &[(1, 100)]), [1]);
        assert_eq!(run(&mut layers, start, 2000, 3000, &[(1, 100), (2, 300), (3, 900)]), [3]);
        assert_eq!(run(&mut layers, start, 5000, 3000, &[(1, 100), (2, 300)]), [2]);
    }

    #[test]
    fn a_little_more_is_no_reason_to_switch() {
        let start = crate::clock::now();
        let mut layers = Layers::new();
        run(&mut layers, start, 0, 2000, &[(1, 100)]);
        assert_eq!(run(&mut layers, start, 2000, 5000, &[(1, 100), (2, 119)]), [0u8; 0]);
        assert_eq!(run(&mut layers, start, 7000, 5000, &[(1, 100), (2, 125)]), [2]);
    }

    #[test]
    fn the_largest_picture_wins_when_all_sizes_are_known() {
        let start = crate::clock::now();
        let mut layers = Layers::new();
        layers.on_packet(1, 100, Some(160 * 120), start);
        layers.on_packet(2, 100, Some(640 * 480), start);
        // A still picture: the small layer has more bytes than the large one.
        assert_eq!(run(&mut layers, start, 20, 3000, &[(1, 100), (2, 60)]), [2]);
        // A layer of unknown size comes: bytes decide.
        assert_eq!(run(&mut layers, start, 3020, 3000, &[(1, 100), (2, 60), (3, 300)]), [3]);
        // It goes, and sizes decide again.
        assert_eq!(run(&mut layers, start, 6020, 3000, &[(1, 100), (2, 60)]).last(), Some(&2));
    }

    #[test]
    fn layers_are_bounded() {
        let start = crate::clock::now();
        let mut layers = Layers::new();
        for key in 0..100u8 {
            layers.on_packet(key, 1, None, start + Duration::from_millis(u64::from(key)));
        }
        assert_eq!(layers.layers.len(), LAYERS_MAX);
    }
}
