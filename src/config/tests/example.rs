//! Holds the example, the schema, the defaults and the labels against each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use serde_yaml::Value;

use super::super::fault::Collector;
use super::super::tree::{self, Kind, Node};
use super::hostile::agree;
use super::{folder, load};
use crate::config::{restart_needed, schema};

const EXAMPLE: &str = include_str!("../../../conf/roomgate.example.yaml");
const SCHEMA: &str = include_str!("../../../conf/roomgate.schema.json");

/// The example with every key in force. A key follows `#` at once or after two spaces; prose follows after one.
pub(super) fn uncommented() -> String {
    let line = |line: &str| {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        match trimmed.strip_prefix('#') {
            Some(rest) if rest.starts_with("  ") || rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                format!("{indent}{rest}\n")
            }
            Some(_) | None => format!("{line}\n"),
        }
    };
    EXAMPLE.lines().map(line).collect()
}

/// A key of the example: which key of which record it is, where it stands and what its line says of it.
struct Found {
    record: String,
    key: String,
    path: Vec<String>,
    value: Json,
    label: Option<(String, String)>,
}

/// Walks the example along the schema.
struct Walk {
    schema: Json,
    text: String,
    found: Vec<Found>,
}

impl Walk {
    fn new() -> Self {
        let schema: Json = serde_json::from_str(&schema()).unwrap();
        let text = uncommented();
        let mut walk = Self { schema, text: text.clone(), found: Vec::new() };
        let root = tree::parse(&text, &mut Collector::default()).unwrap();
        let schema = walk.schema.clone();
        walk.node(&root, &schema, "File", &mut Vec::new());
        walk
    }

    fn node(&mut self, node: &Node, schema: &Json, record: &str, path: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/")) {
            let target = self.schema["$defs"][name].clone();
            return self.node(node, &target, name, path);
        }
        for forms in ["oneOf", "allOf"] {
            for form in schema[forms].as_array().into_iter().flatten() {
                self.node(node, form, record, path);
            }
        }
        match &node.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    path.push(entry.key.clone());
                    let own = &schema["properties"][&entry.key];
                    if own.is_object() {
                        let label = self.label(entry.key_at.line);
                        let value = serde_yaml::from_str::<Value>(&self.text).unwrap();
                        let value = serde_json::to_value(at(&value, path).unwrap()).unwrap();
                        let (record, key) = (record.to_owned(), entry.key.clone());
                        self.found.push(Found { record, key, path: path.clone(), value, label });
                    }
                    let below = if own.is_object() { own } else { &schema["additionalProperties"] };
                    if below.is_object() {
                        self.node(&entry.value, &below.clone(), record, path);
                    }
                    path.pop();
                }
            }
            Kind::List(items) if schema["items"].is_object() => {
                for (i, item) in items.iter().enumerate() {
                    path.push(i.to_string());
                    self.node(item, &schema["items"], record, path);
                    path.pop();
                }
            }
            Kind::List(_) | Kind::Scalar(_) | Kind::Faulty => {}
        }
    }

    /// Reads `# default, live: ...` behind a key.
    fn label(&self, line: u32) -> Option<(String, String)> {
        let line = self.text.lines().nth(line as usize - 1)?;
        let label = line.split_once(" # ")?.1.split(':').next()?;
        let (kind, reload) = label.split_once(", ")?;
        Some((kind.to_owned(), reload.to_owned()))
    }

    /// The keys of every record of the schema, with their own schema and whether they are required.
    fn keys(&self) -> BTreeMap<(String, String), (Json, bool)> {
        let mut records = vec![("File".to_owned(), self.schema.clone())];
        records.extend(self.schema["$defs"].as_object().unwrap().iter().map(|(n, s)| (n.clone(), s.clone())));
        let mut keys = BTreeMap::new();
        for (record, schema) in records {
            for (key, own) in schema["properties"].as_object().into_iter().flatten() {
                let required =
                    schema["required"].as_array().is_some_and(|r| r.contains(&Json::from(key.as_str())));
                keys.insert((record.clone(), key.clone()), (own.clone(), required));
            }
        }
        keys
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, part| {
        if let Value::Sequence(items) = value {
            items.get(part.parse::<usize>().ok()?)
        } else {
            value.get(part)
        }
    })
}

