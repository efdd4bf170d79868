//! Who may join a room: nobody is asked, or a token says so.
//!
//! Pure: the wall clock is passed in. Tokens are JWT (RFC 7519) signed with HS256; no other algorithm is taken,
//! whatever the header says. The claim `room` names one room, compared in its normalised form, or all with `"*"`;
//! `exp` must be there. A token is never logged and never part of an error.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use thiserror::Error;

use crate::config::settings::{Auth, Secret};
use crate::rooms::RoomKey;

/// Why somebody may not join. The display is what the client is told.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthError {
    /// No token came.
    #[error("this room needs a token: Authorization: Bearer, or ?token= on the WebSocket")]
    Missing,
    /// The token is not one of ours.
    #[error("the token is not valid")]
    Invalid,
    /// The token was one of ours.
    #[error("the token has expired")]
    Expired,
    /// The token is for another room.
    #[error("the token is for another room")]
    Room,
}

impl AuthError {
    /// Returns the HTTP status: 401 (with `WWW-Authenticate: Bearer`) or 403.
    pub fn status(self) -> u16 {
        match self {
            Self::Missing | Self::Invalid | Self::Expired => 401,
            Self::Room => 403,
        }
    }
}

/// Says whether somebody may join a room. `bearer` is the value of the `Authorization` header after `Bearer `; it goes
/// before `query_token`, which is percent-decoded. `wall` is the time since the Unix epoch.
///
/// # Errors
///
/// Why not.
pub fn authorise(
    auth: &Auth,
    room: &RoomKey,
    bearer: Option<&str>,
    query_token: Option<&str>,
    wall: Duration,
) -> Result<(), AuthError> {
    let secret = match auth {
        Auth::Open => return Ok(()),
        Auth::Jwt(secret) => secret.expose().trim_ascii_end(),
    };
    let token = bearer.or(query_token).map(str::trim).filter(|t| !t.is_empty()).ok_or(AuthError::Missing)?;
    let claims: Claims = claims(secret, token)?;
    judge(claims.exp, claims.nbf, wall)?;
    if claims.room == "*" || RoomKey::new(&claims.room).is_ok_and(|claimed| claimed == *room) {
        Ok(())
    } else {
        Err(AuthError::Room)
    }
}

/// Says whether a token is signed with a secret (HS256) and stands in its time, whatever it is for. `wall` is the time since
/// the Unix epoch.
///
/// # Errors
///
/// Why not.
pub fn verify(secret: &Secret, token: &str, wall: Duration) -> Result<(), AuthError> {
    let claims: Times = claims(secret.expose().trim_ascii_end(), token)?;
    judge(claims.exp, claims.nbf, wall)
}

fn claims<C: serde::de::DeserializeOwned + Clone>(secret: &[u8], token: &str) -> Result<C, AuthError> {
    // An empty secret would let everybody sign.
    if token.len() > TOKEN_BYTES_MAX || secret.is_empty() {
        return Err(AuthError::Invalid);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    // Time is judged below, by the clock that was passed in.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let decoded = decode::<C>(token, &DecodingKey::from_secret(secret), &validation);
    Ok(decoded.map_err(|_| AuthError::Invalid)?.claims)
}

fn judge(exp: f64, nbf: Option<f64>, wall: Duration) -> Result<(), AuthError> {
    let wall = wall.as_secs_f64();
    if exp <= wall {
        return Err(AuthError::Expired);
    }
    if nbf.is_some_and(|nbf| nbf > wall + LEEWAY_SECONDS) {
        return Err(AuthError::Invalid);
    }
    Ok(())
}

#[derive(Clone, Deserialize)]
struct Times {
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Clone, Deserialize)]
struct Claims {
    room: String,
    // RFC 7519 section 2: NumericDate may have a fraction.
    exp: f64,
    nbf: Option<f64>,
}

