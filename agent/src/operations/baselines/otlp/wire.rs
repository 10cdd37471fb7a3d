//! The messages of OTLP metrics, as far as they matter here, in protobuf and JSON.
//!
//! They are those of `opentelemetry/proto/collector/metrics/v1/metrics_service.proto` and what it imports
//! (github.com/open-telemetry/opentelemetry-proto, v1.9.0). By hand, since the crate `opentelemetry-proto` has the messages
//! of metrics only together with the SDK that records them, and since a field that is not declared, like exemplars and
//! descriptions, is passed over without taking memory.

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

/// More messages within a request are refused: each takes up to some 200 bytes of memory, and as few as two in a request.
pub const MOST_MESSAGES: usize = 200_000;

/// What an exporter sends.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Request {
    /// Metrics, by what they are of.
    #[prost(message, repeated, tag = "1")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

/// Metrics of one resource.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceMetrics {
    /// What they are of.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// The metrics, by what measured them.
    #[prost(message, repeated, tag = "2")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

/// A process, as its attributes say.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resource {
    /// Its attributes.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Metrics of one library.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ScopeMetrics {
    /// What measured them.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
}

/// A library that measures.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A metric.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metric {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its unit, in the letters of UCUM.
    #[prost(string, tag = "3")]
    pub unit: String,
    /// Where its buckets have bounds of their own.
    #[prost(message, optional, tag = "9")]
    pub histogram: Option<Histogram>,
    /// Where its buckets grow by a factor.
    #[prost(message, optional, tag = "10")]
    pub exponential_histogram: Option<ExponentialHistogram>,
}

/// Counts since the point before.
pub const DELTA: i32 = 1;
/// Counts since the start.
pub const CUMULATIVE: i32 = 2;
/// The flag of a point that only says that there is none any more.
pub const NO_RECORDED_VALUE: u32 = 1;

/// Points whose buckets have bounds of their own.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Histogram {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<HistogramDataPoint>,
    /// [`DELTA`] or [`CUMULATIVE`].
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub aggregation_temporality: i32,
}

/// Points whose buckets grow by a factor.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExponentialHistogram {
    /// The points.
    #[prost(message, repeated, tag = "1")]
    pub data_points: Vec<ExponentialHistogramDataPoint>,
    /// [`DELTA`] or [`CUMULATIVE`].
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub aggregation_temporality: i32,
}

/// A point whose buckets have bounds of their own.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HistogramDataPoint {
    /// What it is of.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// When counting began, in nanoseconds since 1970.
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub start_time_unix_nano: u64,
    /// When it was read.
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "number")]
    pub time_unix_nano: u64,
    /// How many values there are.
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "number")]
    pub count: u64,
    /// What they sum up to.
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "perhaps")]
    pub sum: Option<f64>,
    /// How many are in each bucket.
    #[prost(fixed64, repeated, tag = "6")]
    #[serde(deserialize_with = "numbers")]
    pub bucket_counts: Vec<u64>,
    /// Where each bucket but the last ends.
    #[prost(double, repeated, tag = "7")]
    #[serde(deserialize_with = "numbers")]
    pub explicit_bounds: Vec<f64>,
    /// What is special about it.
    #[prost(uint32, tag = "10")]
    #[serde(deserialize_with = "number")]
    pub flags: u32,
    /// The smallest value.
    #[prost(double, optional, tag = "11")]
    #[serde(deserialize_with = "perhaps")]
    pub min: Option<f64>,
    /// The largest value.
    #[prost(double, optional, tag = "12")]
    #[serde(deserialize_with = "perhaps")]
    pub max: Option<f64>,
}

/// A point whose buckets grow by a factor.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExponentialHistogramDataPoint {
    /// What it is of.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
    /// When counting began, in nanoseconds since 1970.
    #[prost(fixed64, tag = "2")]
    #[serde(deserialize_with = "number")]
    pub start_time_unix_nano: u64,
    /// When it was read.
    #[prost(fixed64, tag = "3")]
    #[serde(deserialize_with = "number")]
    pub time_unix_nano: u64,
    /// How many values there are.
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "number")]
    pub count: u64,
    /// What they sum up to.
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "perhaps")]
    pub sum: Option<f64>,
    /// The factor is 2^(2^-scale).
    #[prost(sint32, tag = "6")]
    #[serde(deserialize_with = "number")]
    pub scale: i32,
    /// How many values are zero.
    #[prost(fixed64, tag = "7")]
    #[serde(deserialize_with = "number")]
    pub zero_count: u64,
    /// Values above zero.
    #[prost(message, optional, tag = "8")]
    pub positive: Option<Buckets>,
    /// Values below zero.
    #[prost(message, optional, tag = "9")]
    pub negative: Option<Buckets>,
    /// What is special about it.
    #[prost(uint32, tag = "10")]
    #[serde(deserialize_with = "number")]
    pub flags: u32,
    /// The smallest value.
    #[prost(double, optional, tag = "12")]
    #[serde(deserialize_with = "perhaps")]
    pub min: Option<f64>,
    /// The largest value.
    #[prost(double, optional, tag = "13")]
    #[serde(deserialize_with = "perhaps")]
    pub max: Option<f64>,
    /// What is not above it counts as zero.
    #[prost(double, tag = "14")]
    #[serde(deserialize_with = "number")]
    pub zero_threshold: f64,
}

/// Buckets that grow by a factor.
#[derive(Clone, PartialEq, Eq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Buckets {
    /// The index of the first one.
    #[prost(sint32, tag = "1")]
    #[serde(deserialize_with = "number")]
    pub offset: i32,
    /// How many values are in each.
    #[prost(uint64, repeated, tag = "2")]
    #[serde(deserialize_with = "numbers")]
    pub bucket_counts: Vec<u64>,
}

