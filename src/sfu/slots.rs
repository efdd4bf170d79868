//! Which receive line of a participant carries whom.
//!
//! Pure. A line that carries somebody keeps them for as long as they are there: pictures do not jump about when
//! others come and go. A freed line takes the next one in the room's order.

use std::collections::BTreeMap;

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// One source of a room, in the order in which lines are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    /// Number of the source.
    pub(super) source: u64,
    /// Who sends it: nobody receives their own.
    pub(super) owner: u32,
    /// Which lines can carry it.
    pub(super) kind: Kind,
}

/// One receive line as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// What it can carry.
    pub(super) kind: Kind,
    /// What it carries.
    pub(super) from: Option<u64>,
}

/// All sources of a room, in the order in which lines are given out.
#[derive(Clone, Debug)]
pub(super) struct Offering {
    list: Vec<Offered>,
    index: BTreeMap<u64, usize>,
}

impl Offering {
    /// Takes the sources of a room.
    pub(super) fn new(list: Vec<Offered>) -> Self {
        let index = list.iter().enumerate().map(|(index, offered)| (offered.source, index)).collect();
        Self { list, index }
    }

    /// Returns what changes for one receiver: the index of each line that is to carry something else, and what.
    ///
    /// `only` limits the receiver to one participant's sources.
    pub(super) fn assign(
        &self,
        lines: &[Line],
        receiver: u32,
        only: Option<u32>,
    ) -> Vec<(usize, Option<u64>)> {
        let wanted = |o: &Offered| o.owner != receiver && only.is_none_or(|only| only == o.owner);
        let mut carried = vec![false; self.list.len()];
        let mut free = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let kept =
                line.from.and_then(|source| self.index.get(&source)).filter(|i| wanted(&self.list[**i]));
            match kept {
                Some(index) => carried[*index] = true,
                None => free.push(at),
            }
        }
        let waiting = |kind: Kind, from: &mut usize| {
            let found = (*from..self.list.len())
                .find(|i| !carried[*i] && self.list[*i].kind == kind && wanted(&self.list[*i]));
            *from = found.map_or(self.list.len(), |index| index + 1);
            found.map(|index| self.list[index].source)
        };
        let (mut audio, mut video) = (0, 0);
        let mut changes = Vec::new();
        for at in free {
            let line = lines[at];
            let source = match line.kind {
                Kind::Audio => waiting(Kind::Audio, &mut audio),
                Kind::Video => waiting(Kind::Video, &mut video),
            };
            if source != line.from {
                changes.push((at, source));
            }
        }
        changes
    }
}

/// Returns how many lines to ask for, so that `sources` fit: [`LINES_FIRST`], then twice as many each time, up to
/// `max`. Asking in steps keeps a growing room from renegotiating at each join.
pub(super) fn lines_for(sources: usize, max: u16) -> u16 {
    let sources = u16::try_from(sources).unwrap_or(u16::MAX);
    let mut lines = LINES_FIRST;
    while lines < sources && lines < max {
        lines = lines.saturating_mul(2);
    }
    lines.min(max)
}

/// Lines of each kind that a first offer is asked for.
const LINES_FIRST: u16 = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn offered(list: &[(u64, u32, Kind)]) -> Offering {
        let one = |(source, owner, kind): &(u64, u32, Kind)| Offered {
            source: *source,
            owner: *owner,
            kind: *kind,
        };
        Offering::new(list.iter().map(one).collect())
    }

    fn line(kind: Kind, from: Option<u64>) -> Line {
        Line { kind, from }
    }

    #[test]
    fn lines_are_filled_in_order_without_the_receivers_own() {
        use Kind::{Audio, Video};
        let room = offered(&[(1, 1, Audio), (2, 1, Video), (3, 2, Audio), (4, 2, Video), (5, 3, Audio)]);
        let lines = [line(Audio, None), line(Video, None), line(Audio, None), line(Video, None)];
        assert_eq!(room.assign(&lines, 1, None), [(0, Some(3)), (1, Some(4)), (2, Some(5))]);
        assert_eq!(room.assign(&lines, 9, Some(3)), [(0, Some(5))]);
    }

    #[test]
    fn a_line_keeps_whom_it_carries_and_a_freed_one_takes_the_next() {
        use Kind::Audio;
        let room = offered(&[(1, 1, Audio), (3, 3, Audio), (4, 4, Audio)]);
        let lines = [line(Audio, Some(3)), line(Audio, Some(2))];
        assert_eq!(room.assign(&lines, 9, None), [(1, Some(1))]);
        let alone = offered(&[(3, 3, Audio)]);
        assert_eq!(alone.assign(&lines, 9, None), [(1, None)]);
    }

    #[test]
    fn lines_are_asked_for_in_steps() {
        for (sources, expected) in [(0, 4), (4, 4), (5, 8), (9, 16), (90, 100), (70_000, 100)] {
            assert_eq!(lines_for(sources, 100), expected, "{sources}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_carried_twice_and_no_line_idles_while_someone_waits(
            room in prop::collection::vec((0u32..6, any::<bool>()), 0..20),
            lines in prop::collection::vec((any::<bool>(), prop::option::of(0u64..25)), 0..12),
        ) {
            let kind = |audio: bool| if audio { Kind::Audio } else { Kind::Video };
            let room: Vec<Offered> = room.iter().enumerate()
                .map(|(i, (owner, audio))| Offered { source: i as u64, owner: *owner, kind: kind(*audio) }).collect();
            let offering = Offering::new(room.clone());
            // Lines start legal: each source on at most one line, of its kind.
            let mut used = BTreeSet::new();
            let mut lines: Vec<Line> = lines.iter().map(|(audio, from)| {
                let fits = |s: &u64| room.iter().find(|o| o.source == *s).is_none_or(|o| o.kind == kind(*audio));
                Line { kind: kind(*audio), from: from.filter(fits).filter(|s| used.insert(*s)) }
            }).collect();
            for (index, from) in offering.assign(&lines, 0, None) {
                lines[index].from = from;
            }
            let carried: Vec<u64> = lines.iter().filter_map(|l| l.from).collect();
            let distinct: BTreeSet<u64> = carried.iter().copied().collect();
            prop_assert_eq!(distinct.len(), carried.len());
            for k in [Kind::Audio, Kind::Video] {
                let waiting = room.iter().any(|o| o.owner != 0 && o.kind == k && !distinct.contains(&o.source));
                let idle = lines.iter().any(|l| l.kind == k && l.from.is_none());
                prop_assert!(!(waiting && idle));
            }
            for l in lines.iter().filter(|l| l.from.is_some()) {
                let source = room.iter().find(|o| Some(o.source) == l.from);
                prop_assert!(source.is_some_and(|o| o.kind == l.kind && o.owner != 0));
            }
            prop_assert!(offering.assign(&lines, 0, None).is_empty());
        }
    }
}
