//! The pages of JSON as OpenAPI describes them, made of the contract's descriptors.

use std::collections::BTreeMap;

use genesis_proto::prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::gateway::{messages, parameters};
use super::routes::{ROUTES, Route};

/// The document, of OpenAPI 3.1.
pub(super) fn document() -> Value {
    let mut schemas = BTreeMap::new();
    let mut paths = Map::new();
    for route in ROUTES {
        if let Some((input, output)) = messages(route) {
            let answer = reference(&output, &mut schemas);
            let path = format!("/api/operations/{}", route.path);
            paths.insert(path, json!({ "get": operation(route, &input, &answer) }));
        }
    }
    paths.extend(others());
    schemas.insert("Error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "GENESIS agent",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What an agent shows over HTTP. Nothing here changes anything. Answers are canonical \
                protobuf JSON: 64-bit integers are strings, times are RFC 3339, enums are names.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(route: &Route, input: &MessageDescriptor, answer: &Value) -> Value {
    let (domain, what) = route.path.split_once('/').unwrap_or((route.path, ""));
    let parameter = |field: FieldDescriptor| json!({ "name": field.name(), "in": "query", "required": false, "schema": parameter(&field) });
    json!({
        "operationId": format!("{domain}_{what}"),
        "tags": [domain],
        "summary": route.about,
        "description": format!("The answer of genesis.v1.{}/{}.", route.service, route.rpc),
        "parameters": parameters(input).map(parameter).collect::<Vec<_>>(),
        "responses": {
            "200": content("The answer", "application/json", answer),
            "default": content("What went wrong", "application/json", &json!({ "$ref": "#/components/schemas/Error" })),
        },
    })
}

fn content(about: &str, kind: &str, schema: &Value) -> Value {
    json!({ "description": about, "content": { kind: { "schema": schema } } })
}

/// What is not JSON of an rpc.
fn others() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let get = |id: &str, about: &str, kind: &str, schema: &Value| {
        let answer = content("The answer", kind, schema);
        let failed = content(
            "What went wrong",
            "application/json",
            &json!({ "$ref": "#/components/schemas/Error" }),
        );
        let responses = json!({ "200": answer, "default": failed });
        json!({ "get": { "operationId": id, "summary": about, "responses": responses } })
    };
    let mut events = get(
        "events",
        "What changes, as it changes: an event named as what is followed, with its JSON, at once and whenever it has \
         changed; an event named error where it can't be had",
        "text/event-stream",
        &text,
    );
    events["get"]["parameters"] = json!([{
        "name": "follow",
        "in": "query",
        "required": true,
        "description": "A path below /api/operations/ with its query, such as health/status",
        "schema": {
            "type": "array",
            "items": { "type": "string" },
            "minItems": 1,
            "maxItems": super::events::FOLLOWED,
        },
        "explode": true,
    }]);
    let page = get("page", "The page for people", "text/html", &text);
    let overview = get("overview", "The page's first view alone", "text/html", &text);
    let metrics = get(
        "metrics",
        "Metrics, as Prometheus or OpenMetrics text, or as protobuf",
        "text/plain",
        &text,
    );
    let own = get("openapi", "This document", "application/json", &json!({ "type": "object" }));
    let all = [
        ("/", page),
        ("/overview", overview),
        ("/metrics", metrics),
        ("/api/events", events),
        ("/api/openapi.json", own),
    ];
    all.into_iter().map(|(path, item)| (path.to_owned(), item)).collect()
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "reason", "message"],
            "properties": {
                "code": { "type": "string", "description": "The gRPC status" },
                "reason": { "type": "string", "description": "One of the codes of docs/errors.md, or empty" },
                "message": { "type": "string" },
                "traceId": { "type": "string", "description": "The trace of the call, 32 hex digits" },
            },
        } },
    })
}

/// A reference to a message's schema, which is made where it is new, with those that it needs.
fn reference(message: &MessageDescriptor, schemas: &mut BTreeMap<String, Value>) -> Value {
    let name = message.full_name().strip_prefix("genesis.v1.").unwrap_or(message.full_name());
    let pointer = json!({ "$ref": format!("#/components/schemas/{name}") });
    if schemas.contains_key(name) {
        return pointer;
    }
    // Put there before its fields, which may be of the same kind.
    schemas.insert(name.to_owned(), Value::Null);
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in message.fields() {
        properties.insert(field.json_name().to_owned(), field_schema(&field, schemas));
        // One that can be unset is left out then.
        if !field.supports_presence() {
            required.push(field.json_name().to_owned());
        }
    }
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    schemas.insert(name.to_owned(), schema);
    pointer
}

fn field_schema(field: &FieldDescriptor, schemas: &mut BTreeMap<String, Value>) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return json!({}) };
        let values = entry.map_entry_value_field();
        return json!({ "type": "object", "additionalProperties": one(&values.kind(), schemas) });
    }
    let schema = one(&field.kind(), schemas);
    match field.cardinality() {
        Cardinality::Repeated => json!({ "type": "array", "items": schema }),
        _ => schema,
    }
}

fn one(kind: &Kind, schemas: &mut BTreeMap<String, Value>) -> Value {
    match kind {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
            "google.protobuf.Duration" => duration(),
            _ => reference(message, schemas),
        },
        other => scalar(other),
    }
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$" })
}

fn parameter(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => duration(),
        Kind::Message(_) => json!({ "type": "string", "format": "date-time" }),
        kind => scalar(&kind),
    }
}

fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Double | Kind::Float => {
            let odd = json!({ "type": "string", "enum": ["NaN", "Infinity", "-Infinity"] });
            json!({ "oneOf": [{ "type": "number" }, odd] })
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({ "type": "integer", "format": "int32" })
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX })
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({ "type": "string", "pattern": "^-?[0-9]+$" })
        }
        Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "pattern": "^[0-9]+$" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Enum(kind) => {
            let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
            json!({ "type": "string", "enum": names })
        }
        Kind::String | Kind::Message(_) => json!({ "type": "string" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        for route in ROUTES {
            let path = &document["paths"][format!("/api/operations/{}", route.path)]["get"];
            assert!(path["responses"]["200"].is_object(), "{}", route.path);
        }
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
