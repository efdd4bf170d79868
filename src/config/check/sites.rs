//! Sites: whose traffic goes where, who may join, how a request names its room.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Check;
use super::pools::PoolKind;
use super::routes::{Base, body_max};
use crate::config::fault::{Mark, known, quote};
use crate::config::file::{AuthFile, RoomRuleFile, RoomRuleMap, SiteFile};
use crate::config::presets;
use crate::config::read::{At, Given};
use crate::config::secrets;
use crate::config::settings::{
    App, Auth, Name, PathRule, RoomRule, RouteSettings, Secret, SiteSettings, SiteTable, SiteTimeouts,
};
use crate::config::values::{AppWord, PathWord, PoolRef, RoomWord, show_size};

impl<'a> Check<'a> {
    pub(super) fn sites(&mut self) -> SiteTable {
        let file = self.file;
        let mut table = SiteTable::default();
        let Some((at, names)) = file.sites.full() else { return table };
        if names.value.is_empty() {
            self.fault(
                at,
                "sites: no site",
                "add one: `\"*\": { app: conference, pool: workers, auth: open }`",
            );
        }
        for (at, name, site) in names.value.iter() {
            let Some(settings) = self.site(at, name, &site.value) else { continue };
            table.insert(Arc::new(settings));
        }
        self.unused_pools();
        table.client_headers = client_headers(&table);
        table
    }

    fn site(&mut self, at: Mark, name: &Name, site: &SiteFile) -> Option<SiteSettings> {
        let path = format!("sites.{}", crate::config::read::path_part(name));
        let preset = site.app.get().copied();
        if let (Some((_, pool)), false) = (site.pool.full(), matches!(site.app, Given::Faulty)) {
            self.site_pool(&path, preset, pool);
        }
        let auth = self.auth(at, &path, site, preset);
        let app = match preset {
            Some(AppWord::Conference) => App::Conference { auth: auth.unwrap_or(Auth::Open) },
            None | Some(AppWord::Jitsi | AppWord::Janus | AppWord::Livekit | AppWord::Galene) => App::Nodes,
        };
        let preset_site = preset.and_then(presets::site_of);
        let preset_site = preset_site.as_ref();
        let room = self.room_rules(at, &path, site, preset, preset_site);
        self.head_limits(&path, site);
        let client_certificate = self.client_certificate(&path, &site.client_certificate);
        let limits = self.site_limits(&path, site);
        let networks = self.network_rules(&path, site);
        let token_secret = match site.verify_tokens.full() {
            Some((_, reference)) => self.secret(reference, &format!("{path}.verify_tokens"), jwt_rule),
            None => None,
        };
        let pool = site.pool.get()?.0.clone();
        let base = Base {
            pool: (preset != Some(AppWord::Conference)).then(|| pool.clone()),
            room,
            request_headers: self.site_edits(
                at,
                &path,
                "request_headers",
                &site.request_headers,
                preset_site.map(|preset| &preset.request_headers),
            ),
            response_headers: self.site_edits(
                at,
                &path,
                "response_headers",
                &site.response_headers,
                preset_site.map(|preset| &preset.response_headers),
            ),
            timeouts: timeouts(site, preset_site),
            body_bytes_max: body_max(own_or(&site.body, preset_site.map(|preset| &preset.body)).value),
            retries: u8::try_from(own_or(&site.retries, preset_site.map(|preset| &preset.retries)).value.0)
                .unwrap_or(u8::MAX),
            compress: own_or(&site.compress, preset_site.map(|preset| &preset.compress)).value.0,
            client_header: client_certificate.as_ref().and_then(|client| client.header.clone()),
            error_pages: self.error_pages(&path, &site.error_pages, &Arc::default()),
        };
        let routes = self.routes(at, &path, site, preset_site, &base);
        let rest = Arc::new(base.rest(&pool));
        let by_token =
            |route: &RouteSettings| route.room.iter().any(|rule| matches!(rule, RoomRule::Claim(_)));
        if let (Some((key_at, _)), false) =
            (site.verify_tokens.full(), routes.iter().chain([&rest]).any(|route| by_token(route)))
        {
            let message = format!("{path}: `verify_tokens`, and no room is named by a token");
            self.fault(key_at, message, "remove it, or add the rule `jwt` to `room`: `{ jwt: video.room }`");
        }
        Some(SiteSettings {
            name: name.clone(),
            pool,
            app,
            routes,
            rest,
            head_bytes_max: usize::try_from(
                own_or(&site.limits.head, preset_site.map(|preset| &preset.limits.head)).value.0,
            )
            .unwrap_or(usize::MAX),
            client_certificate,
            limits,
            networks,
            token_secret,
            access_log: site.access_log.value.0,
        })
    }

