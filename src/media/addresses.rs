//! Which addresses clients are told to send media to.

use std::net::{IpAddr, SocketAddr};

use crate::config::settings::Advertise;

/// Returns the host candidates, in order of preference, without doubles.
///
/// `public` are the addresses of this edge in the configuration, `bound` the sockets' addresses. `auto` is `public`;
/// without it the machine's own addresses that are up and not link-local, loopback only if there is nothing else. A
/// socket that is bound to one address advertises that one. The port is the bound one unless the list names another.
pub fn resolve(advertise: &Advertise, public: &[IpAddr], bound: &[SocketAddr]) -> Vec<SocketAddr> {
    choose(advertise, public, bound, &machine_addresses())
}

/// Returns the machine's addresses that are up, those a peer can reach first.
fn machine_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list this machine's addresses");
        Vec::new()
    });
    interfaces.iter().filter(|i| i.is_oper_up() && !i.is_link_local()).map(if_addrs::Interface::ip).collect()
}

fn choose(
    advertise: &Advertise,
    public: &[IpAddr],
    bound: &[SocketAddr],
    machine: &[IpAddr],
) -> Vec<SocketAddr> {
    let mut chosen = Vec::new();
    let mut add = |address: SocketAddr| {
        if !chosen.contains(&address) {
            chosen.push(address);
        }
    };
    match advertise {
        Advertise::List(list) => {
            let port = bound.first().map_or(0, SocketAddr::port);
            for address in list {
                add(SocketAddr::new(address.ip(), if address.port() == 0 { port } else { address.port() }));
            }
        }
        Advertise::Auto => {
            for socket in bound {
                for ip in auto(socket.ip(), public, machine) {
                    add(SocketAddr::new(ip, socket.port()));
                }
            }
        }
    }
    chosen
}

fn auto(bound: IpAddr, public: &[IpAddr], machine: &[IpAddr]) -> Vec<IpAddr> {
    // `[::]` takes both families, `0.0.0.0` one.
    let reachable = |ip: &&IpAddr| bound.is_ipv6() || ip.is_ipv4();
    if bound.is_loopback() {
        return vec![bound];
    }
    if !public.is_empty() {
        return public.iter().filter(reachable).copied().collect();
    }
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let (loopback, mut outside): (Vec<_>, Vec<_>) =
        machine.iter().filter(reachable).copied().partition(IpAddr::is_loopback);
    // IPv4 first: a phone on the same network always has it.
    outside.sort_by_key(IpAddr::is_ipv6);
    if !outside.is_empty() {
        return outside;
    }
    if !loopback.is_empty() {
        return loopback;
    }
    vec![IpAddr::from(std::net::Ipv4Addr::LOCALHOST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn auto_prefers_public_then_the_machine_then_loopback() {
        let check = |public: &[&str], bound: &[&str], machine: &[&str], expected: &[&str]| {
            let chosen = choose(&Advertise::Auto, &ips(public), &addrs(bound), &ips(machine));
            assert_eq!(chosen, addrs(expected), "{public:?} {bound:?} {machine:?}");
        };
        let machine = ["127.0.0.1", "::1", "2001:db8::5", "192.0.2.5"];
        check(&["203.0.113.1", "2001:db8::1"], &["[::]:9"], &machine, &["203.0.113.1:9", "[2001:db8::1]:9"]);
        check(&["203.0.113.1", "2001:db8::1"], &["0.0.0.0:9"], &machine, &["203.0.113.1:9"]);
        check(&[], &["[::]:9"], &machine, &["192.0.2.5:9", "[2001:db8::5]:9"]);
        check(&[], &["0.0.0.0:9"], &machine, &["192.0.2.5:9"]);
        check(&[], &["[::]:9"], &["127.0.0.1", "::1"], &["127.0.0.1:9", "[::1]:9"]);
        check(&[], &["0.0.0.0:9"], &[], &["127.0.0.1:9"]);
        check(&[], &["192.0.2.7:9"], &machine, &["192.0.2.7:9"]);
        check(&["203.0.113.1"], &["127.0.0.1:9"], &machine, &["127.0.0.1:9"]);
        check(&[], &["0.0.0.0:9", "0.0.0.0:10"], &machine, &["192.0.2.5:9", "192.0.2.5:10"]);
    }

    #[test]
    fn list_fills_missing_ports() {
        let list = Advertise::List(addrs(&["203.0.113.1:0", "203.0.113.2:77", "203.0.113.1:9"]));
        let chosen = choose(&list, &[], &addrs(&["0.0.0.0:9"]), &[]);
        assert_eq!(chosen, addrs(&["203.0.113.1:9", "203.0.113.2:77"]));
    }

    #[test]
    fn this_machine_has_an_address() {
        let bound = addrs(&["0.0.0.0:9"]);
        assert!(!resolve(&Advertise::Auto, &[], &bound).is_empty());
    }
}
