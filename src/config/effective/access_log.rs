//! The access log as YAML.

use std::path::Path;

use super::{Map, list};
use crate::config::settings::{AccessLogSettings, LogFormat, LogIp, LogTarget};

pub(super) fn access_log(settings: &AccessLogSettings, base: &Path) -> Map {
    let AccessLogSettings { target, format, ip, key, redact } = settings;
    let path = match target {
        LogTarget::Stdout => "stdout".to_owned(),
        LogTarget::File(path) => match path.strip_prefix(base).unwrap_or(path).to_string_lossy().into_owned()
        {
            // A file of that name is not standard output.
            name if name == "stdout" => "./stdout".to_owned(),
            name => name,
        },
    };
    let format = match format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    let ip = match ip {
        LogIp::Full => "full",
        LogIp::Truncated => "truncated",
        LogIp::Hashed => "hashed",
    };
    let mut map = Map::default().with("path", path).with("format", format).with("ip", ip);
    if let Some(key) = key {
        map.put("key", key.reference());
    }
    map.with("redact", list(redact.iter().map(ToString::to_string)))
}
