//! Routes of a site: the file's own, then those of the preset, with what the file changes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderName, Method, StatusCode};

use super::Check;
use super::cache::{self, Wanted};
use super::pools::PoolKind;
use super::sites::rule_of;
use crate::config::fault::{Mark, known, quote};
use crate::config::file::{
    BodyFile, FilesFile, HeaderEditsFile, RespondFile, RoomRuleFile, RouteFile, RouteTimeoutsFile, SiteFile,
};
use crate::config::read::{At, Given, List, Names};
use crate::config::secrets;
use crate::config::settings::{
    Action, CacheRule, Cors, ErrorPage, FilesSettings, HeaderEdits, Learn, Name, Part, PathMatch, Place,
    Prefer, RequestLimits, RoomRule, RouteSettings, SiteTimeouts, Template, Var, When,
};
use crate::config::values::routes::{HeaderNames, Statuses, TemplateText};
use crate::config::values::{FilePath, PlaceWord, TokenName};

/// What a route has when it says nothing itself.
pub(super) struct Base {
    /// The site's pool; `None` for a conference, whose workers no route can send to.
    pub(super) pool: Option<Name>,
    pub(super) room: Vec<RoomRule>,
    pub(super) request_headers: HeaderEdits,
    pub(super) response_headers: HeaderEdits,
    pub(super) timeouts: SiteTimeouts,
    pub(super) body_bytes_max: Option<u64>,
    pub(super) retries: u8,
    pub(super) compress: bool,
    /// The site tells nodes in this header who a client is.
    pub(super) client_header: Option<Name>,
    pub(super) error_pages: Arc<BTreeMap<u16, ErrorPage>>,
}

impl Base {
    /// What the site does with what no route takes.
    pub(super) fn rest(&self, pool: &Name) -> RouteSettings {
        RouteSettings {
            name: Name::from("rest"),
            when: When::default(),
            action: Action::Proxy { pool: pool.clone(), service: None, node: None },
            room: self.room.clone(),
            place: Place::Always,
            prefer: None,
            rewrite: None,
            service_rewrite: None,
            request_headers: self.request_headers.clone(),
            response_headers: self.response_headers.clone(),
            timeouts: self.timeouts.clone(),
            body_bytes_max: self.body_bytes_max,
            retries: self.retries,
            compress: self.compress,
            cache: None,
            error_pages: self.error_pages.clone(),
            limits: RequestLimits::default(),
            cors: None,
            set_json: Vec::new(),
            learn: None,
        }
    }
}

/// A route and where a fault of it is to be shown: a preset's own text is no place for that.
struct Written {
    route: RouteFile,
    at: Mark,
    from_preset: bool,
}

impl Check<'_> {
    pub(super) fn routes(
        &mut self,
        site_at: Mark,
        path: &str,
        site: &SiteFile,
        preset: Option<&SiteFile>,
        base: &Base,
    ) -> Vec<Arc<RouteSettings>> {
        let own = site.routes.get().map_or(&[][..], |list| &list.items[..]);
        if let Some(extra) = own.get(ROUTES_MAX) {
            self.fault(extra.at, format!("{path}.routes: more than {ROUTES_MAX} routes"), "");
            return Vec::new();
        }
        let mut names: BTreeSet<Name> = BTreeSet::from(["rest".into()]);
        let mut routes = Vec::new();
        let mut lacking = BTreeSet::new();
        for (i, written) in in_order(site_at, own, preset).into_iter().enumerate() {
            let Written { route, at, from_preset } = written;
            let name =
                route.name.get().map_or_else(|| Name::from(format!("{}", i + 1)), |name| name.0.clone());
            let place = if route.name.is_missing() {
                format!("{path}.routes.{i}")
            } else {
                format!("{path}.routes.{name}")
            };
            if !names.insert(name.clone()) {
                self.fault(at, format!("{place}: another route has that name"), "another name");
            }
            let mut route_check = RouteCheck {
                check: self,
                at,
                place,
                groups: None,
                from_preset,
                site: path,
                lacking: &mut lacking,
            };
            if let Some(settings) = route_check.route(name, &route, base) {
                routes.push(Arc::new(settings));
            }
        }
        routes
    }
}

