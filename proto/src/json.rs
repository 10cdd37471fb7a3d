//! Canonical protobuf JSON of any message of the contract.

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};

use crate::descriptors::trading_pool;
use crate::pool;

/// Why a message could not be turned into JSON.
#[derive(Debug)]
pub enum JsonError {
    /// No message of this name is part of the contract.
    UnknownMessage(String),
    /// The bytes are not such a message.
    Decode(prost::DecodeError),
    /// A value that JSON can't hold, such as a time outside the years 1 to 9999.
    Encode(String),
    /// A text that is not such a message's JSON.
    Read(String),
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownMessage(name) => write!(f, "no message named {name} in the contract"),
            Self::Decode(_) => f.write_str("can't decode the message for its JSON form"),
            Self::Encode(what) => write!(f, "can't write the message as JSON: {what}"),
            Self::Read(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for JsonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decode(source) => Some(source),
            _ => None,
        }
    }
}

/// The canonical JSON of `message`: lowerCamelCase names, 64-bit integers as strings, defaults
/// included, enums by name, times as RFC 3339.
///
/// `name` is the full name, such as `genesis.v1.GetStatusResponse`.
///
/// # Errors
/// When the name is unknown, or a value has no JSON form.
pub fn to_json<M: Message>(name: &str, message: &M) -> Result<serde_json::Value, JsonError> {
    let descriptor = descriptor(name)?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(JsonError::Decode)?;
    let options = SerializeOptions::new().skip_default_fields(false);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| JsonError::Encode(error.to_string()))
}

/// The message that `json` is the canonical JSON of. Fields that the message does not have are an error.
///
/// # Errors
/// When the name is unknown, or the text is anything else.
pub fn from_json<M: Message + Default>(name: &str, json: &[u8]) -> Result<M, JsonError> {
    let descriptor = descriptor(name)?;
    let read = |error: serde_json::Error| JsonError::Read(error.to_string());
    let mut text = serde_json::Deserializer::from_slice(json);
    let dynamic = DynamicMessage::deserialize(descriptor, &mut text).map_err(read)?;
    text.end().map_err(read)?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(JsonError::Decode)
}

fn descriptor(name: &str) -> Result<MessageDescriptor, JsonError> {
    let found = pool().get_message_by_name(name);
    let found = found.or_else(|| trading_pool().get_message_by_name(name));
    found.ok_or_else(|| JsonError::UnknownMessage(name.into()))
}
