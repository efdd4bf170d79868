//! Writes lines of the access log, on a thread of its own.
//!
//! Whoever has a line puts it into a bounded buffer and goes on; nobody ever waits for a disk or a pipe. The thread takes
//! all that is there and writes it at once. What finds the buffer full, no open file, or a write that fails is lost
//! and counted; one log line tells when that begins and one when it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::settings::LogTarget;
use crate::telemetry::metrics::AccessLogMetrics;

/// Bytes of lines that wait for the thread; a line beyond is lost.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// After its first line the thread waits this long for more, so that a busy edge writes seldom.
const GATHER: Duration = Duration::from_millis(20);
/// A file that could not be opened is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// A pipe that takes nothing is asked again after this.
const STUCK: Duration = Duration::from_millis(20);
/// A pipe that is no longer the target may be full for this long.
const MOVED_PATIENCE: Duration = Duration::from_secs(1);

/// Lines on their way to the thread.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something is there to do, or the thread has ended.
    changed: Condvar,
    metrics: AccessLogMetrics,
}

#[derive(Debug, Default)]
struct State {
    text: Vec<u8>,
    lines: u64,
    target: Option<LogTarget>,
    /// The file may have been renamed: open it by its name.
    reopen: bool,
    /// Bytes and lines of the text that came before `target` or `reopen` was set: they go to the old file.
    before: (usize, u64),
    stop: bool,
    thread: bool,
}

/// What the thread took.
struct Work {
    text: Vec<u8>,
    lines: u64,
    target: Option<LogTarget>,
    reopen: bool,
    before: (usize, u64),
    stop: bool,
}

impl Queue {
    pub(super) fn new(metrics: AccessLogMetrics) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), metrics }
    }

    /// Takes a line with its line break, or counts it as lost.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.lock();
        if !state.thread || state.text.len() + line.len() > QUEUE_BYTES_MAX {
            drop(state);
            self.lost("full", 1);
            return;
        }
        let first = state.text.is_empty();
        state.text.extend_from_slice(line.as_bytes());
        state.lines += 1;
        drop(state);
        if first {
            self.changed.notify_all();
        }
    }

    /// Says where lines go from here on; starts the thread with the first file. `None`: nowhere.
    pub(super) fn set_target(self: &Arc<Self>, target: Option<LogTarget>) -> io::Result<()> {
        let mut state = self.lock();
        if state.target == target {
            return Ok(());
        }
        if !state.thread {
            let queue = Arc::clone(self);
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || queue.run())?;
            state.thread = true;
        }
        state.target = target;
        state.before = (state.text.len(), state.lines);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Opens the file by its name, once what waits has gone to the old one.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.reopen = true;
        state.before = (state.text.len(), state.lines);
        drop(state);
        self.changed.notify_all();
    }

    /// Lets the thread write what waits and end; waits for it at most `deadline`.
    pub(super) fn finish(&self, deadline: Duration) {
        let mut state = self.lock();
        state.stop = true;
        self.changed.notify_all();
        let running = |state: &mut State| state.thread;
        state = self
            .changed
            .wait_timeout_while(state, deadline, running)
            .map_or_else(|error| error.into_inner().0, |(state, _)| state);
        drop(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, reason: &str, lines: u64) {
        self.metrics.lines_dropped.with_label_values(&[reason]).inc_by(lines);
    }

    /// The thread.
    fn run(&self) {
        let mut sink = Sink::default();
        let mut spare = Vec::new();
        loop {
            let work = self.take(std::mem::take(&mut spare), &sink);
            let (bytes, lines) = work.before;
            let (before, after) = work.text.split_at(bytes.min(work.text.len()));
            sink.write(self, before, lines);
            sink.follow(work.target, work.reopen);
            sink.write(self, after, work.lines - lines);
            spare = work.text;
            spare.clear();
            if work.stop {
                break;
            }
        }
        self.lock().thread = false;
        self.changed.notify_all();
    }

    /// Waits for something to do and takes all of it. `spare` is an empty buffer to go on with.
    fn take(&self, spare: Vec<u8>, sink: &Sink) -> Work {
        let mut state = self.lock();
        loop {
            if state.stop || state.reopen || state.target != sink.target {
                break;
            }
            let idle = state.text.is_empty();
            let wait = if !idle { GATHER } else { sink.retry_in().unwrap_or(Duration::MAX) };
            state = if wait == Duration::MAX {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            };
            if !idle || sink.retry_in() == Some(Duration::ZERO) {
                break;
            }
        }
        Work {
            text: std::mem::replace(&mut state.text, spare),
            lines: std::mem::take(&mut state.lines),
            target: state.target.clone(),
            reopen: std::mem::take(&mut state.reopen),
            before: std::mem::take(&mut state.before),
            stop: state.stop,
        }
    }

    /// Waits a little for a stuck pipe, which is `target` and refused since `refused`. False: something else is to be done.
    fn is_patient(&self, target: Option<&LogTarget>, refused: Instant) -> bool {
        let state = self.lock();
        let (state, _) = self.changed.wait_timeout(state, STUCK).unwrap_or_else(PoisonError::into_inner);
        // What was logged before a reload goes to the old file, if it is only full for a moment.
        let moved = state.target.as_ref() != target && clock::now().duration_since(refused) > MOVED_PATIENCE;
        !(state.stop || state.reopen || moved)
    }
}

