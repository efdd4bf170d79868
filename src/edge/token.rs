//! Tells what is wrong with the token by which a request names its room, where a site has its tokens verified.
//!
//! Pure.

use std::time::Duration;

use http::Method;

use crate::config::settings::{Place, RoomRule, RouteSettings, Secret};
use crate::rooms::{RequestView, token};
use crate::sfu::auth::{AuthError, verify};

/// Says why a request is refused with 401; `None`: its token is good, or its route takes no room from tokens. `wall` is the
/// time since the Unix epoch.
pub(super) fn fault(
    secret: &Secret,
    route: &RouteSettings,
    method: &Method,
    request: &RequestView<'_>,
    wall: Duration,
) -> Option<&'static str> {
    let by_token = route.room.iter().any(|rule| matches!(rule, RoomRule::Claim(_)));
    if !by_token || route.place == Place::Never || method == Method::OPTIONS {
        // A preflight has no token, and asks for nothing (Fetch section 4.8).
        return None;
    }
    let Some(token) = token::of(request) else { return Some("this needs a token") };
    match verify(secret, &token, wall) {
        Ok(()) => None,
        Err(AuthError::Expired) => Some("the token has expired"),
        Err(AuthError::Missing | AuthError::Invalid | AuthError::Room) => Some("the token is not valid"),
    }
}