const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// What the clock of a token's maker may be ahead.
const LEEWAY_SECONDS: f64 = 30.0;

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::config::settings::Secret;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn jwt(secret: &str) -> Auth {
        Auth::Jwt(Secret::new("file:test", secret.as_bytes().to_vec()))
    }

    fn token(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_token_opens_its_room_until_it_expires() {
        let room = RoomKey::new("Caf\u{e9} One").unwrap();
        let exp = NOW.as_secs() + 60;
        for (claims, expected) in [
            (json!({"room": "CAF\u{c9} One", "exp": exp}), Ok(())),
            (json!({"room": "caf%C3%A9%20one", "exp": exp}), Ok(())),
            (json!({"room": "*", "exp": exp}), Ok(())),
            (json!({"room": "*", "exp": NOW.as_secs() + 1}), Ok(())),
            (json!({"room": "*", "exp": NOW.as_secs()}), Err(AuthError::Expired)),
            (json!({"room": "two", "exp": exp}), Err(AuthError::Room)),
            (json!({"room": "", "exp": exp}), Err(AuthError::Room)),
            (json!({"room": "*"}), Err(AuthError::Invalid)),
            (json!({"exp": exp}), Err(AuthError::Invalid)),
            (json!({"room": "*", "exp": exp, "nbf": NOW.as_secs() + 3600}), Err(AuthError::Invalid)),
        ] {
            let token = token(Algorithm::HS256, "secret", &claims);
            assert_eq!(authorise(&jwt("secret\n"), &room, Some(&token), None, NOW), expected, "{claims}");
        }
    }

    #[test]
    fn a_token_for_anything_stands_in_its_time() {
        let secret = Secret::new("file:test", b"secret\n".to_vec());
        let now = NOW.as_secs();
        for (algorithm, key, claims, expected) in [
            (Algorithm::HS256, "secret", json!({"video": {"room": "a"}, "exp": now + 1}), Ok(())),
            (Algorithm::HS256, "secret", json!({"exp": now}), Err(AuthError::Expired)),
            (Algorithm::HS256, "secret", json!({"exp": now + 9, "nbf": now + 31}), Err(AuthError::Invalid)),
            (Algorithm::HS256, "secret", json!({"video": {}}), Err(AuthError::Invalid)),
            (Algorithm::HS256, "other", json!({"exp": now + 1}), Err(AuthError::Invalid)),
            (Algorithm::HS512, "secret", json!({"exp": now + 1}), Err(AuthError::Invalid)),
        ] {
            assert_eq!(verify(&secret, &token(algorithm, key, &claims), NOW), expected, "{claims}");
        }
        assert_eq!(verify(&secret, "e30.e30.", NOW), Err(AuthError::Invalid));
    }

    #[test]
    fn only_our_own_hs256_counts() {
        let room = RoomKey::new("a").unwrap();
        let claims = json!({"room": "a", "exp": NOW.as_secs() + 60});
        let good = token(Algorithm::HS256, "secret", &claims);
        let [_, body, _] = good.split('.').collect::<Vec<_>>()[..] else { panic!("a token has three parts") };
        // {"alg":"none"}
        let unsigned = format!("eyJhbGciOiJub25lIn0.{body}.");
        for (auth, bearer, query, expected) in [
            (Auth::Open, None, None, Ok(())),
            (jwt("secret"), None, None, Err(AuthError::Missing)),
            (jwt("secret"), Some(""), None, Err(AuthError::Missing)),
            (jwt("secret"), None, Some(good.as_str()), Ok(())),
            (jwt("secret"), Some("x"), Some(good.as_str()), Err(AuthError::Invalid)),
            (jwt("other"), Some(good.as_str()), None, Err(AuthError::Invalid)),
            (jwt(""), Some(good.as_str()), None, Err(AuthError::Invalid)),
            (jwt("secret"), Some(unsigned.as_str()), None, Err(AuthError::Invalid)),
            (
                jwt("secret"),
                Some(token(Algorithm::HS512, "secret", &claims).as_str()),
                None,
                Err(AuthError::Invalid),
            ),
            (jwt("secret"), Some("a".repeat(TOKEN_BYTES_MAX + 1).as_str()), None, Err(AuthError::Invalid)),
        ] {
            assert_eq!(authorise(&auth, &room, bearer, query, NOW), expected, "{bearer:?}");
        }
    }

    #[test]
    fn errors_have_their_status() {
        for (error, status) in [
            (AuthError::Missing, 401),
            (AuthError::Invalid, 401),
            (AuthError::Expired, 401),
            (AuthError::Room, 403),
        ] {
            assert_eq!(error.status(), status);
        }
    }
}
