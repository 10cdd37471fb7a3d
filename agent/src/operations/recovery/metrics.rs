//! Metrics of incidents, and of what becomes of trading in an emergency. Labels are static words.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use genesis_storage::{CloseOrderState, CoursePhase, VenuePhase};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::course::Live;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDrill {
    drill: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// How a drill that is due from time to time stands.
#[derive(Debug, Clone, PartialEq)]
pub struct DrillGauge {
    /// One of those that the configuration names.
    pub drill: String,
    /// It has not passed in time.
    pub overdue: bool,
    /// The time to recover of the last that passed, in seconds.
    pub rto: Option<f64>,
    /// Since the last that passed, in seconds.
    pub age: f64,
}

/// The states of venues, as they are labelled.
const VENUES: [(&str, VenuePhase); 6] = [
    ("waiting", VenuePhase::Waiting),
    ("cancelling", VenuePhase::Cancelling),
    ("cancelled", VenuePhase::Cancelled),
    ("closing", VenuePhase::Closing),
    ("flat", VenuePhase::Flat),
    ("unproven", VenuePhase::Unproven),
];

/// The states of orders, as they are labelled.
const ORDERS: [(&str, CloseOrderState); 6] = [
    ("intended", CloseOrderState::Intended),
    ("unknown", CloseOrderState::Unknown),
    ("open", CloseOrderState::Open),
    ("filled", CloseOrderState::Filled),
    ("cancelled", CloseOrderState::Cancelled),
    ("rejected", CloseOrderState::Rejected),
];

/// Gauges of incidents and of the latest emergency.
#[derive(Clone, Default)]
pub struct Metrics {
    halted: Gauge,
    unproven: Gauge,
    positions: Gauge,
    venues: Family<OfState, Gauge>,
    orders: Family<OfState, Gauge>,
    not_durable: Gauge,
    incidents: Family<OfState, Gauge>,
    drill_overdue: Family<OfDrill, Gauge>,
    drill_rto: Family<OfDrill, Seconds>,
    drill_age: Family<OfDrill, Seconds>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let recovery = registry.sub_registry_with_prefix("genesis_recovery");
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            recovery.register(name, help, gauge.clone());
        };
        gauge("trading_halted", "1 while trading is known to be halted", &metrics.halted);
        gauge(
            "flat_unproven",
            "1 while positions may be open after they were closed",
            &metrics.unproven,
        );
        gauge("positions", "Positions that were last seen in an emergency", &metrics.positions);
        gauge("not_durable", "1 while the course can't be written down", &metrics.not_durable);
        recovery.register(
            "venues",
            "Venues in the present emergency, by how far they are",
            metrics.venues.clone(),
        );
        recovery.register(
            "close_orders",
            "Orders that close positions in the present emergency, by what became of them",
            metrics.orders.clone(),
        );
        recovery.register(
            "incidents",
            "Incidents: open, over and to be documented, closed",
            metrics.incidents.clone(),
        );
        recovery.register(
            "drill_overdue",
            "1 while a drill has not passed in time",
            metrics.drill_overdue.clone(),
        );
        recovery.register(
            "drill_rto_seconds",
            "How long it took in the last drill that passed until all was well again",
            metrics.drill_rto.clone(),
        );
        recovery.register(
            "drill_age_seconds",
            "Since the last drill that passed, or since there is this host",
            metrics.drill_age.clone(),
        );
        metrics
    }

    /// Shows the course as it stands; `epoch`: of the emergency in force.
    pub fn show(&self, live: &Live, epoch: Option<u64>) {
        let active = epoch == Some(live.record.epoch);
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let record = &live.record;
        let halted = record.halted_at.is_some() && live.halt_trouble.is_empty();
        self.halted.set((active && halted).into());
        self.unproven.set((active && record.phase == CoursePhase::FlatUnproven).into());
        self.not_durable.set((!live.not_durable.is_empty()).into());
        let venues = || record.venues.values().filter(|_| active);
        self.positions.set(count(venues().map(|venue| venue.positions.len()).sum()));
        for (state, phase) in VENUES {
            let those = venues().filter(|venue| venue.phase == phase).count();
            self.venues.get_or_create(&OfState { state }).set(count(those));
        }
        for (state, kind) in ORDERS {
            let orders = venues().flat_map(|venue| &venue.orders);
            let those = orders.filter(|order| order.state == kind).count();
            self.orders.get_or_create(&OfState { state }).set(count(those));
        }
    }

    pub(super) fn drills(&self, drills: Vec<DrillGauge>) {
        for DrillGauge { drill, overdue, rto, age } in drills {
            let of = OfDrill { drill };
            self.drill_overdue.get_or_create(&of).set(overdue.into());
            self.drill_age.get_or_create(&of).set(age);
            if let Some(rto) = rto {
                self.drill_rto.get_or_create(&of).set(rto);
            }
        }
    }

    pub(super) fn incidents(&self, counts: &BTreeMap<&'static str, u64>) {
        for (state, count) in counts {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.incidents.get_or_create(&OfState { state }).set(count);
        }
    }
}
