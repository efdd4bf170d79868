//! Yes or no.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::config::read::{Read, Reader};
use crate::config::tree::{Node, ScalarType};

/// `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(in crate::config) struct Flag(pub(in crate::config) bool);

impl Read for Flag {
    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let expected = "true or false";
        let scalar = reader.scalar(node, expected)?;
        if scalar.scalar_type() == ScalarType::Bool {
            return Some(Self(scalar.text.eq_ignore_ascii_case("true")));
        }
        // YAML 1.1 knew more words; a file that has them means them.
        let cure = match scalar.text.to_ascii_lowercase().as_str() {
            "yes" | "on" => "write true",
            "no" | "off" => "write false",
            _ => "true or false",
        };
        reader.wrong(node, expected, cure);
        None
    }
}

impl JsonSchema for Flag {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}
