//! The access log: its file can be there.

use super::Check;
use crate::config::secrets;
use crate::config::settings::{AccessLogSettings, LogFormat, LogIp, LogTarget};
use crate::config::values::log::{LogFormatWord, LogIpWord};

impl Check<'_> {
    pub(super) fn access_log(&mut self) -> Option<AccessLogSettings> {
        let (_, file) = self.file.access_log.full()?;
        let log = &file.value;
        let key = match log.key.full() {
            Some((_, reference)) => self.secret(reference, "access_log.key", secrets::hex_key),
            None => None,
        };
        let (_, path) = log.path.full()?;
        let target = if path.value.0 == "stdout" {
            LogTarget::Stdout
        } else {
            let file = secrets::resolve(self.base, &path.value.0);
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            if file.is_dir() {
                let message = format!("access_log.path: {} is a folder", file.display());
                self.fault(path.at, message, "name a file in it");
            } else if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                let message = format!("access_log.path: there is no folder {}", folder.display());
                self.fault(path.at, message, "make it, or name another file; `stdout` is standard output");
            }
            LogTarget::File(file)
        };
        Some(AccessLogSettings {
            target,
            format: match log.format.value {
                LogFormatWord::Json => LogFormat::Json,
                LogFormatWord::Combined => LogFormat::Combined,
            },
            ip: match log.ip.value {
                LogIpWord::Full => LogIp::Full,
                LogIpWord::Truncated => LogIp::Truncated,
                LogIpWord::Hashed => LogIp::Hashed,
            },
            key,
            redact: log.redact.value.items.iter().map(|name| name.value.0.clone()).collect(),
        })
    }
}
