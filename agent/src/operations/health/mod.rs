//! Health: checks that see, actions that mend, and proof that they helped.

pub mod gates;
pub mod life;

#[cfg(test)]
mod tests;
