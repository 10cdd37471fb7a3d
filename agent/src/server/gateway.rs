//! Rpcs called from within, for HTTP: through the same gate, with the role of whoever asks.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use genesis_proto::pool;
use genesis_proto::prost_reflect::{
    Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions,
};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use serde_json::{Map, Value};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt};

use super::MESSAGE_LIMIT;
use super::connection::Peer;
use super::layers::{Gate, GateLayer};
use super::routes::Route;
use super::status::to_status;
use super::traced::{TRACE_ID, TRACEPARENT};
use crate::error::Error;

/// The bytes of framing before a message.
const FRAME: usize = 5;

/// Who asks, and for which trace.
#[derive(Clone)]
pub(super) struct Asked {
    /// The connection that it comes from.
    pub(super) peer: Peer,
    /// The `traceparent`; `None`: the call begins one.
    pub(super) trace: Option<HeaderValue>,
}

/// What was answered.
pub(super) struct Answer {
    /// As JSON.
    pub(super) text: Vec<u8>,
    /// The trace that it belongs to.
    pub(super) trace: Option<HeaderValue>,
}

/// Calls rpcs of this agent.
#[derive(Clone)]
pub(super) struct Gateway(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl Gateway {
    /// Over the services that gRPC serves, behind the gate that it has.
    pub(super) fn new(gate: Arc<Gate>, routes: Routes) -> Self {
        Self(BoxCloneSyncService::new(GateLayer(gate).layer(routes)))
    }

    /// The answer to a message, both typed.
    ///
    /// # Errors
    /// What the rpc answers.
    #[allow(clippy::result_large_err)] // Status is what every rpc returns.
    pub(super) async fn call<A: Message, B: Message + Default>(
        &self,
        method: &str,
        request: &A,
        asked: &Asked,
    ) -> Result<B, Status> {
        let answer = self.bytes(method, &request.encode_to_vec(), asked).await?.0;
        B::decode(answer).map_err(|error| Status::internal(error.to_string()))
    }

    /// The answer of `route` as canonical JSON; `query` has fields of its request.
    ///
    /// # Errors
    /// What the rpc answers; `QUERY_INVALID`.
    #[allow(clippy::result_large_err)] // As above.
    pub(super) async fn json(
        &self,
        route: &Route,
        query: &[(String, String)],
        asked: &Asked,
    ) -> Result<Answer, Status> {
        let (input, output) = messages(route).ok_or_else(|| Status::internal("no such rpc"))?;
        let message = request(&input, query).map_err(to_status)?;
        let (answer, trace) = self.bytes(&route.method(), &message.encode_to_vec(), asked).await?;
        let answer = DynamicMessage::decode(output, answer)
            .map_err(|error| Status::internal(error.to_string()))?;
        let mut text = Vec::new();
        let options = SerializeOptions::new().skip_default_fields(false);
        answer
            .serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
            .map_err(|error| Status::internal(format!("the answer has no JSON form: {error}")))?;
        Ok(Answer { text, trace })
    }

    #[allow(clippy::result_large_err)] // As above.
    async fn bytes(
        &self,
        method: &str,
        message: &[u8],
        asked: &Asked,
    ) -> Result<(Bytes, Option<HeaderValue>), Status> {
        let mut framed = BytesMut::with_capacity(FRAME + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).map_err(|_| Status::out_of_range("too long"))?);
        framed.put_slice(message);
        let mut request = Request::post(method)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Body::new(Full::new(framed.freeze())))
            .map_err(|error| Status::internal(error.to_string()))?;
        request.extensions_mut().insert(asked.peer.clone());
        if let Some(parent) = &asked.trace {
            request.headers_mut().insert(TRACEPARENT, parent.clone());
        }
        let response = match self.0.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        ended(response.headers())?;
        let trace = response.headers().get(TRACE_ID).cloned();
        let body = Limited::new(response.into_body(), MESSAGE_LIMIT + FRAME);
        let body = body.collect().await.map_err(|error| Status::internal(error.to_string()))?;
        ended(body.trailers().unwrap_or(&http::HeaderMap::new()))?;
        let mut bytes = body.to_bytes();
        if bytes.len() < FRAME || bytes.first() != Some(&0) {
            return Err(Status::internal("an answer without its message"));
        }
        Ok((bytes.split_off(FRAME), trace))
    }
}

