//! The access log: one line a request.

use crate::config::read::{At, Given, KeyKind, KeySchema, List, Read, Reader, Reload, record, record_schema};
use crate::config::tree::Node;
use crate::config::values::log::{LogFormatWord, LogIpWord};
use crate::config::values::{FilePath, QueryName};

use super::SecretRef;

record! {
    /// The access log: one line a request, or a WebSocket when it ends.
    AccessLogFile {
        /// A file or FIFO, or stdout. It is opened again on SIGUSR1. What cannot be written is lost and counted.
        path: FilePath, required, live;
        /// json, or combined as Nginx writes it.
        format: LogFormatWord, default(LogFormatWord::Json), live;
        /// Addresses of clients: full, truncated (/24, /48) or hashed (under `key`).
        ip: LogIpWord, default(LogIpWord::Full), live;
        /// Key of `ip: hashed`: 32 hexadecimal digits. Without it one is drawn at each start.
        key: SecretRef, optional, live;
        /// Query parameters whose values are never written, neither of the target nor of a Referer.
        redact: List<QueryName>, default(redacted()), live;
    }
}

/// What is secret unless the file says otherwise.
fn redacted() -> List<QueryName> {
    List::of(["token", "jwt", "access_token", "pwd"].map(|name| QueryName(name.into())))
}