/// The file's routes, but for those that change one of the preset's; then the preset's, changed.
fn in_order(site_at: Mark, own: &[At<RouteFile>], preset: Option<&SiteFile>) -> Vec<Written> {
    let theirs = preset.and_then(|preset| preset.routes.get()).map_or(&[][..], |list| &list.items[..]);
    let name_of = |route: &RouteFile| route.name.get().map(|name| name.0.clone());
    let is_theirs = |route: &RouteFile| {
        name_of(route).is_some_and(|name| theirs.iter().any(|t| name_of(&t.value) == Some(name.clone())))
    };
    let mut written: Vec<Written> = own
        .iter()
        .filter(|route| !is_theirs(&route.value))
        .map(|route| Written { route: route.value.clone(), at: route.at, from_preset: false })
        .collect();
    for their in theirs {
        let change = own.iter().find(|route| name_of(&route.value) == name_of(&their.value));
        written.push(match change {
            Some(change) => Written {
                route: changed(their.value.clone(), &change.value),
                at: change.at,
                from_preset: false,
            },
            None => Written { route: their.value.clone(), at: site_at, from_preset: true },
        });
    }
    written
}

/// Puts what the file says in place of what the preset says.
fn changed(mut route: RouteFile, by: &RouteFile) -> RouteFile {
    fn put<T: Clone>(to: &mut Given<T>, from: &Given<T>) {
        if !from.is_missing() {
            to.clone_from(from);
        }
    }
    fn put_default<T: Clone>(to: &mut At<T>, from: &At<T>) {
        if from.is_given() {
            to.clone_from(from);
        }
    }
    if !(by.path.is_missing() && by.prefix.is_missing() && by.regex.is_missing()) {
        (route.path, route.prefix, route.regex) = (by.path.clone(), by.prefix.clone(), by.regex.clone());
    }
    let answers = |route: &RouteFile| {
        !(route.redirect.is_missing() && route.respond.is_missing() && route.files.is_missing())
    };
    let proxies = |route: &RouteFile| {
        !(route.pool.is_missing() && route.service.is_missing() && route.node.is_missing())
    };
    if answers(by) {
        (route.pool, route.service, route.node) = (Given::No, Given::No, Given::No);
        (route.redirect, route.respond) = (by.redirect.clone(), by.respond.clone());
        route.files = by.files.clone();
    } else if proxies(by) {
        (route.redirect, route.respond, route.files) = (Given::No, Given::No, Given::No);
        put(&mut route.pool, &by.pool);
        put(&mut route.service, &by.service);
        put(&mut route.node, &by.node);
    }
    put(&mut route.methods, &by.methods);
    put(&mut route.query, &by.query);
    put(&mut route.subprotocol, &by.subprotocol);
    put(&mut route.learn, &by.learn);
    put(&mut route.set_json, &by.set_json);
    put(&mut route.cors, &by.cors);
    let (to, from) = (&mut route.limits, &by.limits);
    put(&mut to.requests.per_ip, &from.requests.per_ip);
    put(&mut to.requests.burst, &from.requests.burst);
    put(&mut to.requests.per_room, &from.requests.per_room);
    put(&mut to.requests.room_burst, &from.requests.room_burst);
    put(&mut to.requests.total, &from.requests.total);
    put(&mut to.requests.total_burst, &from.requests.total_burst);
    put(&mut to.exempt, &from.exempt);
    put_default(&mut to.dry_run, &from.dry_run);
    put_default(&mut route.status, &by.status);
    put(&mut route.rewrite, &by.rewrite);
    put(&mut route.service_rewrite, &by.service_rewrite);
    put(&mut route.room, &by.room);
    put_default(&mut route.place, &by.place);
    put(&mut route.prefer, &by.prefer);
    put(&mut route.timeouts.connect, &by.timeouts.connect);
    put(&mut route.timeouts.response, &by.timeouts.response);
    put(&mut route.timeouts.tunnel_idle, &by.timeouts.tunnel_idle);
    put(&mut route.timeouts.tunnel_ping, &by.timeouts.tunnel_ping);
    put(&mut route.body, &by.body);
    put(&mut route.retries, &by.retries);
    put(&mut route.compress, &by.compress);
    put(&mut route.cache, &by.cache);
    put(&mut route.error_pages, &by.error_pages);
    for (to, from) in [
        (&mut route.request_headers, &by.request_headers),
        (&mut route.response_headers, &by.response_headers),
    ] {
        put(&mut to.remove, &from.remove);
        put(&mut to.set, &from.set);
        put(&mut to.add, &from.add);
        put(&mut to.default, &from.default);
    }
    route
}

