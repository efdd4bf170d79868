//! Words of the access log.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::value;
use crate::config::fault::known;
use crate::config::read::{Read, Reader};
use crate::config::tree::{Kind, Node};

words! {
    /// How a line of the access log is written.
    LogFormatWord, "a format" { "json" => Json, "combined" => Combined }
}
words! {
    /// How a client's address stands in the access log.
    LogIpWord, "a way to write an address" { "full" => Full, "truncated" => Truncated, "hashed" => Hashed }
}
