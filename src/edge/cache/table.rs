//! What is kept, by its URL, and what goes when there is no room: what was not asked for since it was last looked at.
//!
//! Pure: values are passed in with their size, who is in use is asked of the caller. New ones stand at the end of a
//! queue; one that comes to its head goes, unless it was asked for in the meantime: then it goes to the end once more
//! (the clock algorithm). A hit so writes one flag and moves nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use http::HeaderMap;

use super::key::{Varied, fits};

/// Most answers to one URL: of those that differ by `Vary`, and by their way.
pub(super) const VARIANTS_MAX: usize = 8;
/// How far from the head of the queue one is looked for that was not asked for; after that the first one goes that can.
const LOOK_MAX: usize = 1024;
/// How many that are in use are passed over.
const IN_USE_MAX: usize = 256;

/// One of the answers to a URL.
#[derive(Debug)]
struct Slot<V> {
    /// Tells it from all others that ever were.
    id: u64,
    way: u64,
    varied: Varied,
    asked_for: bool,
    bytes: u64,
    value: V,
}

/// What is kept.
#[derive(Debug)]
pub(super) struct Table<V> {
    slots: HashMap<Arc<str>, Vec<Slot<V>>>,
    /// Every slot once; and some that are gone, at most as many and a few.
    order: VecDeque<(Arc<str>, u64)>,
    next_id: u64,
    objects: usize,
    bytes: u64,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { slots: HashMap::new(), order: VecDeque::new(), next_id: 0, objects: 0, bytes: 0 }
    }
}

