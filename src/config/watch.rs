//! Tells when the configuration's file, or the files that it names, have new content.
//!
//! The kernel's events only say "look again": what counts is a digest of the content. So a rename over the file, an
//! edit in place, a swapped symlink (Kubernetes swaps `..data`) and a file that is gone for a moment are all the same
//! case, and a `touch` is none. Folders are watched, not the file: its inode changes. Where no event comes (a network
//! file system, no watches left), a look every [`POLL`] finds the change too.

use std::collections::BTreeSet;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// A running watch; ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: CancellationToken,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why a file cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It could not be read at the start.
    #[error("cannot watch {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Watches a file and sends a word whenever its content has changed and then rested for 100 ms.
///
/// A word that waits in `changed` stands for later changes too, so a full channel loses nothing. Must be called within
/// a runtime.
///
/// # Errors
/// The file cannot be read now. Later on, a missing file is waited for.
pub fn watch(path: PathBuf, tasks: &Tasks, changed: mpsc::Sender<()>) -> Result<Watch, WatchError> {
    let seen = digest(&path).map_err(|source| WatchError::Unreadable { path: path.clone(), source })?;
    Ok(start(path, seen, tasks, changed))
}

/// Watches a file from the text on that was loaded from it: a change between the load and this call is told too.
///
/// Otherwise as [`watch`], but a file that cannot be read is waited for from the start.
pub fn watch_from(path: PathBuf, loaded: &str, tasks: &Tasks, changed: mpsc::Sender<()>) -> Watch {
    start(path, digest_of(loaded.as_bytes()), tasks, changed)
}

/// Watches several files as one: whichever changes, one word is sent when all of them rest. A file that comes or goes is
/// a change too. A change before this call is not told.
pub fn watch_files(paths: Vec<PathBuf>, tasks: &Tasks, changed: mpsc::Sender<()>) -> Watch {
    let files = Files { paths, may_be_missing: true };
    let seen = files.digest().unwrap_or_default();
    follow(files, seen, tasks, changed)
}

fn start(path: PathBuf, seen: u128, tasks: &Tasks, changed: mpsc::Sender<()>) -> Watch {
    follow(Files { paths: vec![path], may_be_missing: false }, seen, tasks, changed)
}

fn follow(files: Files, seen: u128, tasks: &Tasks, changed: mpsc::Sender<()>) -> Watch {
    let stop = tasks.stopping().child_token();
    let (wake, woken) = mpsc::channel(1);
    let mut follower = Follower { files, watcher: watcher(wake.clone()), folders: BTreeSet::new() };
    follower.follow();
    // What changed before the folders were watched is found by a first look.
    let _ = wake.try_send(());
    let ended = stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = run(follower, seen, woken, changed) => {}
        }
    });
    Watch { stop }
}

async fn run(
    mut follower: Follower,
    mut seen: u128,
    mut woken: mpsc::Receiver<()>,
    changed: mpsc::Sender<()>,
) {
    loop {
        if let Ok(None) = tokio::time::timeout(POLL, woken.recv()).await {
            // No watcher: only the clock is left.
            tokio::time::sleep(POLL).await;
        }
        let Some(settled) = settle(&follower.files, seen, &mut woken).await else { continue };
        follower.follow();
        if settled == seen {
            continue;
        }
        seen = settled;
        match changed.try_send(()) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(())) => {}
            Err(mpsc::error::TrySendError::Closed(())) => return,
        }
    }
}

/// Reads until the content rests. `None`: the file is gone, or not readable.
async fn settle(files: &Files, seen: u128, woken: &mut mpsc::Receiver<()>) -> Option<u128> {
    let read = || {
        let files = files.clone();
        async move { tokio::task::spawn_blocking(move || files.digest()).await.ok().flatten() }
    };
    let mut last = read().await?;
    if last == seen {
        return Some(last);
    }
    for _ in 0..SETTLE_ROUNDS {
        tokio::time::sleep(REST).await;
        let moved = woken.try_recv().is_ok();
        let now = read().await?;
        if now == last && !moved {
            return Some(now);
        }
        last = now;
    }
    // It never rests: the loader will say whether what stands there is whole.
    Some(last)
}

