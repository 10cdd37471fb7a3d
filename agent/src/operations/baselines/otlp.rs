//! Metrics that services push by OTLP over HTTP (OpenTelemetry protocol 1.x): their histograms of durations, as sketches.
//! Pure.
//!
//! An exponential histogram of seconds is taken without loss: a sketch has its buckets. All others are spread over the
//! sketch's, which tells how coarse they were. What a point counts since its start is taken less what the point before had.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use genesis_stats::Sketch;
use prost::Message;

use super::source::{Naming, Since, Unit};

mod points;
pub mod wire;

use points::Values;
use wire::{KeyValue, Metric, Request, Response};

/// Which metrics are taken unless others are asked for, and how their operations are named.
pub const USUAL: [(&str, &str); 4] = [
    ("http.server.request.duration", "{service.name}:{http.request.method}:{http.route}"),
    ("rpc.server.duration", "{service.name}:{rpc.service}/{rpc.method}"),
    ("rpc.server.call.duration", "{service.name}:{rpc.method}"),
    (
        "db.client.operation.duration",
        "{service.name}:{db.system.name|db.system}:{db.operation.name|db.operation|db.query.summary}",
    ),
];
/// A series that is counted since its start may have so many buckets.
const MOST_BUCKETS: usize = 1_024;
/// A point may lie so far in the future: clocks differ.
const AHEAD: i64 = 300_000_000_000;
/// Where there is no room, series are forgotten that are as old.
const IDLE: i64 = 3_600_000_000_000;
/// More attributes a resource or a point may not have: they are looked through for each point.
const MOST_ATTRIBUTES: usize = 256;
/// A longer text of an attribute names nothing.
const LONGEST_TEXT: usize = 1_024;
/// So many buckets the sketches of one request may have together, some 32 MiB.
const MOST_COUNTS: usize = 4 << 20;

/// A hash that stands for what tells series apart.
type Digest = [u8; blake3::OUT_LEN];

/// Takes metrics in.
#[derive(Debug)]
pub struct Receiver {
    wanted: HashMap<String, Naming>,
    series: HashMap<Digest, Held>,
    limit: usize,
}

/// The last point of a series that is counted since its start.
#[derive(Debug)]
struct Held {
    start: u64,
    time: u64,
    values: Values,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its name.
    pub operation: String,
    /// Until when it is, in nanoseconds since 1970.
    pub unix_nanos: i64,
    /// The values.
    pub sketch: Sketch,
}

/// What was in a request.
#[derive(Debug, Default)]
pub struct Taken {
    /// What came of operations: one item for all points of an operation and a time.
    pub items: Vec<Item>,
    /// Points of metrics that are not wanted, and those that only say that there is nothing any more.
    pub ignored: u64,
    /// Points without an attribute that the name is made of.
    pub unnamed: u64,
    /// The first points of series, which tell nothing yet.
    pub first: u64,
    /// Points of series that began at zero since the point before.
    pub resets: u64,
    /// Points that are not newer than the one before.
    pub repeated: u64,
    /// Points that can't be taken, by why.
    pub rejected: BTreeMap<&'static str, u64>,
    places: HashMap<(String, i64), usize>,
}

impl Taken {
    /// What the exporter is answered.
    pub fn response(&self) -> Response {
        let rejected = self.rejected.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let reasons: Vec<_> =
            self.rejected.iter().map(|(why, count)| format!("{count}: {why}")).collect();
        Response {
            partial_success: (rejected > 0).then(|| wire::PartialSuccess {
                rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX),
                error_message: reasons.join("; "),
            }),
        }
    }

    /// Adds to an item, and says how many buckets that took.
    fn add(&mut self, operation: String, unix_nanos: i64, sketch: Sketch) -> usize {
        match self.places.entry((operation.clone(), unix_nanos)) {
            Entry::Occupied(place) => {
                let into = &mut self.items[*place.get()].sketch;
                let before = into.raw().1.len();
                into.merge(&sketch);
                // Where it was made coarser, it has fewer.
                into.raw().1.len().saturating_sub(before)
            }
            Entry::Vacant(place) => {
                place.insert(self.items.len());
                let took = sketch.raw().1.len();
                self.items.push(Item { operation, unix_nanos, sketch });
                took
            }
        }
    }
}