struct RouteCheck<'c, 'a> {
    check: &'c mut Check<'a>,
    at: Mark,
    /// `sites.x.routes.y`.
    place: String,
    /// The named groups of the route's expression.
    groups: Option<Vec<String>>,
    from_preset: bool,
    /// `sites.x`.
    site: &'c str,
    /// Services that were told to be missing.
    lacking: &'c mut BTreeSet<(Name, Name)>,
}

impl RouteCheck<'_, '_> {
    fn fault(&mut self, at: Mark, message: String, cure: impl Into<String>) {
        // What a preset says is right by itself; what does not fit here is shown where the preset is asked for.
        let at = if self.from_preset { self.at } else { at };
        self.check.fault(at, message, cure);
    }

    fn route(&mut self, name: Name, route: &RouteFile, base: &Base) -> Option<RouteSettings> {
        let when = self.when(route);
        let action = self.action(route, base);
        let prefer = route.prefer.get().map(|prefer| {
            let names = prefer.node.get().into_iter().flat_map(|list| &list.items);
            Prefer {
                node: names.filter_map(|name| self.checked("prefer.node", name, false)).collect(),
                release: self.template("prefer.release", &prefer.release, false),
            }
        });
        let rewrite = self.path("rewrite", &route.rewrite);
        let service_rewrite = self.path("service_rewrite", &route.service_rewrite);
        if let (Some((key_at, _)), true) = (route.service_rewrite.full(), route.service.is_missing()) {
            let message = format!("{}: `service_rewrite` without `service`", self.place);
            self.fault(key_at, message, "name the service, or say `rewrite`");
        }
        let request_headers = self.edits("request_headers", &base.request_headers, &route.request_headers);
        let response_headers =
            self.edits("response_headers", &base.response_headers, &route.response_headers);
        let room = match route.room.get() {
            Some(rules) => {
                self.room_texts(rules);
                rules.items.iter().filter_map(|rule| rule_of(&rule.value)).collect()
            }
            None => base.room.clone(),
        };
        let learn = self.learn(route);
        let set_json = self.set_json(route);
        let cors = self.cors(route);
        let limits = self.check.route_limits(&format!("{}.limits", self.place), &route.limits);
        let error_pages = self.check.error_pages(&self.place, &route.error_pages, &base.error_pages);
        let place = match route.place.value {
            PlaceWord::Always => Place::Always,
            PlaceWord::Known => Place::Known,
            PlaceWord::Never => Place::Never,
        };
        let action = action?;
        let cache = self.cache(route, base, &action, &room, place);
        Some(RouteSettings {
            name,
            when,
            action,
            room,
            place,
            prefer,
            rewrite,
            service_rewrite,
            request_headers,
            response_headers,
            timeouts: timeouts(&route.timeouts, &base.timeouts),
            body_bytes_max: route.body.get().map_or(base.body_bytes_max, |body| body_max(*body)),
            compress: route.compress.get().map_or(base.compress, |compress| compress.0),
            cache,
            error_pages,
            retries: route.retries.get().map_or(base.retries, |n| u8::try_from(n.0).unwrap_or(u8::MAX)),
            limits,
            cors,
            set_json,
            learn,
        })
    }

    fn cors(&mut self, route: &RouteFile) -> Option<Cors> {
        let (_, cors) = route.cors.full()?;
        let cors = &cors.value;
        let (_, origins) = cors.origins.full()?;
        let names: Vec<Name> = origins.value.items.iter().map(|origin| origin.value.0.clone()).collect();
        let any = names.iter().any(|name| &**name == "*");
        if any && names.len() > 1 {
            let message = format!("{}.cors.origins: \"*\" is all of them", self.place);
            self.fault(origins.at, message, "keep it alone, or remove it");
        }
        if origins.value.is_empty() {
            let message = format!("{}.cors.origins: no origin, so it is not clear who may read", self.place);
            self.fault(origins.at, message, "name some, or remove `cors`");
        }
        if any && cors.credentials.value.0 {
            let message = format!(
                "{}.cors.credentials: not with \"*\": every page could act as its reader",
                self.place
            );
            self.fault(cors.credentials.at, message, "name the origins");
        }
        let own =
            cors.methods.get().into_iter().flat_map(|list| &list.items).map(|method| method.value.0.clone());
        let mut methods = vec![Method::GET, Method::HEAD, Method::POST];
        methods.extend(own.filter(|method| ![Method::GET, Method::HEAD, Method::POST].contains(method)));
        let words = |names: &Given<List<TokenName>>| {
            names.get().into_iter().flat_map(|list| &list.items).map(|name| name.value.0.clone()).collect()
        };
        Some(Cors {
            origins: (!any).then_some(names),
            methods,
            headers: words(&cors.headers),
            expose: words(&cors.expose),
            credentials: cors.credentials.value.0,
            max_age: cors.max_age.value.0,
        })
    }

