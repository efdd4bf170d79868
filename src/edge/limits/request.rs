//! Limits in the phases of a request: who is kept out, and who comes too often.

use std::net::IpAddr;

use http::StatusCode;
use pingora::proxy::Session;

use super::{Asked, Refused};
use crate::clock;
use crate::config::settings::SiteSettings;
use crate::edge::proxy::{Phases, Request, respond};
use crate::edge::upgrade::{Asks, asks};
use crate::rooms::RoomId;

impl Phases {
    /// Answers a client that is banned. True: answered.
    pub(in crate::edge) async fn banned(
        &self,
        session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<bool> {
        if !self.shared.limits.is_banned(ctx.peer().ip()) {
            return Ok(false);
        }
        self.shared.limits.count_kept_out("banned");
        session.downstream_session.set_keepalive(None);
        respond(session, ctx, StatusCode::FORBIDDEN, &[], "refused").await
    }

    /// Answers a client that may not ask this site, or comes too often. True: answered.
    pub(in crate::edge) async fn limited(
        &self,
        session: &mut Session,
        ctx: &mut Request,
    ) -> pingora::Result<bool> {
        let Some(site) = ctx.site.clone() else { return Ok(false) };
        let client = ctx.peer().ip();
        if !site.networks.lets_in(client) {
            self.shared.limits.count_kept_out("denied");
            return respond(session, ctx, StatusCode::FORBIDDEN, &[], "refused").await;
        }
        let websocket = asks(session.req_header()) == Asks::Yes;
        let admitted = self.admitted(ctx, client, &site, websocket);
        match admitted {
            Ok(()) => Ok(false),
            Err(Refused { status, retry_after }) => {
                let retry = retry_after.to_string();
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
                let text = "too many requests: come again later";
                respond(session, ctx, status, &[("Retry-After", &retry)], text).await
            }
        }
    }

    /// Holds a request against the limits of its site and its route; one that becomes a WebSocket takes a seat in its room.
    fn admitted(
        &self,
        ctx: &mut Request,
        client: IpAddr,
        site: &SiteSettings,
        websocket: bool,
    ) -> Result<(), Refused> {
        let route = ctx.matched.as_ref().map(|matched| matched.route.clone());
        let route = route.filter(|route| !route.limits.is_off());
        if site.limits.is_off() && route.is_none() {
            return Ok(());
        }
        // A room that this request does not place is not new by it.
        let places = ctx.placed_room().is_some();
        let is_placed = |room: &RoomId| !places || self.shared.parts.rooms.is_placed(room);
        let of_site =
            Asked { client, scope: &site.name, room: ctx.room.as_ref(), room_is_placed: &is_placed };
        let edge = &ctx.settings.limits;
        let now = clock::now();
        match &route {
            None => self.shared.limits.admit(edge, &[(&site.limits, &of_site)], now)?,
            Some(route) => {
                // No site has a space in its name.
                let scope = format!("{} {}", site.name, route.name);
                let of_route = Asked { scope: &scope, ..of_site };
                let all = [(&site.limits, &of_site), (&route.limits, &of_route)];
                self.shared.limits.admit(edge, &all, now)?;
            }
        }
        if websocket && !site.limits.is_off() {
            ctx.seat = self.shared.limits.enter_room(edge, &site.limits, &of_site)?;
        }
        Ok(())
    }
}
