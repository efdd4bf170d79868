//! CPU and memory of a server, all its processes together, from `/proc`.

use std::fs;

/// What a process group has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time, in nanoseconds.
    pub(super) cpu: u64,
    /// Proportional set size, in bytes: shared pages count once among those who share them.
    pub(super) memory: u64,
}

/// Reads the CPU time of all live threads of a process group, in nanoseconds. The scheduler's own count: `utime` and
/// `stime` are the same time in steps of 10 ms.
pub(super) fn cpu_of(group: u32) -> u64 {
    let mut total = 0;
    for process in members(group) {
        let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for thread in threads.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            total += ran(&text).unwrap_or_default();
        }
    }
    total
}

/// Reads CPU and memory.
pub(super) fn usage_of(group: u32) -> Usage {
    let memory = members(group)
        .into_iter()
        .filter_map(|process| pss(&fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?));
    Usage { memory: memory.sum(), cpu: cpu_of(group) }
}

/// Finds the processes of a group.
fn members(group: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|process| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            group_in(&stat) == Some(group)
        })
        .collect()
}

/// `pid (name) state ppid pgrp ...`; the name may hold anything.
fn group_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

/// Nanoseconds on a core are the first of three numbers.
fn ran(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

fn pss(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(group_in("12 (a) b) S 1 77 12 0"), Some(77));
        assert_eq!(group_in("12 (a"), None);
        assert_eq!(ran("231702439 46940835 455\n"), Some(231_702_439));
        assert_eq!(pss("00-ff rollup\nRss:  9 kB\nPss:     1234 kB\nPss_Dirty: 1 kB\n"), Some(1234 * 1024));
    }

    #[test]
    fn of_a_group_nobody_is_in_nothing_is_used() {
        assert_eq!(usage_of(u32::MAX), Usage::default());
    }
}