/// What is watched as one.
#[derive(Clone, Debug)]
struct Files {
    paths: Vec<PathBuf>,
    /// Whether a missing file is a state like another; otherwise it is waited for.
    may_be_missing: bool,
}

impl Files {
    /// Digest of all content. `None`: a file is gone or not readable, and is waited for.
    fn digest(&self) -> Option<u128> {
        if let ([path], false) = (&self.paths[..], self.may_be_missing) {
            return digest(path).ok();
        }
        let mut hasher = SipHasher13::new();
        for path in &self.paths {
            match digest(path) {
                Ok(digest) => hasher.write(&digest.to_be_bytes()),
                Err(_) => hasher.write_u8(0),
            }
        }
        Some(hasher.finish128().as_u128())
    }
}

/// Keeps the watches on the folders through which the paths lead.
struct Follower {
    files: Files,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Follower {
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: BTreeSet<PathBuf> = self.files.paths.iter().flat_map(|path| folders(path)).collect();
        for gone in self.folders.difference(&folders) {
            // A folder that was removed has no watch any more.
            let _ = watcher.unwatch(gone);
        }
        // A watch dies with its folder, so one that is still wanted is set again: a new folder may have its name.
        let watched =
            folders.into_iter().filter(|folder| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok());
        self.folders = watched.collect();
    }
}

/// The folder of the path, and of each target of its symlinks.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let folder = match at.parent() {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) => folder.to_owned(),
            None => break,
        };
        let target = std::fs::read_link(&at);
        folders.insert(folder.clone());
        match target {
            Ok(target) => at = folder.join(target),
            Err(_) => break,
        }
    }
    // Links among the folders (Kubernetes: `..data`) are followed to where the file is in the end.
    if let Ok(real) = path.canonicalize()
        && let Some(folder) = real.parent()
    {
        folders.insert(folder.to_owned());
    }
    folders
}

/// Starts the kernel's watch; without one, only the clock is left.
fn watcher(events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        // Reading the file makes events of its own.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // One waiting word is enough.
            let _ = events.try_send(());
        }
    };
    match notify::recommended_watcher(handler) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "no watch on the configuration: changes are found by looking every {POLL:?}");
            None
        }
    }
}

fn digest(path: &Path) -> std::io::Result<u128> {
    Ok(digest_of(&super::secrets::read_file_io(path, super::tree::BYTES_MAX)?))
}

fn digest_of(bytes: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish128().as_u128()
}

