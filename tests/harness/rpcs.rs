//! Every rpc of the contract, called with any bytes by somebody who does not know what it is about.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use genesis_proto::prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value,
};
use genesis_proto::{MethodPolicy, method_policies, pool};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::random::Random;

/// A stream that goes on is left after so long.
const FLOWS: Duration = Duration::from_millis(100);
/// Messages within messages are filled so deep.
const DEPTH: u32 = 3;
/// More than any answer has, in bytes.
const ANSWER: usize = 16 << 20;
/// What texts are: names that exist, spans, and what no name is.
const TEXTS: [&str; 12] = [
    "a",
    "storage.compact",
    "mm",
    "1h",
    "2026-01-01..2026-01-02",
    "TEST_1",
    "-1",
    "18446744073709551616",
    "../../etc/passwd",
    "a\u{0}b",
    "\u{1f4c9} \u{202e}",
    "",
];

/// Hands messages on as the bytes that they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = from.remaining();
        Ok(Some(from.copy_to_bytes(length)))
    }
}

/// An rpc of the contract.
#[derive(Debug, Clone)]
pub struct Rpc {
    /// Such as "/genesis.v1.LogsService/RotateLogs".
    pub path: String,
    /// What it demands, and whether its messages flow.
    pub policy: MethodPolicy,
    input: MessageDescriptor,
}

/// All of them, by path.
///
/// # Panics
/// When one has no descriptor.
pub fn all() -> Vec<Rpc> {
    let policies = method_policies().into_iter();
    policies.map(|(path, policy)| Rpc { input: input(&path), path, policy }).collect()
}

/// One of them.
///
/// # Panics
/// When there is none of that name.
pub fn named(path: &str) -> Rpc {
    let found = all().into_iter().find(|rpc| rpc.path == path);
    found.unwrap_or_else(|| panic!("there is no rpc {path}"))
}

fn input(path: &str) -> MessageDescriptor {
    let (service, rpc) = path.trim_start_matches('/').split_once('/').expect("a path");
    let service = pool().get_service_by_name(service).expect("a service of the contract");
    let method = service.methods().find(|method| method.name() == rpc);
    method.expect("an rpc of the contract").input()
}

impl Rpc {
    /// A request in which a part of the fields has values that may be good for something.
    pub fn filled(&self, random: &mut Random) -> Bytes {
        filled(&self.input, random, DEPTH).encode_to_vec().into()
    }

    /// Calls it with one message, which may be none; how many bytes were answered. A stream is read until it ends, or for a
    /// moment.
    ///
    /// # Errors
    /// What it answers.
    ///
    /// # Panics
    /// When its path is none.
    pub async fn call(
        &self,
        channel: &Channel,
        message: Bytes,
        limit: Duration,
    ) -> Result<usize, Status> {
        let mut client = Grpc::new(channel.clone()).max_decoding_message_size(ANSWER);
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(tokio_stream::once(message));
        request.set_timeout(limit);
        let reason = MetadataValue::from_static("a test calls every rpc");
        request.metadata_mut().insert("genesis-reason", reason);
        let path = PathAndQuery::try_from(self.path.as_str()).expect("a path");
        let mut answers = client.streaming(request, path, Raw).await?.into_inner();
        let mut bytes = 0;
        let reading = async {
            while let Some(answer) = answers.message().await? {
                bytes += answer.len();
            }
            Ok::<_, Status>(())
        };
        if !self.policy.streaming {
            reading.await?;
        } else if let Ok(ended) = tokio::time::timeout(FLOWS, reading).await {
            ended?;
        }
        Ok(bytes)
    }
}

/// Bytes that are, most often, no message.
pub fn noise(random: &mut Random) -> Bytes {
    let length = random.within(1, 200);
    (0..length).map(|_| random.next().to_le_bytes()[0]).collect()
}

fn filled(of: &MessageDescriptor, random: &mut Random, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        // Maps are few, and filled by nobody but the agent.
        if field.is_map() || random.within(0, 4) == 0 {
            continue;
        }
        if field.is_list() {
            let values = (0..random.within(0, 4)).filter_map(|_| value(&field, random, depth));
            let values = values.collect();
            message.set_field(&field, Value::List(values));
        } else if let Some(value) = value(&field, random, depth) {
            message.set_field(&field, value);
        }
    }
    message
}

fn value(field: &FieldDescriptor, random: &mut Random, depth: u32) -> Option<Value> {
    let number = [0, 1, 7, random.next()][random.within(0, 4) as usize];
    let float = [0.0, -1.5, f64::NAN, f64::MAX][random.within(0, 4) as usize];
    Some(match field.kind() {
        Kind::Double => Value::F64(float),
        Kind::Float => Value::F32(float as f32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
        Kind::Bool => Value::Bool(number.is_multiple_of(2)),
        Kind::String => {
            let text = TEXTS[random.within(0, TEXTS.len() as u64) as usize];
            Value::String(text.to_owned())
        }
        Kind::Bytes => Value::Bytes(noise(random)),
        Kind::Enum(of) => {
            let known: Vec<i32> = of.values().map(|value| value.number()).collect();
            let known = known[random.within(0, known.len() as u64) as usize];
            Value::EnumNumber(if random.within(0, 8) == 0 { 1_000 } else { known })
        }
        Kind::Message(_) if depth == 0 => return None,
        Kind::Message(of) => Value::Message(filled(&of, random, depth - 1)),
    })
}