/// What headers or trailers say of how the call ended, if they do.
#[allow(clippy::result_large_err)] // As above.
fn ended(headers: &http::HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        // The request was small.
        Some(status) if status.code() == Code::OutOfRange => Err(to_status(Error::invalid(
            "ANSWER_TOO_LARGE",
            format!("the answer has more than {MESSAGE_LIMIT} bytes; ask for fewer, by its limit"),
        ))),
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

/// The request and the answer of a route's rpc.
pub(super) fn messages(route: &Route) -> Option<(MessageDescriptor, MessageDescriptor)> {
    let service = pool().get_service_by_name(&format!("genesis.v1.{}", route.service))?;
    let method = service.methods().find(|method| method.name() == route.rpc)?;
    Some((method.input(), method.output()))
}

/// Fields of a request that a query can have: single values that have a text.
pub(super) fn parameters(input: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    let simple = |field: &FieldDescriptor| {
        let texts = ["google.protobuf.Timestamp", "google.protobuf.Duration"];
        let known = match field.kind() {
            Kind::Message(message) => texts.contains(&message.full_name()),
            Kind::Bytes => false,
            _ => true,
        };
        known && field.cardinality() != Cardinality::Repeated
    };
    input.fields().filter(simple).collect::<Vec<_>>().into_iter()
}

/// The request that a query means.
pub(super) fn request(
    input: &MessageDescriptor,
    query: &[(String, String)],
) -> Result<DynamicMessage, Error> {
    let invalid = |message: String| Error::invalid("QUERY_INVALID", message);
    let mut json = Map::new();
    for (name, value) in query {
        let Some(field) = parameters(input).find(|field| field.name() == name) else {
            let known: Vec<_> = parameters(input).map(|field| field.name().to_owned()).collect();
            let known = match known.is_empty() {
                true => "it takes none".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            return Err(invalid(format!("no parameter {name:?}; {known}")));
        };
        let read = match field.kind() {
            Kind::Bool => value.parse().map(Value::Bool).ok(),
            Kind::Double | Kind::Float => match value.parse::<f64>() {
                Ok(number) if number.is_nan() => Some("NaN".into()),
                Ok(number) if number.is_infinite() && number > 0.0 => Some("Infinity".into()),
                Ok(number) if number.is_infinite() => Some("-Infinity".into()),
                number => number.ok().map(Value::from),
            },
            // Their JSON takes numbers as text.
            _ => Some(Value::String(value.clone())),
        };
        let read =
            read.ok_or_else(|| invalid(format!("{name}={value:?} is no {:?}", field.kind())))?;
        if json.insert(name.clone(), read).is_some() {
            return Err(invalid(format!("{name} is given twice")));
        }
    }
    DynamicMessage::deserialize(input.clone(), Value::Object(json))
        .map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::routes::find;

    fn read(path: &str, query: &[(&str, &str)]) -> Result<String, String> {
        let input = messages(find(path).unwrap()).unwrap().0;
        let query: Vec<_> =
            query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let message = request(&input, &query).map_err(|error| error.message)?;
        Ok(serde_json::to_string(&message).unwrap())
    }

    #[test]
    fn a_query_is_the_request_it_spells() {
        for (path, query, expected) in [
            ("agent/status", &[][..], "{}"),
            ("oplog/entries", &[("limit", "7"), ("actor", "a b")], r#"{"limit":7,"actor":"a b"}"#),
            ("oplog/entries", &[("before", "12345678901")], r#"{"before":"12345678901"}"#),
            ("alerts/list", &[("all", "true")], r#"{"all":true}"#),
            ("runs/status", &[("state", "RUN_STATE_FAILED")], r#"{"state":"RUN_STATE_FAILED"}"#),
            (
                "baselines/calls",
                &[("above_seconds", "0.5"), ("last", "90s")],
                r#"{"aboveSeconds":0.5,"last":"90s"}"#,
            ),
            ("baselines/calls", &[("above_seconds", "inf")], r#"{"aboveSeconds":"Infinity"}"#),
            (
                "schedule/status",
                &[("at", "2026-01-02T03:04:05Z")],
                r#"{"at":"2026-01-02T03:04:05Z"}"#,
            ),
        ] {
            assert_eq!(read(path, query).unwrap(), expected, "{path} {query:?}");
        }
    }

    #[test]
    fn what_it_can_not_mean_is_said() {
        for (path, query, said) in [
            ("agent/status", &[("x", "1")][..], "no parameter \"x\"; it takes none"),
            ("oplog/entries", &[("limits", "1")], "there are: limit, before, actor, action"),
            ("oplog/entries", &[("limit", "many")], "invalid digit"),
            ("oplog/entries", &[("limit", "-1")], "invalid digit"),
            ("oplog/entries", &[("limit", "1"), ("limit", "2")], "limit is given twice"),
            ("alerts/list", &[("all", "yes")], "all=\"yes\""),
            ("runs/status", &[("state", "RUN_STATE_ODD")], "RUN_STATE_ODD"),
            ("schedule/status", &[("at", "yesterday")], "invalid rfc3339"),
        ] {
            let error = read(path, query).unwrap_err();
            assert!(error.contains(said), "{path} {query:?}: {error}");
        }
    }
}
