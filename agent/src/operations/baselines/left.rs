//! What the last agent left: the baselines in force, the sums, and the windows that were open.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_stats::Sketch;
use genesis_storage::{BaselineRecord, EpisodeRecord, Observations};

use super::standing::{Current, WatchRecord};
use super::{Live, plan, raw};
use crate::error::{Error, Result};

/// After a start, so many bytes of raw columns are read back for the windows that are open.
const READ_BACK: usize = 64 << 20;

/// What the last agent left.
pub(super) fn load(
    store: &Observations,
    newest: Vec<BaselineRecord>,
    open: Vec<EpisodeRecord>,
    from: i64,
) -> Result<Live> {
    let mut live = Live::default();
    for record in newest {
        let name = record.operation.clone();
        live.unclaimed.entry(name).or_default().current = current(record);
    }
    for episode in open {
        let name = episode.operation.clone();
        live.unclaimed.entry(name).or_default().episode = Some(episode);
    }
    let (operations, watches) =
        store.read(|it| Ok::<_, Error>((it.operations()?, it.watches()?)))?;
    for (name, number) in operations {
        live.add(name, number);
    }
    for (number, bytes) in watches {
        // One that can't be read begins anew.
        let record = serde_json::from_slice::<WatchRecord>(&bytes).ok();
        if let (Some(standing), Some(record)) = (live.standings.get_mut(&number), record) {
            standing.judged_at = record.judged_at;
            standing.watch = record.watch();
        }
    }
    read_back(store, &mut live, from)?;
    Ok(live)
}

/// Reads what came in the last minutes, whose windows are still open.
fn read_back(store: &Observations, live: &mut Live, from: i64) -> Result<()> {
    let (open, mut bytes) = (from.saturating_mul(plan::NANOS), 0);
    let (mut times, mut nanos) = (Vec::new(), Vec::new());
    store.read(|reading| {
        reading.raw_backwards(|_, row| {
            for (number, chunks) in raw::parts(row) {
                if raw::newest(chunks).is_none_or(|newest| newest < open) {
                    continue;
                }
                times.clear();
                nanos.clear();
                raw::rows(chunks, &mut times, &mut nanos);
                let mut minutes: BTreeMap<i64, Sketch> = BTreeMap::new();
                for (time, nanos) in times.iter().zip(&nanos).filter(|(time, _)| **time >= open) {
                    let minute = time.div_euclid(60 * plan::NANOS);
                    minutes.entry(minute).or_default().insert(*nanos as f64 / 1e9);
                }
                for (minute, sketch) in minutes {
                    live.windows.add(number, minute, &sketch);
                    if let Some(standing) = live.standings.get_mut(&number) {
                        standing.last = standing.last.max(Some((minute + 1) * 60 - 1));
                    }
                }
            }
            bytes += row.len();
            Ok::<_, Error>(bytes < READ_BACK)
        })
    })
}

/// A record as it is judged by; `None`: it can't be read, so it is calculated anew.
pub fn current(mut record: BaselineRecord) -> Option<Arc<Current>> {
    let sketch = Sketch::from_bytes(&hex::decode(&record.sketch).ok()?).ok()?;
    // Not held twice.
    record.sketch = String::new();
    let references = plan::References {
        hours: std::mem::take(&mut record.hours),
        parts: std::mem::take(&mut record.parts),
        all: record.all,
    };
    Some(Arc::new(Current::new(record, sketch, references)))
}
