//! Measurements live in `benches/`; each runs its peer in the same run and prints the ratio.