    fn set_json(&mut self, route: &RouteFile) -> Vec<(Name, Template)> {
        let Some((key_at, names)) = route.set_json.full() else { return Vec::new() };
        let answers = [&route.redirect.is_missing(), &route.respond.is_missing(), &route.files.is_missing()];
        if answers.iter().any(|missing| !**missing) {
            let message = format!("{}.set_json: no node answers", self.place);
            self.fault(key_at, message, "remove it: it is for routes that send requests to nodes");
        }
        let mut members = Vec::new();
        for (_, name, template) in names.value.iter() {
            let value = self.checked(&format!("set_json.{name}"), template, true);
            members.extend(value.map(|value| (name.clone(), value)));
        }
        members
    }

    fn learn(&mut self, route: &RouteFile) -> Option<Learn> {
        let (key_at, learn) = route.learn.full()?;
        let answers = [&route.redirect.is_missing(), &route.respond.is_missing(), &route.files.is_missing()];
        if answers.iter().any(|missing| !**missing) {
            let message = format!("{}.learn: no node answers", self.place);
            self.fault(key_at, message, "remove it: it is for routes that send requests to nodes");
        }
        let before = learn.value.before.get().map_or_else(|| Name::from(""), |text| text.0.clone());
        Some(Learn { json: learn.value.json.get()?.0.clone(), before })
    }

    /// Checks the texts among rules of rooms: what they name must be there, and cannot be the room itself.
    fn room_texts(&mut self, rules: &List<RoomRuleFile>) {
        for rule in &rules.items {
            let RoomRuleFile::Map(map) = &rule.value else { continue };
            let Some((_, text)) = map.text.full() else { continue };
            let of_room = |part: &Part| matches!(part, Part::Var(Var::Room | Var::RoomSuffix));
            if text.value.0.parts().iter().any(of_room) {
                let message = format!("{}.room: a room cannot be named by itself", self.place);
                self.fault(text.at, message, "a group of `regex`, or {arg_NAME}");
            }
            self.checked("room", text, false);
        }
    }

    fn cache(
        &mut self,
        route: &RouteFile,
        base: &Base,
        action: &Action,
        room: &[RoomRule],
        room_place: Place,
    ) -> Option<CacheRule> {
        let client_header = base.client_header.as_deref();
        let wanted = Wanted {
            place: &self.place,
            action,
            room,
            room_place,
            client_header,
            from_preset: self.from_preset,
        };
        cache::rule(route, &wanted).unwrap_or_else(|(at, message, cure)| {
            self.fault(at, message, cure);
            None
        })
    }

    fn when(&mut self, route: &RouteFile) -> When {
        let given = [&route.path, &route.prefix].map(|path| !path.is_missing());
        if given.iter().filter(|given| **given).count() + usize::from(!route.regex.is_missing()) > 1 {
            let message = format!("{}: only one of `path`, `prefix` and `regex`", self.place);
            self.fault(self.at, message, "make several routes of it");
        }
        let path = if let Some(path) = route.path.get() {
            PathMatch::Exact(path.0.clone())
        } else if let Some(prefix) = route.prefix.get() {
            PathMatch::Prefix(prefix.0.clone())
        } else if let Some(pattern) = route.regex.get() {
            let groups = pattern.0.regex().capture_names().flatten().map(str::to_owned);
            let groups: Vec<String> = groups.collect();
            if let (Some(group), Some((_, regex))) =
                (groups.iter().find(|group| Var::WORDS.contains(&group.as_str())), route.regex.full())
            {
                let message =
                    format!("{}.regex: the group {{{group}}} has the name of a variable", self.place);
                self.fault(regex.at, message, "another name");
            }
            self.groups = Some(groups);
            PathMatch::Regex(pattern.0.clone())
        } else {
            PathMatch::Any
        };
        let methods = route.methods.get().map(|list| list.items.iter().map(|m| m.value.0.clone()).collect());
        When {
            path,
            methods: methods.unwrap_or_default(),
            query: route.query.get().map(|name| name.0.clone()),
            subprotocol: route.subprotocol.get().map(|name| name.0.clone()),
        }
    }