/// A point, and what is known of it beside its values.
struct Point<'a> {
    attributes: &'a [KeyValue],
    start: u64,
    time: u64,
    flags: u32,
    extremes: Option<(f64, f64)>,
    values: Result<Values, &'static str>,
}

/// Where a point comes from.
#[derive(Clone, Copy)]
struct Origin<'a> {
    resource: &'a [KeyValue],
    metric: &'a Metric,
    naming: &'a Naming,
    /// Of all that tells its series from those of others.
    digest: Digest,
}

impl Receiver {
    /// Takes these metrics, and remembers at most `limit` series of those that are counted since their start.
    pub fn new(wanted: impl IntoIterator<Item = (String, Naming)>, limit: usize) -> Self {
        Self { wanted: wanted.into_iter().collect(), series: HashMap::new(), limit }
    }

    /// [`USUAL`], parsed.
    pub fn usual() -> impl Iterator<Item = (String, Naming)> {
        let parsed = USUAL.into_iter().map(|(name, naming)| (name, Naming::parse(naming)));
        parsed.filter_map(|(name, naming)| Some((name.to_owned(), naming.ok()?)))
    }

    /// How many series are remembered.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Takes a request in, which came at `now`, in nanoseconds since 1970.
    pub fn take(&mut self, request: &Request, now: i64) -> Taken {
        let mut taken = Taken::default();
        let Self { wanted, series, limit } = self;
        let mut memory = Memory { series, limit: *limit, now, swept: false, room: MOST_COUNTS };
        for of_resource in &request.resource_metrics {
            let resource = of_resource.resource.as_ref().map_or(&[][..], |it| &it.attributes);
            let of_attributes = digest(&[], resource);
            for of_scope in &of_resource.scope_metrics {
                let scope = of_scope.scope.as_ref().map_or("", |it| &it.name);
                let of_all = digest(&[&of_attributes, scope.as_bytes()], &[]);
                for metric in &of_scope.metrics {
                    let Some(naming) = wanted.get(&metric.name) else {
                        taken.ignored += count(metric);
                        continue;
                    };
                    let own = [&of_all[..], metric.name.as_bytes(), metric.unit.as_bytes()];
                    let origin = Origin { resource, metric, naming, digest: digest(&own, &[]) };
                    each(metric, |temporality, point| {
                        if let Err(why) = memory.point(&mut taken, origin, temporality, point) {
                            *taken.rejected.entry(why).or_default() += 1;
                        }
                    });
                }
            }
        }
        taken
    }
}

fn count(metric: &Metric) -> u64 {
    let explicit = metric.histogram.as_ref().map_or(0, |it| it.data_points.len());
    let exponential = metric.exponential_histogram.as_ref().map_or(0, |it| it.data_points.len());
    (explicit + exponential) as u64
}

/// Each point of a metric, and how it counts.
fn each(metric: &Metric, mut of: impl FnMut(i32, Point<'_>)) {
    if let Some(histogram) = &metric.histogram {
        for point in &histogram.data_points {
            let point = Point {
                attributes: &point.attributes,
                start: point.start_time_unix_nano,
                time: point.time_unix_nano,
                flags: point.flags,
                extremes: point.min.zip(point.max),
                values: Values::of_explicit(point),
            };
            of(histogram.aggregation_temporality, point);
        }
    }
    if let Some(histogram) = &metric.exponential_histogram {
        for point in &histogram.data_points {
            let point = Point {
                attributes: &point.attributes,
                start: point.start_time_unix_nano,
                time: point.time_unix_nano,
                flags: point.flags,
                extremes: point.min.zip(point.max),
                values: Values::of_exponential(point),
            };
            of(histogram.aggregation_temporality, point);
        }
    }
}

/// The series that are counted since their start.
struct Memory<'a> {
    series: &'a mut HashMap<Digest, Held>,
    limit: usize,
    now: i64,
    swept: bool,
    /// So many buckets more the sketches may have.
    room: usize,
}

