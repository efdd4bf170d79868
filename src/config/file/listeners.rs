//! Listeners: where TCP traffic enters, and how TLS ends there.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{SecretRef, word};
use crate::config::fault::quote;
use crate::config::read::{
    At, Given, KeyKind, KeySchema, List, Names, Read, Reader, Reload, either, record, record_schema,
};
use crate::config::tree::Node;
use crate::config::values::flag::Flag;
use crate::config::values::network::Network;
use crate::config::values::{
    Bind, Count, FilePath, PoolRef, ProfileWord, RedirectWord, Size, SniName, Time, UnknownNameWord,
};

record! {
    /// A TCP listener.
    ListenerFile {
        /// Addresses to listen on. ":443" is IPv6 and IPv4.
        bind: List<Bind>, required, restart;
        /// How TLS ends here: self-signed (made at start, for trying out), or certificates. Without it: plain HTTP.
        tls: TlsFile, optional, inside;
        /// https: every request is answered with a redirect to the HTTPS listener.
        redirect: RedirectWord, optional, live;
        /// Webroot of an ACME client such as certbot: /.well-known/acme-challenge/ is answered from the folder of that
        /// name in it, before any redirect. Only without `tls`.
        acme_challenge: FilePath, optional, live;
        /// A pool of TCP nodes: every connection goes to one of them as it is, byte for byte.
        tcp: PoolRef, optional, live;
        /// Names whose TLS does not end here, by SNI: every byte goes to a pool of TCP nodes. "*.example.com" is one label.
        passthrough: Names<SniName, PoolRef>, optional, live;
        /// Tells TURN from HTTP by the first bytes inside TLS, on every name.
        turn: Flag, default(Flag(false)), live;
        /// Peers that say in a PROXY header, version 1 or 2, who their client is.
        proxy_protocol: ProxyProtocolFile, optional, inside;
        /// Deadlines of what clients send.
        timeouts: ListenerTimeouts, nested, inside;
        /// Sizes of what clients send.
        limits: ListenerLimitsFile, nested, inside;
    }
}

record! {
    /// Certificates of a listener.
    TlsCertificates {
        /// Certificates, chosen by SNI; the first one answers when no name matches.
        certificates: List<CertificateFile>, required, live;
        /// What a client gets whose name no certificate has, or that names none: default (the first certificate), or
        /// refuse (the alert unrecognized_name).
        unknown_name: UnknownNameWord, default(UnknownNameWord::Default), live;
        /// Versions and suites, by Mozilla's guideline 5.7: intermediate (TLS 1.2 and 1.3), or modern (TLS 1.3 only).
        profile: ProfileWord, default(ProfileWord::Intermediate), live;
        /// Session tickets, with which clients come back without a full handshake.
        tickets: TicketsFile, nested, inside;
    }
}

record! {
    /// Session tickets of a listener.
    TicketsFile {
        /// Keys shared by several edges, one a line: 64 hexadecimal digits. The first encrypts, all decrypt. Read again
        /// when the file changes. Without it they are drawn at start and exchanged every `rotate`.
        keys: SecretRef, optional, live;
        /// Lifetime of a ticket.
        rotate: Time<60_000, 604_800>, default(Time::secs(43_200)), live;
    }
}

record! {
    /// A PEM chain and its key. Paths are relative to the folder of this file.
    CertificateFile {
        /// Chain, leaf first.
        cert: FilePath, required, live;
        /// PKCS#8, PKCS#1 or SEC1 key of the leaf, not encrypted.
        key: FilePath, required, live;
    }
}

record! {
    /// Peers that say in a PROXY header who their client is.
    ProxyProtocolFile {
        /// Their networks. Each of their connections must begin with the header; from others none is read.
        from: List<Network>, required, live;
    }
}

record! {
    /// Deadlines of what clients send before their site is known.
    ListenerTimeouts {
        /// From accept to the whole ClientHello, and from there to the end of the handshake.
        handshake: Time<100, 3600>, default(Time::secs(5)), live;
        /// From the first byte of a request head to its end.
        head: Time<100, 3600>, default(Time::secs(10)), live;
        /// A keep-alive connection without a request is closed after this.
        idle: Time<100, 86_400>, default(Time::secs(75)), live;
    }
}

record! {
    /// Sizes of what clients send before their site is known.
    ListenerLimitsFile {
        /// Largest request head; a longer one gets 431.
        head: Size<4096, 1_048_576>, default(Size(128 << 10)), live;
        /// HTTP/2: requests that a connection may have under way; a further one is refused. For new connections.
        streams: Count<1, 1000>, default(Count(100)), live;
        /// HTTP/2: streams that a connection may have reset at once, and half as many again each second; beyond it, it
        /// is ended. Budgets for other frames without use scale with it. For new connections.
        resets: Count<10, 100_000>, default(Count(100)), live;
    }
}

/// `self-signed` or certificates.
#[derive(Clone, Debug)]
pub(in crate::config) enum TlsFile {
    SelfSigned,
    Certificates(TlsCertificates),
}

impl Read for TlsFile {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match word(node) {
            Some("self-signed") => Some(Self::SelfSigned),
            Some(other) => {
                let message = format!("{}: {} is not a way to end TLS", reader.path(), quote(other));
                reader.fault(
                    node.at,
                    message,
                    "`self-signed`, or `{ certificates: [ { cert: ..., key: ... } ] }`",
                );
                None
            }
            None => TlsCertificates::read(node, reader).map(Self::Certificates),
        }
    }
}

either!(TlsFile, |g| [json_schema!({ "const": "self-signed" }), g.subschema_for::<TlsCertificates>()]);