    fn action(&mut self, route: &RouteFile, base: &Base) -> Option<Action> {
        let kinds = [
            !route.redirect.is_missing(),
            !route.respond.is_missing(),
            !route.files.is_missing(),
            !(route.pool.is_missing() && route.service.is_missing() && route.node.is_missing()),
        ];
        if kinds.iter().filter(|given| **given).count() > 1 {
            let message = format!(
                "{}: a route either sends on (`pool`, `service`, `node`), or redirects, or answers with files or a text",
                self.place
            );
            self.fault(self.at, message, "keep one of them");
            return None;
        }
        if let Some((_, to)) = route.redirect.full() {
            let status =
                u16::try_from(route.status.value.0).ok().and_then(|code| StatusCode::from_u16(code).ok());
            let Some(status) = status.filter(|s| matches!(s.as_u16(), 301 | 302 | 303 | 307 | 308)) else {
                let message = format!("{}.status: {} is no redirect", self.place, route.status.value.0);
                self.fault(route.status.at, message, "301, 302, 303, 307 or 308");
                return None;
            };
            let to = self.checked("redirect", to, false)?;
            return Some(Action::Redirect { to, status });
        }
        if route.status.is_given() {
            let message = format!("{}: `status` is for `redirect`", self.place);
            self.fault(route.status.at, message, "the status of a fixed answer: `respond: { status: ... }`");
        }
        if let Some(files) = route.files.get() {
            return self.files(files).map(Action::Files);
        }
        if let Some(respond) = route.respond.get() {
            let RespondFile { status, body, content_type, as_node } = respond;
            let body_template = match body.full() {
                Some((_, body)) => self.checked("respond.body", body, as_node.value.0)?,
                None => Template::parse("").ok()?,
            };
            return Some(Action::Respond {
                status: u16::try_from(status.value.0)
                    .ok()
                    .and_then(|code| StatusCode::from_u16(code).ok())?,
                body: body_template,
                content_type: content_type.value.0.clone(),
                as_node: if as_node.value.0 {
                    if base.pool.is_none() {
                        let message =
                            format!("{}.respond.as_node: a conference has no such nodes", self.place);
                        self.fault(as_node.at, message, "remove it");
                    }
                    base.pool.clone()
                } else {
                    None
                },
            });
        }
        let pool = match route.pool.full() {
            Some((_, pool)) => {
                self.pool(pool.at, &pool.value.0)?;
                pool.value.0.clone()
            }
            None if route.pool.is_missing() => match &base.pool {
                Some(pool) => pool.clone(),
                None => {
                    let message = format!("{}: says nothing of what to do", self.place);
                    self.fault(
                        self.at,
                        message,
                        "add `pool`, `redirect` or `respond`: the conference takes all other paths",
                    );
                    return None;
                }
            },
            None => return None,
        };
        let node = self.template("node", &route.node, false);
        if let Some((_, service)) = route.service.full() {
            self.service(&pool, service.at, &service.value.0);
        }
        Some(Action::Proxy { pool, service: route.service.get().map(|service| service.0.clone()), node })
    }

    fn files(&mut self, files: &FilesFile) -> Option<FilesSettings> {
        let (_, folder) = files.folder.full()?;
        let path = secrets::resolve(self.check.base, &folder.value.0);
        if !path.is_dir() {
            let message = format!("{}.files.folder: {} is no folder", self.place, path.display());
            self.fault(
                folder.at,
                message,
                "make it, or name another; it is relative to the folder of this file",
            );
        }
        let index = &files.index;
        if index.value.0.contains('/') || index.value.0.starts_with('.') {
            let message =
                format!("{}.files.index: {} is no name of a file", self.place, quote(&index.value.0));
            self.fault(index.at, message, "a name, such as index.html");
        }
        let ssi = match files.ssi.get() {
            None => None,
            Some(names) => {
                let mut variables = Vec::new();
                for (_, name, template) in names.iter() {
                    let value = self.checked(&format!("files.ssi.{name}"), template, false);
                    variables.extend(value.map(|value| (name.clone(), value)));
                }
                Some(variables)
            }
        };
        Some(FilesSettings {
            folder: path,
            file: self.template("files.file", &files.file, false),
            index: Name::from(index.value.0.as_str()),
            ssi,
        })
    }