/// Content has to stay the same for this long: an editor writes in several steps.
const REST: Duration = Duration::from_millis(100);
/// Times that resting is tried.
const SETTLE_ROUNDS: usize = 20;
/// Time between two looks without an event.
const POLL: Duration = Duration::from_secs(2);
/// Links that are followed; the system stops at 40.
const LINKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Watched {
        _watch: Watch,
        changed: mpsc::Receiver<()>,
    }

    impl Watched {
        fn new(path: &Path) -> Self {
            let (sender, changed) = mpsc::channel(1);
            Self { _watch: watch(path.to_owned(), &Tasks::new(), sender).unwrap(), changed }
        }

        async fn expect(&mut self, why: &str) {
            let word = tokio::time::timeout(Duration::from_secs(20), self.changed.recv()).await;
            assert_eq!(word.unwrap_or_else(|_| panic!("no word: {why}")), Some(()), "{why}");
        }

        /// No word within several times the rest.
        async fn expect_none(&mut self, why: &str) {
            let word = tokio::time::timeout(REST * 5, self.changed.recv()).await;
            assert!(word.is_err(), "{why}");
        }
    }

    #[tokio::test]
    async fn an_edit_a_rename_and_a_file_that_was_gone_each_give_one_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roomgate.yaml");
        fs::write(&path, "1").unwrap();
        let mut watched = Watched::new(&path);

        fs::write(&path, "2").unwrap();
        watched.expect("edit in place").await;

        fs::write(dir.path().join("new"), "3").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        watched.expect("rename over").await;

        fs::remove_file(&path).unwrap();
        watched.expect_none("a missing file is waited for").await;
        fs::write(&path, "3").unwrap();
        watched.expect_none("it came back unchanged").await;
        fs::write(&path, "4").unwrap();
        watched.expect("edit after the return").await;

        fs::write(&path, "4").unwrap();
        fs::write(dir.path().join("other"), "x").unwrap();
        watched.expect_none("the same content, and another file").await;
    }

    #[tokio::test]
    async fn a_file_that_is_written_in_steps_gives_one_word() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roomgate.yaml");
        fs::write(&path, "0").unwrap();
        // A machine that stalls between two steps makes two edits of one: such a try says nothing.
        for _ in 0..20 {
            let mut watched = Watched::new(&path);
            let mut file = fs::File::create(&path).unwrap();
            let mut longest = Duration::ZERO;
            for _ in 0..8 {
                let before = crate::clock::now();
                file.write_all(b"line\n").unwrap();
                tokio::time::sleep(REST / 4).await;
                longest = longest.max(before.elapsed());
            }
            file.write_all(longest.as_nanos().to_string().as_bytes()).unwrap();
            watched.expect("written in steps").await;
            if longest < REST / 2 {
                return watched.expect_none("only once").await;
            }
        }
        panic!("the machine stalls all the time");
    }

    #[tokio::test]
    async fn a_symlink_that_is_swapped_gives_a_word_and_then_its_target_is_watched() {
        // As Kubernetes lays out a mounted map: file -> ..data/file, ..data -> ..1, then ..data -> ..2.
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (folder, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join("roomgate.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/roomgate.yaml", at("roomgate.yaml")).unwrap();
        let mut watched = Watched::new(&at("roomgate.yaml"));

        symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
        watched.expect("swap").await;

        fs::write(at("..2").join("roomgate.yaml"), "three").unwrap();
        watched.expect("edit behind the links").await;
    }

    #[tokio::test]
    async fn a_change_without_an_event_is_found_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roomgate.yaml");
        fs::write(&path, "1").unwrap();
        let seen = digest(&path).unwrap();
        let (_silent, woken) = mpsc::channel(1);
        let (sender, mut changed) = mpsc::channel(1);
        let files = Files { paths: vec![path.clone()], may_be_missing: false };
        let follower = Follower { files, watcher: None, folders: BTreeSet::new() };
        Tasks::new().spawn(run(follower, seen, woken, sender));
        fs::write(&path, "2").unwrap();
        let word = tokio::time::timeout(POLL * 5, changed.recv()).await.unwrap();
        assert_eq!(word, Some(()));
    }

    #[tokio::test]
    async fn a_change_between_load_and_watch_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roomgate.yaml");
        fs::write(&path, "newer").unwrap();
        let (sender, changed) = mpsc::channel(1);
        let tasks = Tasks::new();
        let mut watched = Watched { _watch: watch_from(path.clone(), "loaded", &tasks, sender), changed };
        watched.expect("changed before the watch").await;
        let (sender, changed) = mpsc::channel(1);
        let mut watched = Watched { _watch: watch_from(path, "newer", &tasks, sender), changed };
        watched.expect_none("nothing changed").await;
    }

    #[tokio::test]
    async fn of_several_files_each_change_gives_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("other")).unwrap();
        for name in ["a", "other/b"] {
            fs::write(at(name), "1").unwrap();
        }
        let (sender, changed) = mpsc::channel(1);
        let files = vec![at("a"), at("other/b"), at("missing")];
        let mut watched = Watched { _watch: watch_files(files, &Tasks::new(), sender), changed };
        watched.expect_none("nothing changed").await;
        fs::write(at("a"), "2").unwrap();
        watched.expect("the first").await;
        fs::write(at("new"), "2").unwrap();
        fs::rename(at("new"), at("other/b")).unwrap();
        watched.expect("the second").await;
        fs::write(at("missing"), "1").unwrap();
        watched.expect("one that came").await;
        fs::remove_file(at("a")).unwrap();
        watched.expect("one that went").await;
    }

    #[tokio::test]
    async fn a_watch_ends_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("roomgate.yaml");
        fs::write(&path, "1").unwrap();
        let tasks = Tasks::new();
        let (sender, mut changed) = mpsc::channel(1);
        drop(watch(path.clone(), &tasks, sender.clone()).unwrap());
        drop(sender);
        let ended = tokio::time::timeout(Duration::from_secs(20), changed.recv()).await.unwrap();
        assert_eq!(ended, None);
        let (sender, _changed) = mpsc::channel(1);
        assert!(watch(dir.path().join("none"), &tasks, sender).is_err());
    }
}