/// What is open.
#[derive(Debug, Default)]
struct Sink {
    target: Option<LogTarget>,
    out: Option<Out>,
    /// When to try again to open the file.
    retry_at: Option<Instant>,
    /// The last write ended within a line.
    torn: bool,
    /// Lines lost since it began to fail; `None`: all is well.
    failing: Option<u64>,
}

#[derive(Debug)]
enum Out {
    Stdout(io::Stdout),
    File(File),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => {
                let mut out = out.lock();
                out.write_all(bytes)?;
                out.flush()?;
                Ok(bytes.len())
            }
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// Opens what is to be open now. A file that cannot be opened anew is kept as it is and tried again.
    fn follow(&mut self, target: Option<LogTarget>, reopen: bool) {
        let changed = self.target != target;
        if changed {
            self.target = target;
            self.out = None;
            self.torn = false;
            self.retry_at = None;
        }
        if changed || reopen || self.retry_in() == Some(Duration::ZERO) {
            self.open();
        }
    }

    fn retry_in(&self) -> Option<Duration> {
        self.retry_at.map(|at| at.saturating_duration_since(clock::now()))
    }

    fn open(&mut self) {
        self.retry_at = None;
        let opened = match &self.target {
            None => return,
            Some(LogTarget::Stdout) => Ok(Out::Stdout(io::stdout())),
            Some(LogTarget::File(path)) => open(path).map(Out::File),
        };
        match opened {
            Ok(out) => {
                self.out = Some(out);
                self.torn = false;
            }
            Err(error) => {
                self.retry_at = Some(clock::now() + RETRY);
                self.fails("open", &error, 0);
            }
        }
    }

    fn write(&mut self, queue: &Queue, text: &[u8], lines: u64) {
        if text.is_empty() {
            return;
        }
        if self.out.is_none() && self.retry_in() == Some(Duration::ZERO) {
            self.open();
        }
        let Some(out) = &mut self.out else {
            queue.lost("open", lines);
            if let Some(lost) = &mut self.failing {
                *lost += lines;
            }
            return;
        };
        let torn = std::mem::take(&mut self.torn);
        let mut refused = None;
        let mut patient = || queue.is_patient(self.target.as_ref(), *refused.get_or_insert_with(clock::now));
        let (written, result) = match if torn { write_all(out, b"\n", &mut patient) } else { (0, Ok(())) } {
            (_, Ok(())) => write_all(out, text, &mut patient),
            (_, Err(error)) => {
                self.torn = true;
                (0, Err(error))
            }
        };
        let whole = text.get(..written).unwrap_or_default().iter().filter(|b| **b == b'\n').count() as u64;
        queue.metrics.lines.inc_by(whole);
        match result {
            Ok(()) => {
                if let Some(lost) = self.failing.take() {
                    tracing::info!(to = %self.name(), lost, "the access log is written again");
                }
            }
            Err(error) => {
                self.torn |= written > 0 && text.get(written - 1) != Some(&b'\n');
                queue.lost("write", lines - whole);
                // The reader of a pipe is gone: wait for the next one.
                if error.kind() == io::ErrorKind::BrokenPipe && matches!(out, Out::File(_)) {
                    self.out = None;
                    self.retry_at = Some(clock::now() + RETRY);
                    self.torn = false;
                }
                self.fails("write", &error, lines - whole);
            }
        }
    }

    /// Notes that lines are lost, and tells it once.
    fn fails(&mut self, step: &str, error: &io::Error, lines: u64) {
        match &mut self.failing {
            Some(lost) => *lost += lines,
            None => {
                self.failing = Some(lines);
                tracing::error!(to = %self.name(), step, %error, "the access log cannot be written: its lines are lost and counted");
            }
        }
    }

