//! Which addresses cannot be listened on together.

use std::net::{IpAddr, SocketAddr};

use super::Check;
use crate::config::fault::Mark;
use crate::config::read::List;
use crate::config::values::{Bind, show_bind};

impl Check<'_> {
    /// TCP against TCP, UDP against UDP.
    pub(super) fn clashes(&mut self) {
        let file = self.file;
        let mut tcp = Vec::new();
        // An address that the file does not have comes first: the fault is the other one's.
        if !file.admin.bind.is_given() {
            gather(&mut tcp, "admin", Some(&file.admin.bind.value));
        }
        for (_, name, listener) in self.listener_files() {
            gather(&mut tcp, &format!("listeners.{name}"), listener.value.bind.get());
        }
        if file.admin.bind.is_given() {
            gather(&mut tcp, "admin", Some(&file.admin.bind.value));
        }
        let mut udp = Vec::new();
        gather(&mut udp, "media", file.media.get().and_then(|media| media.bind.get()));
        for (protocol, addresses) in [("TCP", tcp), ("UDP", udp)] {
            self.clash(protocol, &addresses);
        }
    }

    fn clash(&mut self, protocol: &str, addresses: &[(Mark, String, SocketAddr)]) {
        for (i, (at, path, address)) in addresses.iter().enumerate().take(ADDRESSES_MAX) {
            let first = addresses[..i].iter().find(|(_, _, other)| overlap(*address, *other));
            if let Some((first_at, first, other)) = first {
                let place = if first_at.line == 0 {
                    "the default".to_owned()
                } else {
                    format!("line {}", first_at.line)
                };
                let (port, other) = (address.port(), show_bind(*other));
                let message = format!(
                    "{path}.bind: {protocol} port {port} is taken by {first}.bind ({other}, {place})"
                );
                self.fault(*at, message, "choose another port, or addresses that do not overlap");
            }
        }
    }
}

fn gather(into: &mut Vec<(Mark, String, SocketAddr)>, path: &str, bind: Option<&List<Bind>>) {
    let Some(binds) = bind else { return };
    into.extend(binds.items.iter().map(|bind| (bind.at, path.to_owned(), bind.value.0)));
}

/// Whether two sockets cannot both be bound. Port 0 is a new port each time; `[::]` takes IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    if a.port() != b.port() || a.port() == 0 {
        return false;
    }
    let (a, b) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V6(v6) => v6.is_unspecified(),
        IpAddr::V4(v4) => v4.is_unspecified() && narrow.is_ipv4(),
    };
    a == b || covers(a, b) || covers(b, a)
}

/// Addresses that are compared with each other.
const ADDRESSES_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_take_what_they_cover() {
        for (a, b, expected) in [
            ("[::]:80", "[::]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[::]:80", "[::]:81", false),
            ("[::]:0", "[::]:0", false),
        ] {
            let (x, y) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((overlap(x, y), overlap(y, x)), (expected, expected), "{a} {b}");
        }
    }
}
