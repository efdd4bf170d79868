//! Networks: an address, or an address with the length of its prefix.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Wrong, value};
use crate::config::read::{Read, Reader};
use crate::config::tree::Node;

text_value! {
    /// A network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
    Network(IpNet), "a network", { "type": "string", "examples": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"] },
    parse_network
}

fn parse_network(text: &str) -> Result<IpNet, Wrong> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = network else {
        let cure = "\"10.0.0.0/8\", \"2001:db8::/32\", or one address: \"192.0.2.7\"";
        return Err(("not a network".to_owned(), cure.to_owned()));
    };
    if network.addr() != network.network() {
        return Err(("an address within a network".to_owned(), format!("write \"{}\"", network.trunc())));
    }
    // Clients are compared by their own family: an IPv4 network in the clothes of IPv6 would match nobody.
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
        && v6.prefix_len() >= 96
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return Err((
            "an IPv4 network written as IPv6".to_owned(),
            format!("write \"{v4}/{}\"", v6.prefix_len() - 96),
        ));
    }
    Ok(network)
}

/// Writes a network as the file has it: one address without its prefix.
pub(in crate::config) fn show_network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

impl serde::Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&show_network(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("192.0.2.7", Ok("192.0.2.7")),
            ("192.0.2.7/32", Ok("192.0.2.7")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("::1", Ok("::1")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("10.1.2.3/8", Err("write \"10.0.0.0/8\"")),
            ("::ffff:10.0.0.0/104", Err("write \"10.0.0.0/8\"")),
            ("10.0.0.0/33", Err("")),
            ("example.com", Err("")),
        ] {
            let parsed = parse_network(text);
            match (&parsed, expected) {
                (Ok(network), Ok(shown)) => assert_eq!(show_network(network), shown),
                (Err((_, cure)), Err(part)) => assert!(cure.contains(part), "{cure}"),
                _ => panic!("{text}: {parsed:?}"),
            }
        }
    }
}
