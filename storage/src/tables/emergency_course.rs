//! What becomes of trading in an emergency: one row, of the latest one. It is kept when the emergency is over, and the
//! orders that closed positions with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reads_as;
use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::schema::{COURSE_ROW, LEASE_ROW, META};
use crate::view::{Sink, Source};

/// How far an emergency has come with trading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoursePhase {
    /// The trading system has not said yet that no order leaves any more.
    #[default]
    Halting,
    /// No order leaves any more.
    Halted,
    /// Orders that are out are being cancelled.
    Cancelling,
    /// Positions are being closed.
    Closing,
    /// Every venue was seen without a position and without an order twice.
    Flat,
    /// Of one venue at least that could not be seen.
    FlatUnproven,
}

/// How far one venue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VenuePhase {
    /// Nothing has been done there.
    #[default]
    Waiting,
    /// Its orders are being cancelled.
    Cancelling,
    /// Its orders are cancelled but for those that protect a position.
    Cancelled,
    /// Its positions are being closed.
    Closing,
    /// Seen without a position and without an order twice.
    Flat,
    /// That could not be seen in time.
    Unproven,
}

/// Where an order is that closes a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseOrderState {
    /// It is about to be sent, or was: nobody has said.
    Intended,
    /// The venue has never seen it.
    Unknown,
    /// It can still trade.
    Open,
    /// It has traded all of its quantity.
    Filled,
    /// It trades no more, and has not traded all of it.
    Cancelled,
    /// The venue did not take it.
    Rejected,
}

impl CloseOrderState {
    /// Whether it will never trade again.
    pub fn terminal(self) -> bool {
        matches!(self, Self::Filled | Self::Cancelled | Self::Rejected)
    }
}

/// An order that closes a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseOrderRecord {
    /// What it trades.
    pub symbol: String,
    /// 1 for the first of its symbol.
    pub attempt: u32,
    /// What the venue knows it by.
    pub id: String,
    /// A decimal number; negative sells.
    pub quantity: String,
    /// Where it is.
    pub state: CloseOrderState,
    /// What it has traded; a decimal number.
    pub filled: String,
    /// What the venue said.
    pub why: String,
    /// When it was first heard that it will never trade again.
    pub ended_at: Option<Timestamp>,
}

/// What became of one venue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueRecord {
    /// How far it is.
    pub phase: VenuePhase,
    /// What is in the way, or was last.
    pub why: String,
    /// As they were last seen: symbol and quantity.
    pub positions: Vec<(String, String)>,
    /// Orders that were out then.
    pub open_orders: u32,
    /// When that was.
    pub as_of: Option<Timestamp>,
    /// In the order in which they were made.
    pub orders: Vec<CloseOrderRecord>,
}

/// Who asked to close positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosingRecord {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was over; `None`: it goes on.
    pub ended_at: Option<Timestamp>,
}

/// Somebody's consent to a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The hash of the release's plan.
    pub plan: String,
    /// What they said.
    pub reason: String,
}

/// What becomes of trading in an emergency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourseRecord {
    /// The emergency's.
    pub epoch: u64,
    /// How far it is.
    pub phase: CoursePhase,
    /// The trading system was told to halt, whatever came of it.
    pub told: bool,
    /// When the trading system said that no order leaves any more.
    pub halted_at: Option<Timestamp>,
    /// Whether orders that don't protect a position were cancelled everywhere.
    pub cancelled: bool,
    /// Who asked to close positions last; `None`: nobody has.
    pub closing: Option<ClosingRecord>,
    /// Each venue by name.
    pub venues: BTreeMap<String, VenueRecord>,
    /// What could not be told of the whole.
    pub trouble: String,
    /// Who has agreed to the release.
    pub approvals: Vec<ApprovalRecord>,
    /// When, after the release, the trading system said that it trades again.
    pub resumed_at: Option<Timestamp>,
}

impl Record for CourseRecord {
    const TABLE: &'static str = "meta";
    const VERSION: u8 = 1;
}

/// Who renews the trading system's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Who.
    pub holder: String,
    /// Since when.
    pub since: Timestamp,
}

impl Record for LeaseRecord {
    const TABLE: &'static str = "meta";
    const VERSION: u8 = 1;
}

/// Reads the course of the latest emergency.
#[derive(Clone, Copy)]
pub struct Courses<'t> {
    source: Source<'t>,
}

impl<'t> Courses<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        Self { source }
    }

    /// The latest; `None`: there was none yet.
    pub fn get(&self) -> Result<Option<CourseRecord>, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(COURSE_ROW)?;
        row.map(|row| decode(&COURSE_ROW, row.value())).transpose()
    }

    /// Who renews the trading system's lease; `None`: nobody does.
    pub fn lease(&self) -> Result<Option<LeaseRecord>, StorageError> {
        let view = self.source.view(META)?;
        let row = view.get(LEASE_ROW)?;
        row.map(|row| decode(&LEASE_ROW, row.value())).transpose()
    }
}

/// Writes the course of the latest emergency.
#[derive(Clone, Copy)]
pub struct CoursesWriting<'t> {
    reading: Courses<'t>,
    sink: Sink<'t>,
}

reads_as!(CoursesWriting => Courses, reading);

impl<'t> CoursesWriting<'t> {
    pub(crate) fn new(sink: Sink<'t>) -> Self {
        Self { reading: Courses::new(sink.source()), sink }
    }

    /// Writes or replaces it.
    pub fn put(&self, record: &CourseRecord) -> Result<(), StorageError> {
        let bytes = encode(&COURSE_ROW, record)?;
        self.sink.edit(META)?.insert(COURSE_ROW, bytes.as_slice())
    }

    /// Says who renews the lease; `None`: nobody does any more.
    pub fn put_lease(&self, record: Option<&LeaseRecord>) -> Result<(), StorageError> {
        match record {
            Some(record) => {
                let bytes = encode(&LEASE_ROW, record)?;
                self.sink.edit(META)?.insert(LEASE_ROW, bytes.as_slice())
            }
            None => self.sink.edit(META)?.remove(LEASE_ROW).map(drop),
        }
    }
}