    fn site_pool(&mut self, path: &str, preset: Option<AppWord>, pool: &At<PoolRef>) {
        let name = &pool.value.0;
        // Without `pools`, or with a pool that was reported, nothing more can be said.
        if self.file.pools.get().is_none_or(|pools| pools.faulty.contains(name)) {
            return;
        }
        let found = self.pool_files().find(|(_, other, _)| *other == name);
        let Some((_, _, file)) = found else {
            let cure = known(name, self.pool_files().map(|(_, name, _)| &**name));
            self.fault(pool.at, format!("{path}.pool: no pool is named {}", quote(name)), cure);
            return;
        };
        let (wrong, cure) = match (preset, Self::pool_kind(&file.value)) {
            (_, PoolKind::Unclear)
            | (Some(AppWord::Conference), PoolKind::Embedded)
            | (
                None | Some(AppWord::Jitsi | AppWord::Janus | AppWord::Livekit | AppWord::Galene),
                PoolKind::Http,
            ) => return,
            (Some(AppWord::Conference), PoolKind::Http | PoolKind::Tcp) => (
                "`app: conference` needs a pool with `embedded`",
                "name such a pool: `workers: { embedded: auto }`",
            ),
            (
                None | Some(AppWord::Jitsi | AppWord::Janus | AppWord::Livekit | AppWord::Galene),
                PoolKind::Tcp,
            ) => (
                "a site needs a pool with HTTP `nodes`",
                "name such a pool; TCP nodes are for `tcp` of a listener",
            ),
            (
                Some(app @ (AppWord::Jitsi | AppWord::Janus | AppWord::Livekit | AppWord::Galene)),
                PoolKind::Embedded,
            ) => (
                &format!("`app: {}` needs a pool with HTTP `nodes`", app.as_str())[..],
                "name such a pool; `app: conference` is for the embedded SFU",
            ),
            (None, PoolKind::Embedded) => (
                "only `app: conference` can live in an embedded pool",
                "add `app: conference`, or use HTTP nodes",
            ),
        };
        self.fault(pool.at, format!("{path}.pool: {wrong}, and {} is not one", quote(name)), cure);
    }

    fn auth(&mut self, at: Mark, path: &str, site: &SiteFile, preset: Option<AppWord>) -> Option<Auth> {
        let conference = preset == Some(AppWord::Conference);
        match &site.auth {
            Given::No => {
                let exposed = self.exposed_listener();
                if let (true, Some(listener)) = (conference, exposed) {
                    let message = format!(
                        "{path}: listener {listener} is not on loopback, so `auth` must say who may join"
                    );
                    self.fault(at, message, "`auth: open` (everybody), or `auth: { jwt: \"file:...\" }`");
                }
                None
            }
            Given::Faulty => None,
            Given::Yes(key_at, auth) => {
                if !conference && !matches!(site.app, Given::Faulty) {
                    let message = format!("{path}: `auth` is for `app: conference`");
                    self.fault(*key_at, message, "remove it: these nodes decide who may join");
                }
                match &auth.value {
                    AuthFile::Open => Some(Auth::Open),
                    AuthFile::Token(token) => {
                        let (_, reference) = token.jwt.full()?;
                        self.secret(reference, &format!("{path}.auth.jwt"), jwt_rule).map(Auth::Jwt)
                    }
                }
            }
        }
    }

    /// A listener that serves sites to other machines.
    fn exposed_listener(&self) -> Option<Name> {
        self.listener_files()
            .filter(|(_, _, listener)| {
                listener.value.redirect.is_missing() && listener.value.tcp.is_missing()
            })
            .find(|(_, _, listener)| {
                let bind = listener.value.bind.get().map_or(&[][..], |bind| &bind.items[..]);
                bind.iter().any(|bind| !bind.value.0.ip().to_canonical().is_loopback())
            })
            .map(|(_, name, _)| name.clone())
    }

    fn room_rules(
        &mut self,
        site_at: Mark,
        path: &str,
        site: &SiteFile,
        preset: Option<AppWord>,
        preset_site: Option<&SiteFile>,
    ) -> Vec<RoomRule> {
        let theirs = preset_site.and_then(|preset| preset.room.get()).map_or(&[][..], |list| &list.items[..]);
        let default = match preset {
            Some(AppWord::Conference) => vec![RoomRule::Conference],
            _ => theirs.iter().filter_map(|rule| rule_of(&rule.value)).collect(),
        };
        let Some(rules) = site.room.get() else { return default };
        self.site_room_texts(site_at, path, rules);
        let rules: Vec<(Mark, RoomRule)> =
            rules.items.iter().filter_map(|rule| Some((rule.at, rule_of(&rule.value)?))).collect();
        if preset == Some(AppWord::Conference) {
            if let Some((at, _)) = rules.iter().find(|(_, rule)| *rule != RoomRule::Conference) {
                let message = format!("{path}.room: a conference names its room in the path, /rooms/ROOM");
                self.fault(*at, message, "remove `room`");
            }
            return default;
        }
        if rules.len() > RULES_MAX
            && let Some((at, _)) = rules.get(RULES_MAX)
        {
            self.fault(*at, format!("{path}.room: more than {RULES_MAX} rules"), "");
        }
        rules.into_iter().map(|(_, rule)| rule).collect()
    }