    fn name(&self) -> String {
        match &self.target {
            Some(LogTarget::File(path)) => path.display().to_string(),
            Some(LogTarget::Stdout) => "stdout".to_owned(),
            None => String::new(),
        }
    }
}

/// Opens a file to append to. A FIFO that nobody reads is an error, not a wait.
fn open(path: &Path) -> io::Result<File> {
    let fifo = std::fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo());
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    if fifo {
        options.write(true)
    } else {
        options.append(true).create(true)
    };
    options.mode(0o640).custom_flags(flags).open(path)
}

/// Writes everything, or as much as could be: returns how many bytes and what stopped it.
fn write_all(out: &mut Out, text: &[u8], mut is_patient: impl FnMut() -> bool) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_patient() => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    const SOON: Duration = Duration::from_secs(10);

    struct Log {
        folder: tempfile::TempDir,
        queue: Arc<Queue>,
    }

    impl Log {
        fn new() -> Self {
            let metrics = Metrics::new().edge.access_log;
            Self { folder: tempfile::tempdir().unwrap(), queue: Arc::new(Queue::new(metrics)) }
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join(name)
        }

        fn to(&self, path: &Path) {
            self.queue.set_target(Some(LogTarget::File(path.to_owned()))).unwrap();
        }

        fn dropped(&self, reason: &str) -> u64 {
            self.queue.metrics.lines_dropped.with_label_values(&[reason]).get()
        }

        fn until(&self, what: &str, holds: impl Fn() -> bool) {
            let deadline = clock::now() + SOON;
            while !holds() {
                assert!(clock::now() < deadline, "{what}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            self.queue.finish(SOON);
        }
    }

    #[test]
    fn lines_are_written_in_their_order_and_the_end_loses_none() {
        let log = Log::new();
        log.to(&log.path("a"));
        let lines: Vec<String> = (0..1000).map(|n| format!("line {n}\n")).collect();
        lines.iter().for_each(|line| log.queue.push(line));
        log.queue.finish(SOON);
        assert_eq!(std::fs::read_to_string(log.path("a")).unwrap(), lines.concat());
        assert_eq!(log.queue.metrics.lines.get(), 1000);
    }

    #[test]
    fn after_a_rename_and_a_word_lines_go_to_the_new_file() {
        let log = Log::new();
        log.to(&log.path("a"));
        log.queue.push("old\n");
        log.until("the first line", || log.queue.metrics.lines.get() == 1);
        std::fs::rename(log.path("a"), log.path("a.1")).unwrap();
        log.queue.push("still old\n");
        log.queue.reopen();
        log.until("the new file", || log.path("a").exists());
        log.queue.push("new\n");
        log.queue.finish(SOON);
        assert_eq!(std::fs::read_to_string(log.path("a.1")).unwrap(), "old\nstill old\n");
        assert_eq!(std::fs::read_to_string(log.path("a")).unwrap(), "new\n");
    }

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let log = Log::new();
        log.to(Path::new("/dev/full"));
        for _ in 0..10 {
            log.queue.push("line\n");
        }
        log.until("all are lost", || log.dropped("write") == 10);
        // Another file, by a reload.
        log.to(&log.path("a"));
        log.queue.push("back\n");
        log.until("it is written", || log.queue.metrics.lines.get() == 1);
        assert_eq!(std::fs::read_to_string(log.path("a")).unwrap(), "back\n");
    }

    #[test]
    fn a_fifo_without_a_reader_loses_lines_until_there_is_one() {
        let log = Log::new();
        let fifo = log.path("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        log.to(&fifo);
        log.queue.push("nobody reads this\n");
        log.until("it is lost", || log.dropped("open") == 1);
        // Opened for both, so that the open does not wait for a writer.
        let mut reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        log.until("a line arrives", || {
            log.queue.push("hello\n");
            log.queue.metrics.lines.get() > 0
        });
        let mut first = [0; 6];
        reader.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"hello\n");
        // A reader that reads no more: the pipe fills, then the queue does, and pushing never waits.
        let line = "x".repeat(64 * 1024 - 1) + "\n";
        for _ in 0..300 {
            log.queue.push(&line);
        }
        assert!(log.dropped("full") > 0);
        let began = clock::now();
        log.queue.finish(SOON);
        assert!(clock::now().duration_since(began) < SOON, "a stuck pipe does not hold the end up");
    }

    #[test]
    fn without_a_file_nothing_is_taken() {
        let log = Log::new();
        log.queue.push("line\n");
        assert_eq!(log.dropped("full"), 1);
        log.to(&log.path("a"));
        log.queue.set_target(None).unwrap();
        log.queue.push("line\n");
        log.until("it is lost", || log.dropped("open") == 1);
    }
}
