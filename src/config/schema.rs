//! The JSON schema of the file, for editors and for tests.
//!
//! Pure. Made from the record tables in `file`, so that it cannot tell anything else than the reader does.

use super::file::File;

/// Returns the schema as JSON text that ends with a line break; the same bytes every time.
pub fn schema() -> String {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<File>();
    schema.insert("title".to_owned(), "Roomgate configuration".into());
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