#[test]
fn the_committed_schema_is_that_of_the_code() {
    if std::env::var_os("ROOMGATE_WRITE_SCHEMA").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/roomgate.schema.json"), schema()).unwrap();
        return;
    }
    // Not `assert_eq`: nobody reads two schemas in a failure.
    let cure = "write it anew: roomgate config schema > conf/roomgate.schema.json, or this test with ROOMGATE_WRITE_SCHEMA=1";
    assert!(SCHEMA == schema(), "{cure}");
}

#[test]
fn the_example_has_every_key_of_the_schema_and_no_other() {
    let walk = Walk::new();
    let shown: BTreeSet<_> = walk.found.iter().map(|f| (f.record.clone(), f.key.clone())).collect();
    let known: BTreeSet<_> = walk.keys().into_keys().collect();
    assert_eq!(shown, known);
}

#[test]
fn each_key_of_the_example_says_whether_it_is_needed_its_default_and_its_reload() {
    let walk = Walk::new();
    let keys = walk.keys();
    for found in &walk.found {
        let (own, required) = &keys[&(found.record.clone(), found.key.clone())];
        let Some(reload) = own["x-roomgate-change"].as_str() else { continue };
        let kind = match (required, &own["default"]) {
            (true, _) => "required",
            (false, Json::Null) => "optional",
            (false, default) => {
                assert_eq!(found.value, *default, "{:?}", found.path);
                "default"
            }
        };
        assert_eq!(found.label, Some((kind.to_owned(), reload.to_owned())), "{:?}", found.path);
    }
}

#[test]
fn the_example_loads_and_its_defaults_are_those_of_the_code() {
    let dir = folder();
    let short = load(EXAMPLE, dir.path(), None).unwrap_or_else(|faults| panic!("{faults}"));
    let full = load(&uncommented(), dir.path(), Some("edge-a")).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((short.warnings, full.warnings), (vec![], vec![]));
    // All that the full one has more are examples without a default.
    let mut expected = short.settings;
    expected.edge = full.settings.edge.clone();
    expected.media.as_mut().unwrap().key = full.settings.media.as_ref().unwrap().key.clone();
    expected.limits = full.settings.limits.clone();
    expected.bans = full.settings.bans.clone();
    assert!(expected.bans.len() == 1 && !expected.limits.exempt.is_empty());
    let meet =
        |settings: &crate::config::settings::Settings| settings.sites.exact["meet.example.com"].clone();
    let site = std::sync::Arc::make_mut(expected.sites.exact.get_mut("meet.example.com").unwrap());
    site.limits = meet(&full.settings).limits.clone();
    site.networks = meet(&full.settings).networks.clone();
    assert!(site.limits.requests_total.is_some() && !site.networks.deny.is_empty());
    expected.access_log = full.settings.access_log.clone();
    let https = std::sync::Arc::make_mut(expected.listeners.get_mut("https").unwrap());
    https.tls.clone_from(&full.settings.listeners["https"].tls);
    let http = std::sync::Arc::make_mut(expected.listeners.get_mut("http").unwrap());
    http.acme_challenge = Some(dir.path().join("acme"));
    let meet = std::sync::Arc::make_mut(expected.sites.exact.get_mut("meet.example.com").unwrap());
    meet.client_certificate.clone_from(&full.settings.sites.exact["meet.example.com"].client_certificate);
    // What a node is told of its client must not be kept for others.
    assert!(meet.routes.iter().any(|route| route.cache.is_some()));
    for route in &mut meet.routes {
        std::sync::Arc::make_mut(route).cache = None;
    }
    expected.sites.client_headers = vec!["x-client-subject".into()];
    assert!(expected.edge.name.is_some() && expected.media.as_ref().unwrap().key.is_some());
    assert_eq!(full.settings, expected);
}

#[test]
fn the_tree_reads_the_example_as_serde_yaml_does() {
    for text in [EXAMPLE.to_owned(), uncommented(), crate::config::DEMO.to_owned(), super::ISSUE.to_owned()] {
        let ours = tree::parse(&text, &mut Collector::default()).unwrap();
        let theirs: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(agree(&ours, &theirs), Ok(()));
    }
}