    fn pool(&mut self, at: Mark, name: &Name) -> Option<()> {
        if self.check.file.pools.get().is_none_or(|pools| pools.faulty.contains(name)) {
            return None;
        }
        let found = self.check.pool_files().find(|(_, other, _)| *other == name);
        let Some((_, _, file)) = found else {
            let cure = known(name, self.check.pool_files().map(|(_, name, _)| &**name));
            self.fault(at, format!("{}.pool: no pool is named {}", self.place, quote(name)), cure);
            return None;
        };
        if Check::pool_kind(&file.value) == PoolKind::Embedded {
            let message =
                format!("{}.pool: {} is embedded: no route can send to it", self.place, quote(name));
            self.fault(at, message, "name a pool with `nodes`");
            return None;
        }
        Some(())
    }

    /// Every node of the pool must have the service, or be a URL.
    fn service(&mut self, pool: &Name, at: Mark, service: &Name) {
        let settings = self.check.pools_settings.get(pool);
        let Some(lacks) = settings.and_then(|pool| pool.without_service(service)).cloned() else { return };
        let mut place = format!("{}.service", self.place);
        if self.from_preset {
            // Many routes of a preset send to one service: once is enough.
            if !self.lacking.insert((pool.clone(), service.clone())) {
                return;
            }
            place = format!("{}: the preset's routes", self.site);
        }
        let message = format!("{place}: pools.{pool}.nodes.{lacks} has no service {}", quote(service));
        self.fault(at, message, format!("add its port: `{lacks}: {{ host: ..., {service}: PORT }}`"));
    }

    fn path(&mut self, key: &str, template: &Given<TemplateText>) -> Option<Template> {
        let (_, at) = template.full()?;
        if !at.value.0.as_str().starts_with(['/', '{']) {
            self.fault(at.at, format!("{}.{key}: not a path", self.place), "it begins with \"/\"");
        }
        self.checked(key, at, true)
    }

    fn template(&mut self, key: &str, template: &Given<TemplateText>, late: bool) -> Option<Template> {
        let (_, template) = template.full()?;
        self.checked(key, template, late)
    }

    /// Checks that all names stand for something where they are. `late`: the node is known by then.
    fn checked(&mut self, key: &str, template: &At<TemplateText>, late: bool) -> Option<Template> {
        for part in template.value.0.parts() {
            let wrong = match part {
                Part::Text(_) => None,
                Part::Argument(_) => None,
                Part::Var(var) if late || var.is_of_request() => None,
                Part::Var(var) => Some((
                    format!("{}.{key}: {{{}}} is not known yet", self.place, var.as_str()),
                    "only headers, `rewrite` and answers with `as_node` know the node".to_owned(),
                )),
                Part::Group(name) => {
                    let groups = self.groups.as_deref().unwrap_or_default();
                    let names = groups.iter().map(String::as_str).chain(Var::WORDS.iter().copied());
                    (!groups.iter().any(|group| **group == **name)).then(|| {
                        let message = format!(
                            "{}.{key}: {{{name}}} is neither a variable nor a group of `regex`",
                            self.place
                        );
                        (message, known(name, names))
                    })
                }
            };
            if let Some((message, cure)) = wrong {
                self.fault(template.at, message, cure);
                return None;
            }
        }
        Some(template.value.0.clone())
    }

    /// The site's changes, then the route's.
    fn edits(&mut self, key: &str, site: &HeaderEdits, route: &HeaderEditsFile) -> HeaderEdits {
        let mut edits = site.clone();
        let own = self.own_edits(key, route);
        edits.remove.extend(own.remove);
        for (to, from) in
            [(&mut edits.set, own.set), (&mut edits.add, own.add), (&mut edits.default, own.default)]
        {
            to.extend(from);
        }
        edits
    }

    fn own_edits(&mut self, key: &str, file: &HeaderEditsFile) -> HeaderEdits {
        HeaderEdits {
            remove: header_names(&file.remove),
            set: self.header_values(&format!("{key}.set"), &file.set),
            add: self.header_values(&format!("{key}.add"), &file.add),
            default: self.header_values(&format!("{key}.default"), &file.default),
        }
    }