impl Memory<'_> {
    fn point(
        &mut self,
        taken: &mut Taken,
        origin: Origin<'_>,
        temporality: i32,
        point: Point<'_>,
    ) -> Result<(), &'static str> {
        if point.flags & wire::NO_RECORDED_VALUE != 0 {
            taken.ignored += 1;
            return Ok(());
        }
        let unit = unit(origin.metric).ok_or("its unit is none of time")?;
        let time = i64::try_from(point.time).ok().filter(|time| *time != 0);
        let unix_nanos = time.ok_or("it has no time")?;
        if unix_nanos > self.now.saturating_add(AHEAD) {
            return Err("it lies in the future");
        }
        if point.attributes.len().max(origin.resource.len()) > MOST_ATTRIBUTES {
            return Err("it has too many attributes");
        }
        if self.room == 0 {
            return Err("the request has too many buckets");
        }
        let value =
            |name: &str| text(point.attributes, name).or_else(|| text(origin.resource, name));
        let Some(operation) = origin.naming.name(value) else {
            taken.unnamed += 1;
            return Ok(());
        };
        let sketch = match temporality {
            wire::DELTA => Some(point.values?.sketch(unit, point.extremes)?),
            wire::CUMULATIVE => self.more(taken, origin, unit, point)?,
            _ => return Err("it is neither delta nor cumulative"),
        };
        if let Some(sketch) = sketch.filter(|it| !it.is_empty() || it.rejected() > 0) {
            let took = taken.add(operation, unix_nanos, sketch);
            self.room = self.room.saturating_sub(took);
        }
        Ok(())
    }

    /// What came since the point before.
    fn more(
        &mut self,
        taken: &mut Taken,
        origin: Origin<'_>,
        unit: Unit,
        point: Point<'_>,
    ) -> Result<Option<Sketch>, &'static str> {
        let key = digest(&[&origin.digest], point.attributes);
        let Point { start, time, extremes, values, .. } = point;
        let values = values?;
        if values.buckets() > MOST_BUCKETS {
            return Err("it has too many buckets");
        }
        let present = Held { start, time, values };
        let Some(held) = self.series.get_mut(&key) else {
            self.make_room()?;
            self.series.insert(key, present);
            taken.first += 1;
            return Ok(None);
        };
        if time <= held.time {
            taken.repeated += 1;
            return Ok(None);
        }
        let since = match start {
            same if same == held.start => present.values.since(&held.values),
            // Of a start that is not known, or before what was counted, nobody can say what is new.
            start if start == time || start < held.time => Since::Anew,
            _ => Since::Reset,
        };
        let sketch = match since {
            Since::Anew => {
                taken.first += 1;
                None
            }
            Since::Reset => {
                taken.resets += 1;
                Some(present.values.sketch(unit, extremes)?)
            }
            // The extremes are those since the start.
            Since::Grown(more) => Some(more.sketch(unit, None)?),
        };
        *held = present;
        Ok(sketch)
    }

    fn make_room(&mut self) -> Result<(), &'static str> {
        if self.series.len() >= self.limit && !self.swept {
            // Once a request, as all series are looked at.
            self.swept = true;
            let oldest = u64::try_from(self.now.saturating_sub(IDLE)).unwrap_or(0);
            self.series.retain(|_, held| held.time >= oldest);
        }
        if self.series.len() < self.limit { Ok(()) } else { Err("there are too many series") }
    }
}

/// The unit that a metric says, or where it says none, what its name ends with.
fn unit(metric: &Metric) -> Option<Unit> {
    if metric.unit.is_empty() {
        return Unit::named(metric.name.rsplit(['_', '.']).next()?);
    }
    Unit::named(&metric.unit)
}

/// The text of an attribute; `None` where there is none, or it has several values.
fn text<'a>(attributes: &'a [KeyValue], name: &str) -> Option<Cow<'a, str>> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?;
    if let Some(text) = &found.string_value {
        return (text.len() <= LONGEST_TEXT).then_some(Cow::Borrowed(text));
    }
    let number = found.int_value.map(|it| it.to_string());
    let number = number.or_else(|| found.double_value.map(|it| it.to_string()));
    number.or_else(|| found.bool_value.map(|it| it.to_string())).map(Cow::Owned)
}

/// A hash of texts and of attributes in any order. What the data model names as the identity of a series is hashed level
/// by level, so that nothing is hashed again with each point.
fn digest(texts: &[&[u8]], attributes: &[KeyValue]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    texts.iter().for_each(|text| put(text));
    let mut sorted: Vec<_> = attributes.iter().collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    sorted.iter().for_each(|attribute| put(&attribute.encode_to_vec()));
    *hasher.finalize().as_bytes()
}