/// Another legal value for each key that has one; `-` removes the key.
const OTHERS: &[(&str, &str, &str)] = &[
    ("File", "region", "us-east"),
    ("EdgeFile", "id", "2"),
    ("EdgeFile", "region", "us-east"),
    ("EdgeFile", "public", "[203.0.113.99]"),
    ("ListenerFile", "bind", "[\":9443\"]"),
    ("ListenerFile", "redirect", "-"),
    ("ListenerFile", "tcp", "-"),
    ("ListenerFile", "passthrough", "{ \"*.example.com\": coturn }"),
    ("ListenerFile", "turn", "true"),
    ("ProxyProtocolFile", "from", "[192.0.2.7]"),
    ("File", "trusted", "[192.0.2.0/24]"),
    ("TlsCertificates", "certificates", "[{ cert: tls/cert-again.pem, key: tls/key-again.pem }]"),
    ("TlsCertificates", "unknown_name", "refuse"),
    ("TlsCertificates", "profile", "modern"),
    ("TicketsFile", "keys", "file:tickets-other.keys"),
    ("TicketsFile", "rotate", "6h"),
    ("ListenerFile", "acme_challenge", "tls"),
    ("ClientCertificateFile", "ca", "tls/ca-other.pem"),
    ("ClientCertificateFile", "mode", "optional"),
    ("ClientCertificateFile", "header", "X-Who"),
    ("CertificateFile", "cert", "tls/cert-again.pem"),
    ("CertificateFile", "key", "tls/key-again.pem"),
    ("ListenerTimeouts", "handshake", "6s"),
    ("ListenerTimeouts", "head", "11s"),
    ("ListenerTimeouts", "idle", "76s"),
    ("ListenerLimitsFile", "head", "64KiB"),
    ("ListenerLimitsFile", "streams", "50"),
    ("ListenerLimitsFile", "resets", "200"),
    ("MediaFile", "bind", "[\":10001\"]"),
    ("MediaFile", "advertise", "[203.0.113.9]"),
    ("MediaFile", "key", "file:media-other.key"),
    ("SessionsFile", "max", "2001"),
    ("SelftestFile", "every", "6s"),
    ("SiteFile", "app", "-"),
    ("SiteFile", "pool", "spare"),
    ("SiteFile", "verify_tokens", "-"),
    ("SiteFile", "room", "[{ query: conference }, { jwt: room }]"),
    ("SiteFile", "body", "1MiB"),
    ("SiteFile", "retries", "2"),
    ("SiteFile", "compress", "true"),
    ("SiteFile", "error_pages", "{ \"404\": tls/key.pem }"),
    ("RouteFile", "compress", "false"),
    ("RouteFile", "cache", "true"),
    ("CacheRuleFile", "fresh", "2h"),
    ("CacheRuleFile", "max", "2d"),
    ("CacheRuleFile", "stale", "11m"),
    ("CacheRuleFile", "stale_if_error", "2d"),
    ("CacheFile", "memory", "512MiB"),
    ("CacheFile", "object", "4MiB"),
    ("RouteFile", "error_pages", "{ \"503\": tls/key.pem }"),
    ("RouteFile", "name", "new"),
    ("RouteFile", "path", "/older"),
    ("RouteFile", "prefix", "/v2/"),
    ("RouteFile", "regex", "\"^/x/(?P<shard>[a-z]+)$\""),
    ("RouteFile", "methods", "[POST]"),
    ("RouteFile", "query", "to=there"),
    ("RouteFile", "subprotocol", "other-protocol"),
    ("RouteFile", "set_json", "-"),
    ("CorsFile", "origins", "[\"https://other.example.com\"]"),
    ("CorsFile", "methods", "[PUT]"),
    ("CorsFile", "headers", "-"),
    ("CorsFile", "expose", "-"),
    ("CorsFile", "credentials", "true"),
    ("CorsFile", "max_age", "11m"),
    ("RouteLimitsFile", "exempt", "-"),
    ("RouteLimitsFile", "dry_run", "true"),
    ("LearnFile", "json", "id"),
    ("LearnFile", "before", "room/"),
    ("RouteFile", "pool", "spare"),
    ("RouteFile", "service", "api"),
    ("RouteFile", "node", "\"x-{shard}\""),
    ("RouteFile", "redirect", "\"https://{host}/newer\""),
    ("RouteFile", "status", "301"),
    ("RouteFile", "rewrite", "\"/other\""),
    ("RouteFile", "service_rewrite", "\"/v2{path}\""),
    ("RespondFile", "as_node", "true"),
    ("RouteFile", "room", "[{ query: conference }]"),
    ("RouteFile", "place", "never"),
    ("PreferFile", "node", "[\"{room}\"]"),
    ("PreferFile", "release", "\"5\""),
    ("RouteFile", "body", "unlimited"),
    ("RouteFile", "retries", "3"),
    ("RouteTimeoutsFile", "connect", "2s"),
    ("RouteTimeoutsFile", "response", "11s"),
    ("RouteTimeoutsFile", "tunnel_idle", "11m"),
    ("RouteTimeoutsFile", "tunnel_ping", "21s"),
    ("FilesFile", "folder", "."),
    ("FilesFile", "file", "\"x\""),
    ("FilesFile", "index", "home.html"),
    ("FilesFile", "ssi", "{ subdir: x }"),
    ("RespondFile", "status", "404"),
    ("RespondFile", "body", "\"other\""),
    ("RespondFile", "content_type", "text/html"),
    ("HeaderEditsFile", "remove", "[X-Other]"),
    ("HeaderEditsFile", "set", "{ X-Other: a }"),
    ("HeaderEditsFile", "add", "{ X-Other: b }"),
    ("HeaderEditsFile", "default", "{ X-Other: c }"),
    ("AuthToken", "jwt", "file:jwt-other.secret"),
    ("RoomRuleMap", "query", "conference"),
    ("RoomRuleMap", "path", "first"),
    ("RoomRuleMap", "header", "X-Conference"),
    ("RoomRuleMap", "cookie", "conference"),
    ("RoomRuleMap", "text", "\"conference/{arg_id}\""),
    ("RoomRuleMap", "jwt", "room"),
    ("SiteTimeoutsFile", "connect", "4s"),
    ("SiteTimeoutsFile", "response", "91s"),
    ("SiteTimeoutsFile", "tunnel_idle", "2h"),
    ("SiteTimeoutsFile", "tunnel_ping", "20s"),
    ("SiteLimitsFile", "head", "33KiB"),
    ("PoolFile", "embedded", "3"),
    ("NodeMap", "url", "http://127.0.0.1:9009"),
    ("NodeMap", "host", "127.0.0.9"),
    ("NodeMap", "web", "81"),
    ("NodeMap", "prosody", "5282"),
    ("NodeMap", "jicofo", "8882"),
    ("NodeMap", "ws", "-"),
    ("NodeMap", "api", "-"),
    ("NodeMap", "services", "{ sidecar: 6002 }"),
    ("NodeMap", "region", "us-east"),
    ("NodeMap", "release", "\"1235\""),
    ("NodeMap", "weight", "50"),
    ("HttpProbe", "path", "/health"),
    ("HttpProbe", "service", "api"),
    ("HttpProbe", "status", "204"),
    ("HttpProbe", "body", "fine"),
    ("HttpProbe", "host", "api.example.com"),
    ("ServiceProbe", "service", "jicofo"),
    ("ServiceProbe", "path", "/bosh"),
    ("ServiceProbe", "host", "other.example.com"),
    ("CheckFile", "every", "3s"),
    ("CheckFile", "timeout", "500ms"),
    ("CheckFile", "rise", "3"),
    ("CheckFile", "fall", "3"),
    ("PoolFile", "protocol", "h2"),
    ("NodeTlsFile", "ca", "tls/cert-again.pem"),
    ("NodeTlsFile", "sni", "others.example.com"),
    ("NodeTlsFile", "verify", "false"),
    ("NodeTlsFile", "cert", "tls/cert-again.pem"),
    ("NodeTlsFile", "key", "tls/key-again.pem"),
    ("StickyFile", "linger", "6m"),
    ("PoolTimeoutsFile", "connect", "4s"),
    ("PoolTimeoutsFile", "idle", "2h"),
    ("AdminFile", "bind", "[\"127.0.0.1:9181\"]"),
    ("AdminFile", "tokens", "{ ops: \"file:ops-other.token\" }"),
    ("RequestRatesFile", "per_ip", "\"61/s\""),
    ("RequestRatesFile", "burst", "201"),
    ("RequestRatesFile", "per_room", "\"10/m\""),
    ("RequestRatesFile", "room_burst", "1001"),
    ("RequestRatesFile", "total", "\"100/h\""),
    ("RequestRatesFile", "total_burst", "-"),
    ("NewRoomRatesFile", "per_ip", "\"3/s\""),
    ("NewRoomRatesFile", "burst", "21"),
    ("NewRoomRatesFile", "total", "\"51/s\""),
    ("NewRoomRatesFile", "total_burst", "201"),
    ("RoomConnectionsFile", "per_room", "-"),
    ("SiteLimitsFile", "exempt", "-"),
    ("SiteLimitsFile", "dry_run", "true"),
    ("SiteFile", "allow", "-"),
    ("SiteFile", "deny", "[192.0.2.7]"),
    ("ConnectionLimitsFile", "total", "1000"),
    ("ConnectionLimitsFile", "per_ip", "1000"),
    ("LimitsFile", "exempt", "-"),
    ("LimitsFile", "dry_run", "true"),
    ("BanRuleFile", "statuses", "[404]"),
    ("BanRuleFile", "handshake_failures", "true"),
    ("BanRuleFile", "count", "51"),
    ("BanRuleFile", "within", "61s"),
    ("BanRuleFile", "lasts", "11m"),
    ("BanRuleFile", "exempt", "-"),
    ("BanRuleFile", "dry_run", "true"),
    ("AccessLogFile", "path", "stdout"),
    ("AccessLogFile", "format", "combined"),
    ("AccessLogFile", "ip", "hashed"),
    ("AccessLogFile", "key", "file:media-other.key"),
    ("AccessLogFile", "redact", "[token]"),
    ("SiteFile", "access_log", "false"),
    ("RoomsFile", "max", "1000"),
    ("ShutdownFile", "deadline", "11s"),
    ("ShutdownFile", "tunnels", "6s"),
];