    fn header_values(
        &mut self,
        key: &str,
        names: &Given<Names<HeaderNames, TemplateText>>,
    ) -> Vec<(HeaderName, Template)> {
        let Some(names) = names.get() else { return Vec::new() };
        let mut values = Vec::new();
        for (_, name, template) in names.iter() {
            if template.value.0.as_str().chars().any(char::is_control) {
                let message = format!("{}.{key}.{name}: a control character", self.place);
                self.fault(template.at, message, "a header is one line");
                continue;
            }
            let header = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(header), Some(value)) =
                (header, self.checked(&format!("{key}.{name}"), template, true))
            {
                values.push((header, value));
            }
        }
        values
    }
}

impl Check<'_> {
    /// Reads own pages for errors, beside those that are there.
    pub(super) fn error_pages(
        &mut self,
        path: &str,
        files: &Given<Names<Statuses, FilePath>>,
        base: &Arc<BTreeMap<u16, ErrorPage>>,
    ) -> Arc<BTreeMap<u16, ErrorPage>> {
        let Some(files) = files.get() else { return base.clone() };
        let mut pages = BTreeMap::clone(base);
        for (_, status, file) in files.iter() {
            let at = secrets::resolve(self.base, &file.value.0);
            let read = secrets::read_file(&at, ERROR_PAGE_BYTES_MAX);
            let Some(body) = self.taken(file.at, &format!("{path}.error_pages.{status}"), read) else {
                continue;
            };
            let kind = mime_guess::from_path(&at).first_or_octet_stream();
            let text = kind.type_() == mime_guess::mime::TEXT;
            let content_type = format!("{}{}", kind.essence_str(), if text { "; charset=utf-8" } else { "" });
            if let Ok(status) = status.parse() {
                pages.insert(
                    status,
                    ErrorPage { path: at, content_type: content_type.into(), body: body.into() },
                );
            }
        }
        Arc::new(pages)
    }

    /// Checks the texts among a site's rules of rooms.
    pub(super) fn site_room_texts(&mut self, at: Mark, path: &str, rules: &List<RoomRuleFile>) {
        let mut check = RouteCheck {
            check: self,
            at,
            place: path.to_owned(),
            groups: None,
            from_preset: false,
            site: path,
            lacking: &mut BTreeSet::new(),
        };
        check.room_texts(rules);
    }

    /// The changes that a site makes for all its routes; no expression is there to take groups from.
    pub(super) fn site_edits(
        &mut self,
        at: Mark,
        path: &str,
        key: &str,
        file: &HeaderEditsFile,
        preset: Option<&HeaderEditsFile>,
    ) -> HeaderEdits {
        let mut check = RouteCheck {
            check: self,
            at,
            place: path.to_owned(),
            groups: None,
            from_preset: preset.is_some(),
            site: path,
            lacking: &mut BTreeSet::new(),
        };
        let mut edits = preset.map(|preset| check.own_edits(key, preset)).unwrap_or_default();
        check.from_preset = false;
        let own = check.own_edits(key, file);
        edits.remove.extend(own.remove);
        edits.set.extend(own.set);
        edits.add.extend(own.add);
        edits.default.extend(own.default);
        edits
    }
}

fn header_names(names: &Given<List<TokenName>>) -> Vec<HeaderName> {
    let names = names.get().into_iter().flat_map(|list| &list.items);
    names.filter_map(|name| HeaderName::from_bytes(name.value.0.as_bytes()).ok()).collect()
}

fn timeouts(file: &RouteTimeoutsFile, base: &SiteTimeouts) -> SiteTimeouts {
    SiteTimeouts {
        connect: file.connect.get().map_or(base.connect, |time| time.0),
        response: file.response.get().map_or(base.response, |time| time.0),
        tunnel_idle: file.tunnel_idle.get().map_or(base.tunnel_idle, |time| time.0),
        tunnel_ping: file.tunnel_ping.get().map(|time| time.0).or(base.tunnel_ping),
    }
}

pub(super) fn body_max(body: BodyFile) -> Option<u64> {
    match body {
        BodyFile::Unlimited => None,
        BodyFile::Max(size) => Some(size.0),
    }
}

/// Largest own page for an error.
const ERROR_PAGE_BYTES_MAX: usize = 256 << 10;

/// Routes of one site, a preset's not counted.
const ROUTES_MAX: usize = 256;
