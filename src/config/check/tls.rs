//! TLS: certificates and their keys, ticket keys, ACME's folder, client certificates.

use std::path::PathBuf;

use super::Check;
use crate::clock;
use crate::config::file::{
    CertificateFile, ClientCertificateFile, ListenerFile, SecretRef, TicketsFile, TlsFile,
};
use crate::config::read::{At, Given};
use crate::config::secrets;
use crate::config::settings::{
    CertificateFiles, CertificateSettings, ClientCertificateMode, ClientCertificateSettings, Name,
    TicketKeys, TicketSettings, TlsProfile, TlsSettings, UnknownName,
};
use crate::config::values::{ClientModeWord, ProfileWord, UnknownNameWord};

impl Check<'_> {
    pub(super) fn tls(&mut self, path: &str, tls: &TlsFile) -> Option<TlsSettings> {
        let file = match tls {
            TlsFile::SelfSigned => return Some(TlsSettings::SelfSigned),
            TlsFile::Certificates(file) => file,
        };
        let tickets = self.tickets(&format!("{path}.tls.tickets"), &file.tickets);
        let (at, list) = file.certificates.full()?;
        if list.value.is_empty() {
            self.fault(
                at,
                format!("{path}.tls.certificates: no certificate"),
                "add one, or say `tls: self-signed`",
            );
        }
        if let Some(first_too_many) = list.value.items.get(CERTIFICATES_MAX) {
            let message = format!("{path}.tls.certificates: more than {CERTIFICATES_MAX} certificates");
            self.fault(first_too_many.at, message, "one certificate can hold many names, or a wildcard");
        }
        let mut files = Vec::new();
        for (i, certificate) in list.value.items.iter().enumerate().take(CERTIFICATES_MAX) {
            let path = format!("{path}.tls.certificates.{i}");
            files.extend(self.certificate(&path, &certificate.value));
        }
        let unknown_name = match file.unknown_name.value {
            UnknownNameWord::Default => UnknownName::Default,
            UnknownNameWord::Refuse => UnknownName::Refuse,
        };
        let profile = match file.profile.value {
            ProfileWord::Intermediate => TlsProfile::Intermediate,
            ProfileWord::Modern => TlsProfile::Modern,
        };
        Some(TlsSettings::Certificates(CertificateSettings { files, unknown_name, profile, tickets }))
    }

    fn certificate(&mut self, path: &str, files: &CertificateFile) -> Option<CertificateFiles> {
        let chain = files.cert.full().and_then(|(_, cert)| {
            let at = secrets::resolve(self.base, &cert.value.0);
            let chain = self.taken(cert.at, &format!("{path}.cert"), secrets::read_chain(&at))?;
            Some((cert.at, at, chain))
        });
        let key = files.key.full().and_then(|(_, key)| {
            let at = secrets::resolve(self.base, &key.value.0);
            self.taken(key.at, &format!("{path}.key"), secrets::read_key(&at)).map(|pem| (key.at, at, pem))
        });
        let ((cert_at, cert, chain), (key_at, key, pem)) = (chain?, key?);
        let expires = chain.first().and_then(|leaf| secrets::not_after(leaf));
        self.taken(key_at, &format!("{path}.key"), secrets::check_pair(chain, pem))?;
        let now = clock::wall().as_secs();
        if let Some(left) = expires.map(|expires| expires.saturating_sub(now))
            && left < EXPIRY_WARNING_DAYS * 86_400
        {
            let when = if left == 0 {
                "has expired".to_owned()
            } else {
                format!("expires in {} days", left / 86_400)
            };
            let message = format!("{path}.cert: {} {when}", cert.display());
            self.faults.warn(cert_at, message, "renew it; a new file is taken over without a reload");
        }
        Some(CertificateFiles { cert, key })
    }

    fn tickets(&mut self, path: &str, file: &TicketsFile) -> TicketSettings {
        let keys = file.keys.full().and_then(|(_, reference)| self.ticket_keys(path, reference));
        TicketSettings { keys, rotate: file.rotate.value.0 }
    }

    fn ticket_keys(&mut self, path: &str, reference: &At<SecretRef>) -> Option<TicketKeys> {
        let path = format!("{path}.keys");
        let secret = self.taken(reference.at, &path, secrets::read(&reference.value, self.base))?;
        let file = match &reference.value {
            SecretRef::File(file) => Some(secrets::resolve(self.base, file)),
            SecretRef::Env(_) => None,
        };
        let keys = TicketKeys::parse(secret.reference().into(), file, secret.expose()).map_err(|wrong| {
            let cure = "one key a line, as from `openssl rand -hex 32`";
            (format!("{}: {wrong}", secret.reference()), cure.to_owned())
        });
        self.taken(reference.at, &path, keys)
    }

    pub(super) fn acme_challenge(&mut self, path: &str, listener: &ListenerFile) -> Option<PathBuf> {
        let (key_at, folder) = listener.acme_challenge.full()?;
        if !listener.tls.is_missing() {
            let message = format!(
                "{path}.acme_challenge: an authority asks over plain HTTP, and this listener has `tls`"
            );
            self.fault(key_at, message, "move it to the listener on port 80");
        }
        let at = secrets::resolve(self.base, &folder.value.0);
        if !at.is_dir() {
            let message = format!("{path}.acme_challenge: {} is not a folder", at.display());
            let cure =
                format!("mkdir -p {}; it is what `certbot certonly --webroot -w` is given", at.display());
            self.fault(folder.at, message, cure);
        }
        Some(at)
    }

    pub(super) fn client_certificate(
        &mut self,
        path: &str,
        file: &Given<ClientCertificateFile>,
    ) -> Option<ClientCertificateSettings> {
        let (key_at, file) = file.full()?;
        let path = format!("{path}.client_certificate");
        if self.listener_files().all(|(_, _, listener)| listener.value.tls.is_missing()) {
            let message = format!("{path}: no listener has `tls`, so no client can show a certificate");
            self.fault(key_at, message, "add `tls` to a listener, or remove `client_certificate`");
        }
        let file = &file.value;
        let header = file.header.full().map(|(_, header)| {
            let name: Name = header.value.0.to_ascii_lowercase().into();
            if RESERVED.contains(&&*name) {
                let message = format!("{path}.header: {name} has a meaning of its own");
                self.fault(header.at, message, "a name that nothing else uses, such as X-Client-Subject");
            }
            name
        });
        let (_, ca) = file.ca.full()?;
        let at = secrets::resolve(self.base, &ca.value.0);
        self.taken(ca.at, &format!("{path}.ca"), secrets::read_authorities(&at))?;
        let mode = match file.mode.value {
            ClientModeWord::Required => ClientCertificateMode::Required,
            ClientModeWord::Optional => ClientCertificateMode::Optional,
        };
        Some(ClientCertificateSettings { ca: at, mode, header })
    }
}

/// Certificates of one listener.
const CERTIFICATES_MAX: usize = 1000;
/// Days before its end from which on a certificate is warned of.
const EXPIRY_WARNING_DAYS: u64 = 30;
/// Headers that HTTP or this edge gives a meaning.
const RESERVED: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "sec-websocket-key",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];