/// Keys with one legal value.
const SINGLE: &[(&str, &str)] =
    &[("File", "version"), ("File", "store"), ("CheckFile", "tcp"), ("PoolFile", "proxy_protocol")];

#[test]
fn what_a_key_says_of_reloads_is_what_a_reload_does() {
    let dir = folder();
    let walk = Walk::new();
    let mut value: Value = serde_yaml::from_str(&walk.text).unwrap();
    // A second HTTP pool, so that a site can move.
    let pools = value["pools"].as_mapping_mut().unwrap();
    pools
        .insert("spare".into(), serde_yaml::from_str("{ nodes: { a: \"http://127.0.0.1:9100\" } }").unwrap());
    let load = |value: &Value| {
        let text = serde_yaml::to_string(value).unwrap();
        // An edge that takes another id is still the same edge.
        load(&text, dir.path(), Some("edge-a")).unwrap_or_else(|faults| panic!("{faults}")).settings
    };
    let before = load(&value);
    for ((record, key), (own, _)) in walk.keys() {
        let Some(reload) = own["x-roomgate-change"].as_str() else { continue };
        if SINGLE.contains(&(record.as_str(), key.as_str())) {
            let one = own["enum"].as_array().is_some_and(|words| words.len() == 1)
                || own["minimum"] == own["maximum"];
            assert!(one, "{record}.{key} has several values by now: name another one");
            continue;
        }
        let other = OTHERS.iter().find(|(r, k, _)| (*r, *k) == (&*record, &*key));
        let (_, _, other) = other.unwrap_or_else(|| panic!("name another value of {record}.{key}"));
        let found = walk.found.iter().find(|f| f.record == record && f.key == key).unwrap();
        let mut changed = value.clone();
        let mut before = before.clone();
        if (record.as_str(), key.as_str()) == ("File", "region") {
            // An edge's own region hides that of the file.
            changed["edges"]["edge-a"].as_mapping_mut().unwrap().remove("region");
            before = load(&changed);
        }
        let (last, parents) = found.path.split_last().unwrap();
        let parent = parents.iter().fold(&mut changed, |value, part| {
            if let Value::Sequence(items) = value {
                &mut items[part.parse::<usize>().unwrap()]
            } else {
                &mut value[part.as_str()]
            }
        });
        let parent = parent.as_mapping_mut().unwrap();
        if *other == "-" {
            parent.remove(last.as_str());
        } else {
            parent.insert(last.as_str().into(), serde_yaml::from_str(other).unwrap());
        }
        let after = load(&changed);
        assert_ne!(before, after, "{record}.{key}: {other} is no other value");
        let needed = restart_needed(&before, &after);
        let expected = if reload == "restart" { vec![found.path.join(".")] } else { vec![] };
        assert_eq!(needed, expected, "{record}.{key}");
    }
}