impl<V> Table<V> {
    pub(super) fn objects(&self) -> usize {
        self.objects
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tells whether anything is kept of a URL, for whatever request.
    pub(super) fn knows(&self, url: &str) -> bool {
        self.slots.contains_key(url)
    }

    /// Finds the newest answer that fits a request.
    pub(super) fn find(&mut self, url: &str, way: u64, request: &HeaderMap) -> Option<&V> {
        let slots = self.slots.get_mut(url)?;
        let slot = slots.iter_mut().rev().find(|slot| slot.way == way && fits(&slot.varied, request))?;
        slot.asked_for = true;
        Some(&slot.value)
    }

    /// The answer whose place another one would take.
    pub(super) fn like(&self, url: &str, way: u64, varied: &Varied) -> Option<&V> {
        let slots = self.slots.get(url)?;
        slots.iter().find(|slot| slot.way == way && slot.varied == *varied).map(|slot| &slot.value)
    }

    /// Takes one answer to a URL away.
    pub(super) fn remove_one(&mut self, url: &str, is_it: impl Fn(&V) -> bool) -> Option<V> {
        let id = self.slots.get(url)?.iter().find(|slot| is_it(&slot.value))?.id;
        self.remove_id(url, id)
    }

    /// Keeps an answer, in place of one for the same requests. Returns what had to go for it, and its id.
    pub(super) fn put(
        &mut self,
        url: Arc<str>,
        way: u64,
        varied: Varied,
        bytes: u64,
        value: V,
    ) -> (Vec<V>, u64) {
        let id = self.next_id;
        self.next_id += 1;
        let mut gone = Vec::new();
        let url = self.slots.get_key_value(&url).map_or(url, |(known, _)| known.clone());
        let slots = self.slots.entry(url.clone()).or_default();
        let mut at = slots.iter().position(|slot| slot.way == way && slot.varied == varied);
        if at.is_none() && slots.len() >= VARIANTS_MAX {
            at = Some(0);
        }
        if let Some(at) = at {
            let old = slots.remove(at);
            self.objects -= 1;
            self.bytes -= old.bytes;
            gone.push(old.value);
        }
        slots.push(Slot { id, way, varied, asked_for: false, bytes, value });
        self.objects += 1;
        self.bytes += bytes;
        self.order.push_back((url, id));
        self.sweep();
        (gone, id)
    }

    /// Takes one away that can go; `None`: none of those that were looked at can.
    pub(super) fn evict(&mut self, can_go: impl Fn(&V) -> bool) -> Option<V> {
        let (mut looked, mut in_use) = (0, 0);
        while in_use < IN_USE_MAX && looked < LOOK_MAX + IN_USE_MAX {
            let (url, id) = self.order.pop_front()?;
            let Some(slot) = self.slots.get_mut(&url).and_then(|slots| slots.iter_mut().find(|s| s.id == id))
            else {
                continue;
            };
            looked += 1;
            let asked_for = std::mem::take(&mut slot.asked_for) && looked <= LOOK_MAX;
            let stays = !can_go(&slot.value);
            in_use += usize::from(stays);
            if asked_for || stays {
                self.order.push_back((url, id));
                continue;
            }
            return self.remove_id(&url, id);
        }
        None
    }

    /// Takes all answers to a URL away.
    pub(super) fn remove(&mut self, url: &str) -> Vec<V> {
        let slots = self.slots.remove(url).unwrap_or_default();
        self.gone(&slots);
        slots.into_iter().map(|slot| slot.value).collect()
    }

    /// Takes one answer away, if it is still there.
    pub(super) fn remove_id(&mut self, url: &str, id: u64) -> Option<V> {
        let slots = self.slots.get_mut(url)?;
        let at = slots.iter().position(|slot| slot.id == id)?;
        let slot = slots.remove(at);
        if slots.is_empty() {
            self.slots.remove(url);
        }
        self.gone(std::slice::from_ref(&slot));
        Some(slot.value)
    }

    /// Takes all answers away whose URLs begin with a text. Looks at every URL.
    pub(super) fn remove_below(&mut self, prefix: &str) -> Vec<V> {
        let urls: Vec<Arc<str>> = self.slots.keys().filter(|url| url.starts_with(prefix)).cloned().collect();
        urls.iter().flat_map(|url| self.remove(url)).collect()
    }

    fn gone(&mut self, slots: &[Slot<V>]) {
        self.objects -= slots.len();
        self.bytes -= slots.iter().map(|slot| slot.bytes).sum::<u64>();
        self.sweep();
    }

    /// Forgets places in the queue whose slots are gone, once they are the larger part of it.
    fn sweep(&mut self) {
        if self.order.len() > 2 * self.objects + 64 {
            let slots = &self.slots;
            self.order
                .retain(|(url, id)| slots.get(url).is_some_and(|slots| slots.iter().any(|s| s.id == *id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn lang(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("accept-language", text.parse().unwrap());
        headers
    }

    fn by_lang(text: &str) -> Varied {
        vec![("accept-language".parse().unwrap(), text.as_bytes().to_vec())]
    }

    #[test]
    fn answers_are_found_by_what_they_vary_by_and_replace_their_like() {
        let mut table = Table::default();
        let url: Arc<str> = "https://a/x".into();
        table.put(url.clone(), 1, by_lang("de"), 10, "de");
        table.put(url.clone(), 1, by_lang("en"), 10, "en");
        table.put(url.clone(), 2, Varied::new(), 10, "other way");
        for (way, language, expected) in
            [(1, "de", Some("de")), (1, "en", Some("en")), (1, "fr", None), (2, "fr", Some("other way"))]
        {
            assert_eq!(table.find(&url, way, &lang(language)).copied(), expected, "{way} {language}");
        }
        let (gone, _) = table.put(url.clone(), 1, by_lang("de"), 15, "de again");
        assert_eq!((gone, table.objects(), table.bytes()), (vec!["de"], 3, 35));
        assert_eq!(table.find(&url, 1, &lang("de")), Some(&"de again"));
        assert_eq!(table.like(&url, 1, &by_lang("de")), Some(&"de again"));
        assert_eq!(table.like(&url, 2, &by_lang("de")), None);
        assert_eq!(table.remove_one(&url, |value| *value == "en"), Some("en"));
        assert_eq!(table.remove_one(&url, |value| *value == "en"), None);
        table.put(url.clone(), 1, by_lang("en"), 10, "en");
        assert_eq!(table.remove(&url).len(), 3);
        assert_eq!((table.objects(), table.bytes(), table.knows(&url)), (0, 0, false));
    }

    #[test]
    fn a_url_has_a_few_variants_and_the_oldest_goes() {
        let mut table = Table::default();
        let url: Arc<str> = "https://a/x".into();
        for n in 0..VARIANTS_MAX + 3 {
            table.put(url.clone(), 0, by_lang(&n.to_string()), 1, n);
        }
        assert_eq!((table.objects(), table.bytes()), (VARIANTS_MAX, VARIANTS_MAX as u64));
        assert_eq!(table.find(&url, 0, &lang("2")), None);
        assert_eq!(table.find(&url, 0, &lang("3")), Some(&3));
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut table = Table::default();
        for n in 0..10 {
            table.put(format!("https://a/{n}").into(), 0, Varied::new(), 1, n);
        }
        table.find("https://a/0", 0, &HeaderMap::new());
        let order: Vec<i32> = std::iter::from_fn(|| table.evict(|value| *value != 3)).collect();
        assert_eq!(order, [1, 2, 4, 5, 6, 7, 8, 9, 0]);
        assert_eq!(table.evict(|_| true), Some(3));
        assert_eq!(table.evict(|_| true), None);
    }

    #[test]
    fn one_always_goes_however_many_were_asked_for() {
        let mut table = Table::default();
        let count = 3 * LOOK_MAX;
        for n in 0..count {
            table.put(format!("https://a/{n}").into(), 0, Varied::new(), 1, n);
        }
        for _ in 0..4 {
            for n in 0..count {
                table.find(&format!("https://a/{n}"), 0, &HeaderMap::new());
            }
            assert!(table.evict(|_| true).is_some());
        }
        assert_eq!(table.objects(), count - 4);
        assert_eq!(table.evict(|_| false), None);
    }

    /// Puts, finds, purges and evicts at random, beside a plain model: sums stay right, nothing is lost or left over.
    #[test]
    fn a_simulation_agrees_with_a_plain_model() {
        let seed = std::env::var("ROOMGATE_SEED").ok().and_then(|seed| seed.parse().ok());
        for seed in seed.map_or(0..20, |seed: u64| seed..seed + 1) {
            eprintln!("ROOMGATE_SEED={seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let mut table: Table<u64> = Table::default();
            // Value and its bytes, by URL.
            let mut model: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
            let mut bytes_of: HashMap<u64, u64> = HashMap::new();
            let bound = 3000;
            for value in 0..4000u64 {
                let url = format!("https://{}/{}", rng.random_range(0..3), rng.random_range(0..40));
                match rng.random_range(0..100) {
                    0..60 => {
                        let bytes = rng.random_range(1..100);
                        while table.bytes() + bytes > bound {
                            let gone = table.evict(|_| true).expect("all can go");
                            model.values_mut().for_each(|list| list.retain(|(v, _)| *v != gone));
                        }
                        let varied = by_lang(&rng.random_range(0..12).to_string());
                        bytes_of.insert(value, bytes);
                        let (gone, _) = table.put(url.as_str().into(), 0, varied, bytes, value);
                        let list = model.entry(url).or_default();
                        list.retain(|(v, _)| !gone.contains(v));
                        list.push((value, bytes));
                    }
                    60..90 => {
                        let language = rng.random_range(0..12).to_string();
                        if let Some(found) = table.find(&url, 0, &lang(&language)) {
                            assert!(model[&url].iter().any(|(v, _)| v == found), "seed {seed}");
                        }
                    }
                    90..97 => {
                        let gone: HashSet<u64> = table.remove(&url).into_iter().collect();
                        let expected = model.remove(&url).unwrap_or_default();
                        assert_eq!(gone, expected.iter().map(|(v, _)| *v).collect(), "seed {seed}");
                    }
                    _ => {
                        let prefix = &url[..url.len() - 1];
                        let gone: HashSet<u64> = table.remove_below(prefix).into_iter().collect();
                        let mut expected = HashSet::new();
                        model.retain(|url, list| {
                            let below = url.starts_with(prefix);
                            if below {
                                expected.extend(list.iter().map(|(v, _)| *v));
                            }
                            !below
                        });
                        assert_eq!(gone, expected, "seed {seed}");
                    }
                }
                let objects: usize = model.values().map(Vec::len).sum();
                let bytes: u64 = model.values().flatten().map(|(_, bytes)| bytes).sum();
                assert_eq!((table.objects(), table.bytes()), (objects, bytes), "seed {seed} step {value}");
                assert!(table.bytes() <= bound && table.order.len() <= 2 * objects + 64, "seed {seed}");
                assert!(table.slots.values().all(|slots| (1..=VARIANTS_MAX).contains(&slots.len())));
            }
            assert_eq!(table.remove_below("").len(), model.values().map(Vec::len).sum::<usize>());
            assert_eq!((table.objects(), table.bytes(), table.slots.len()), (0, 0, 0));
        }
    }
}
