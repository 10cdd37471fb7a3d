//! What a simulation of a whole fleet has a host put into force.

use std::sync::Arc;

use genesis_stats::correlation::Correlation;
use genesis_storage::MatrixRecord;

use crate::error::Result;
use crate::operations::matrices::Matrices;
use crate::operations::matrices::calculate::Made;
use crate::operations::matrices::serving::digest;

impl Matrices {
    /// Puts a matrix of two series into force, as one that was calculated.
    pub(crate) async fn put_into_force(&self, correlation: f64) -> Result<Arc<MatrixRecord>> {
        let series = vec!["BTC".to_owned(), "ETH".to_owned()];
        let matrix = Correlation::of(series, vec![correlation]).unwrap();
        let record = MatrixRecord {
            calculated_at: self.now(),
            series: 2,
            digest: digest(&matrix),
            rollout: self.config().rollout.clone(),
            ..MatrixRecord::default()
        };
        let against = self.serving().active().map_or(0, |it| it.version);
        let made = Made { record, matrix: Some(matrix), days: 0, fresh: 0, against };
        self.admit(made, "by hand", ("system:simulation", "")).await
    }
}