    fn head_limits(&mut self, path: &str, site: &SiteFile) {
        let head = &site.limits.head;
        if !head.is_given() {
            return;
        }
        let largest = self.listener_files().map(|(_, _, listener)| listener.value.limits.head.value.0).max();
        if let Some(largest) = largest.filter(|largest| head.value.0 > *largest) {
            let message =
                format!("{path}.limits.head is larger than that of every listener ({})", show_size(largest));
            self.faults.warn(head.at, message, "the listener's limit comes first");
        }
    }

    fn unused_pools(&mut self) {
        let of_sites =
            self.file.sites.get().into_iter().flat_map(|names| names.iter()).flat_map(|(_, _, site)| {
                let routes = site.value.routes.get().into_iter().flat_map(|list| &list.items);
                let own = site.value.pool.get().into_iter();
                own.chain(routes.filter_map(|route| route.value.pool.get())).map(|pool| pool.0.clone())
            });
        let used: BTreeSet<Name> = of_sites.chain(self.pools_of_listeners()).collect();
        for (at, name, file) in self.pool_files().filter(|(_, name, _)| !used.contains(*name)) {
            let user = if Self::pool_kind(&file.value) == PoolKind::Tcp { "listener" } else { "site" };
            self.faults.warn(at, format!("pools.{name}: no {user} uses it"), "");
        }
    }
}

/// The headers in which any site tells its nodes who a client is, each once.
fn client_headers(table: &SiteTable) -> Vec<Name> {
    let headers = table.iter().filter_map(|site| site.client_certificate.as_ref()?.header.clone());
    headers.collect::<BTreeSet<_>>().into_iter().collect()
}

fn own_or<'f, T>(own: &'f At<T>, preset: Option<&'f At<T>>) -> &'f At<T> {
    preset.filter(|preset| preset.is_given() && !own.is_given()).unwrap_or(own)
}

fn timeouts(site: &SiteFile, preset: Option<&SiteFile>) -> SiteTimeouts {
    let (own, preset) = (&site.timeouts, preset.map(|preset| &preset.timeouts));
    SiteTimeouts {
        connect: own_or(&own.connect, preset.map(|preset| &preset.connect)).value.0,
        response: own_or(&own.response, preset.map(|preset| &preset.response)).value.0,
        tunnel_idle: own_or(&own.tunnel_idle, preset.map(|preset| &preset.tunnel_idle)).value.0,
        tunnel_ping: own
            .tunnel_ping
            .get()
            .or_else(|| preset.and_then(|preset| preset.tunnel_ping.get()))
            .map(|time| time.0),
    }
}

pub(super) fn rule_of(rule: &RoomRuleFile) -> Option<RoomRule> {
    let RoomRuleMap { query, path, header, cookie, text, jwt } = match rule {
        RoomRuleFile::Word(RoomWord::Jitsi) => return Some(RoomRule::Jitsi),
        RoomRuleFile::Word(RoomWord::Conference) => return Some(RoomRule::Conference),
        RoomRuleFile::Map(map) => &**map,
    };
    let query = query.get().map(|name| RoomRule::Query(name.0.clone()));
    let path = path.get().map(|word| {
        RoomRule::Path(match word {
            PathWord::Last => PathRule::Last,
            PathWord::First => PathRule::First,
        })
    });
    let header = header.get().map(|name| RoomRule::Header(Arc::from(name.0.to_ascii_lowercase())));
    let cookie = cookie.get().map(|name| RoomRule::Cookie(name.0.clone()));
    let text = text.get().map(|text| RoomRule::Text(text.0.clone()));
    let claim = jwt.get().map(|members| RoomRule::Claim(members.0.clone()));
    query.or(path).or(header).or(cookie).or(text).or(claim)
}

fn jwt_rule(secret: &Secret) -> Result<Secret, secrets::Wrong> {
    let len = secret.expose().len();
    if len < JWT_BYTES_MIN {
        let cure = format!("at least {JWT_BYTES_MIN} (RFC 7518 section 3.2), as from `openssl rand -hex 32`");
        return Err((format!("the secret in {} has {len} bytes", secret.reference()), cure));
    }
    Ok(secret.clone())
}

// RFC 7518 section 3.2: "A key of the same size as the hash output ... or larger MUST be used".
const JWT_BYTES_MIN: usize = 32;
/// Rules of one site.
const RULES_MAX: usize = 16;