/// An attribute.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value: one of these, which on the wire is the same as all of them optional.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AnyValue {
    /// A text.
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
    /// Yes or no.
    #[prost(bool, optional, tag = "2")]
    pub bool_value: Option<bool>,
    /// A whole number.
    #[prost(int64, optional, tag = "3")]
    #[serde(deserialize_with = "perhaps")]
    pub int_value: Option<i64>,
    /// A number.
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "perhaps")]
    pub double_value: Option<f64>,
    /// A list, as it is encoded: it only tells series apart.
    #[prost(bytes = "vec", optional, tag = "5")]
    #[serde(deserialize_with = "encoded")]
    pub array_value: Option<Vec<u8>>,
    /// Attributes, as they are encoded.
    #[prost(bytes = "vec", optional, tag = "6")]
    #[serde(deserialize_with = "encoded")]
    pub kvlist_value: Option<Vec<u8>>,
    /// Bytes.
    #[prost(bytes = "vec", optional, tag = "7")]
    #[serde(deserialize_with = "encoded")]
    pub bytes_value: Option<Vec<u8>>,
}

/// What an exporter is answered.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// What was not taken; unset where all was.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What was not taken.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PartialSuccess {
    /// So many points.
    #[prost(int64, tag = "1")]
    pub rejected_data_points: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

impl Request {
    /// The request of these bytes, or what is wrong with them.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, String> {
        let mut left = MOST_MESSAGES;
        if !within(bytes, &REQUEST, &mut left) {
            let many = format!("it has more than {MOST_MESSAGES} messages");
            return Err(if left == 0 { many } else { "it is no message".to_owned() });
        }
        Self::decode(bytes).map_err(|error| error.to_string())
    }

    /// The request of this JSON, or what is wrong with it.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        // A list may stand for an object, with its fields in their order, and so be a message too.
        let opened = text.iter().filter(|byte| matches!(**byte, b'{' | b'[')).count();
        if opened > MOST_MESSAGES {
            return Err(format!("it has more than {MOST_MESSAGES} objects and lists"));
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

impl Response {
    /// As JSON.
    pub fn to_json(&self) -> String {
        let Some(partial) = &self.partial_success else { return "{}".to_owned() };
        let partial = serde_json::json!({
            // As a text, as JSON has it for 64 bits.
            "rejectedDataPoints": partial.rejected_data_points.to_string(),
            "errorMessage": partial.error_message,
        });
        serde_json::json!({ "partialSuccess": partial }).to_string()
    }
}

/// The messages within a message, by their fields.
struct Shape(&'static [(u32, &'static Shape)]);

static PLAIN: Shape = Shape(&[]);
static ATTRIBUTE: Shape = Shape(&[(2, &PLAIN)]);
static RESOURCE: Shape = Shape(&[(1, &ATTRIBUTE)]);
static POINT: Shape = Shape(&[(9, &ATTRIBUTE)]);
static EXPONENTIAL: Shape = Shape(&[(1, &ATTRIBUTE), (8, &PLAIN), (9, &PLAIN)]);
static METRIC: Shape = Shape(&[(9, &Shape(&[(1, &POINT)])), (10, &Shape(&[(1, &EXPONENTIAL)]))]);
static SCOPE: Shape = Shape(&[(1, &PLAIN), (2, &METRIC)]);
static REQUEST: Shape = Shape(&[(1, &Shape(&[(1, &RESOURCE), (2, &SCOPE)]))]);

/// Whether there are at most so many messages within a message, before any of them takes memory.
fn within(mut bytes: &[u8], shape: &Shape, left: &mut usize) -> bool {
    while !bytes.is_empty() {
        let Ok((field, kind)) = decode_key(&mut bytes) else { return false };
        let length = match kind {
            WireType::Varint => match decode_varint(&mut bytes) {
                Ok(_) => continue,
                Err(_) => return false,
            },
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut bytes).unwrap_or(u64::MAX),
            // There are none in OTLP.
            WireType::StartGroup | WireType::EndGroup => return false,
        };
        let Some((inner, rest)) =
            usize::try_from(length).ok().and_then(|it| bytes.split_at_checked(it))
        else {
            return false;
        };
        bytes = rest;
        if let Some((_, shape)) = shape.0.iter().find(|(number, _)| *number == field) {
            if *left == 0 || kind != WireType::LengthDelimited {
                return false;
            }
            *left -= 1;
            if !within(inner, shape, left) {
                return false;
            }
        }
    }
    true
}

/// A number of JSON, which in protobuf's is a text where it has 64 bits or is infinite or none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Whole(u64),
    Negative(i64),
    Real(f64),
    Text(String),
}

fn read<T: std::str::FromStr, E: Error>(loose: Loose) -> Result<T, E> {
    let text = match loose {
        Loose::Whole(number) => number.to_string(),
        Loose::Negative(number) => number.to_string(),
        Loose::Real(number) => number.to_string(),
        Loose::Text(text) => text,
    };
    text.parse().map_err(|_| E::custom("a number is none"))
}

fn number<'de, D: Deserializer<'de>, T: std::str::FromStr + Default>(
    from: D,
) -> Result<T, D::Error> {
    perhaps(from).map(Option::unwrap_or_default)
}

fn perhaps<'de, D: Deserializer<'de>, T: std::str::FromStr>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Option::<Loose>::deserialize(from)?.map(read).transpose()
}

fn numbers<'de, D: Deserializer<'de>, T: std::str::FromStr>(from: D) -> Result<Vec<T>, D::Error> {
    Option::<Vec<Loose>>::deserialize(from)?.unwrap_or_default().into_iter().map(read).collect()
}

fn encoded<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<Box<RawValue>>::deserialize(from)?;
    Ok(text.map(|text| text.get().as_bytes().to_vec()))
}
