//! Presets: what `app` stands for, written as a site of a file would be.
//!
//! Pure. A preset is read like a file and merged record by record, so that nothing a preset does is out of an
//! operator's reach: `config show --effective` prints its routes as plain ones.

use super::fault::Collector;
use super::file::SiteFile;
use super::read::{Read as _, Reader};
use super::tree;
use super::values::AppWord;

/// Returns the site that a preset stands for; its `pool` is without meaning.
pub(super) fn site_of(app: AppWord) -> Option<SiteFile> {
    let text = match app {
        AppWord::Jitsi => include_str!("presets/jitsi.yaml"),
        AppWord::Livekit => include_str!("presets/livekit.yaml"),
        AppWord::Janus => include_str!("presets/janus.yaml"),
        AppWord::Galene => include_str!("presets/galene.yaml"),
        AppWord::Conference => return None,
    };
    let mut faults = Collector::default();
    let root = tree::parse(text, &mut faults)?;
    SiteFile::read(&root, &mut Reader::new(faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_no_fault() {
        for word in AppWord::WORDS {
            let app = AppWord::find(word).unwrap();
            if app == AppWord::Conference {
                continue;
            }
            assert!(site_of(app).is_some(), "{word}");
            let text = format!(
                "version: 1\nlisteners: {{ http: {{ bind: [\"127.0.0.1:0\"] }} }}\n\
                 sites: {{ s: {{ app: {word}, pool: p }} }}\n\
                 pools: {{ p: {{ nodes: {{ n: \"http://127.0.0.1:1\" }} }} }}\n"
            );
            let loaded = crate::config::load_str("f.yaml", &text, std::path::Path::new(""), None);
            let loaded = loaded.unwrap_or_else(|faults| panic!("{word}: {faults}"));
            // Without `app`, the printed text is the same site.
            let again = crate::config::load_str("f.yaml", &loaded.effective, std::path::Path::new(""), None);
            let again = again.unwrap_or_else(|faults| panic!("{word}: {faults}\n{}", loaded.effective));
            assert_eq!(again.settings, loaded.settings, "{}", loaded.effective);
            assert!(!loaded.effective.contains("app:"), "{}", loaded.effective);
        }
    }

    #[test]
    fn the_edges_of_the_documentation_load() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tls")).unwrap();
        let pair = rcgen::generate_simple_self_signed(["meet.example.com".to_owned()]).unwrap();
        std::fs::write(dir.path().join("tls/cert.pem"), pair.cert.pem()).unwrap();
        std::fs::write(dir.path().join("tls/key.pem"), pair.signing_key.serialize_pem()).unwrap();
        for (text, site, routes) in [
            (include_str!("../../conf/jitsi.yaml"), "meet.example.com", 15),
            (include_str!("../../conf/janus.yaml"), "janus.example.com", 5),
            (include_str!("../../conf/livekit.yaml"), "livekit.example.com", 4),
            (include_str!("../../conf/galene.yaml"), "galene.example.com", 4),
        ] {
            let loaded = crate::config::load_str("f.yaml", text, dir.path(), None);
            let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(loaded.warnings, vec![], "{site}");
            assert!(text.lines().filter(|line| !line.starts_with('#')).count() <= 20, "{site}");
            let site = loaded.settings.sites.find(site).unwrap();
            assert!(site.routes.len() >= routes, "{}", loaded.effective);
        }
    }
}
