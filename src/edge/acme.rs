//! Challenges of an ACME authority (RFC 8555 section 8.3), answered from the webroot of a client such as certbot.
//!
//! Whatever a request names, only a small regular file directly in `.well-known/acme-challenge` of the webroot is read:
//! a token has no dot and no slash, and no link is followed below the webroot.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat};

const PREFIX: &str = "/.well-known/acme-challenge/";
const FOLDERS: [&str; 2] = [".well-known", "acme-challenge"];
/// Longest token. Let's Encrypt's have 43 characters.
const TOKEN_MAX: usize = 128;
/// Largest answer: a token, a dot and the digest of a key.
const ANSWER_MAX: u64 = 4096;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Nothing of this kind.
    Other,
    /// A challenge that nobody can have set.
    Nonsense,
    /// The answer of this token.
    Token(&'a str),
}

/// Tells whether a path is that of a challenge.
pub(super) fn asked(path: &str) -> Asked<'_> {
    let Some(token) = path.strip_prefix(PREFIX) else { return Asked::Other };
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if (1..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(legal) {
        Asked::Token(token)
    } else {
        Asked::Nonsense
    }
}

/// Reads the answer to a token on a thread that may block. `None`: there is none.
pub(super) async fn answer(webroot: PathBuf, token: &str) -> Option<Vec<u8>> {
    let token = token.to_owned();
    tokio::task::spawn_blocking(move || read(&webroot, &token)).await.ok().flatten()
}

fn read(webroot: &Path, token: &str) -> Option<Vec<u8>> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(webroot, folder, Mode::empty()).ok()?;
    for name in FOLDERS {
        at = openat(&at, name, folder | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    }
    // Without waiting: a FIFO has no writer yet.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat(&at, token, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut answer = Vec::new();
    file.take(ANSWER_MAX + 1).read_to_end(&mut answer).ok()?;
    (answer.len() as u64 <= ANSWER_MAX).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_token_has_no_dot_and_no_slash() {
        for (path, expected) in [
            ("/.well-known/acme-challenge/aZ09_-", Asked::Token("aZ09_-")),
            ("/.well-known/acme-challenge/", Asked::Nonsense),
            ("/.well-known/acme-challenge/a/b", Asked::Nonsense),
            ("/.well-known/acme-challenge/..", Asked::Nonsense),
            ("/.well-known/acme-challenge/a%2fb", Asked::Nonsense),
            ("/.well-known/acme-challenge", Asked::Other),
            ("/room", Asked::Other),
        ] {
            assert_eq!(asked(path), expected, "{path}");
        }
        assert_eq!(asked(&format!("{PREFIX}{}", "a".repeat(TOKEN_MAX + 1))), Asked::Nonsense);
    }

    #[test]
    fn only_small_regular_files_of_the_folder_are_read() {
        let webroot = tempfile::tempdir().unwrap();
        let folder = webroot.path().join(".well-known/acme-challenge");
        assert_eq!(read(webroot.path(), "token"), None, "no folder yet");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("token"), "token.digest").unwrap();
        assert_eq!(read(webroot.path(), "token").as_deref(), Some(&b"token.digest"[..]));
        assert_eq!(read(webroot.path(), "other"), None);
        fs::write(webroot.path().join("secret"), "secret").unwrap();
        symlink(webroot.path().join("secret"), folder.join("link")).unwrap();
        assert_eq!(read(webroot.path(), "link"), None, "a link");
        fs::create_dir(folder.join("folder")).unwrap();
        assert_eq!(read(webroot.path(), "folder"), None);
        fs::write(folder.join("large"), vec![b'x'; 5000]).unwrap();
        assert_eq!(read(webroot.path(), "large"), None);
        let made = std::process::Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap();
        assert!(made.success());
        assert_eq!(read(webroot.path(), "fifo"), None);
        fs::rename(webroot.path().join(".well-known"), webroot.path().join("real")).unwrap();
        symlink(webroot.path().join("real"), webroot.path().join(".well-known")).unwrap();
        assert_eq!(read(webroot.path(), "token"), None, "a folder that is a link");
    }
}
