//! How many nodes are called before the next ones are: so many, or a share of all.

use std::str::FromStr;

/// The most sizes that are named.
const SIZES: usize = 32;

/// The sizes of batches, one after the other; the last one is that of all that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batches(Vec<Size>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Nodes(u32),
    /// Of all nodes: 1 to 100.
    Percent(u32),
}

impl Size {
    /// Of so many nodes in all; a share is rounded down, and never nothing.
    fn of(self, nodes: usize) -> usize {
        match self {
            Self::Nodes(count) => count as usize,
            Self::Percent(share) => (nodes.saturating_mul(share as usize) / 100).max(1),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = || format!("{text:?} is neither a number of nodes nor a share from 1% to 100%");
        let number = |text: &str| text.parse::<u32>().ok().filter(|it| *it > 0).ok_or_else(hint);
        match text.strip_suffix('%') {
            Some(share) => number(share).and_then(|share| match share {
                1..=100 => Ok(Self::Percent(share)),
                _ => Err(hint()),
            }),
            None => number(text).map(Self::Nodes),
        }
    }
}

impl FromStr for Batches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes =
            text.split(',').map(|size| size.trim().parse()).collect::<Result<Vec<_>, _>>()?;
        match sizes.len() {
            0..=SIZES => Ok(Self(sizes)),
            _ => Err(format!(
                "more than {SIZES} batches are named: the last size is that of all that follow"
            )),
        }
    }
}

impl Batches {
    /// How many of `nodes` each batch has; together they are all.
    pub(crate) fn sizes(&self, nodes: usize) -> Vec<usize> {
        let last = self.0.last().copied().unwrap_or(Size::Percent(100));
        let named = self.0.iter().copied().chain(std::iter::repeat(last));
        let mut left = nodes;
        let mut sizes = Vec::new();
        for size in named {
            if left == 0 {
                break;
            }
            let size = size.of(nodes).min(left);
            left -= size;
            sizes.push(size);
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_so_many_nodes_or_a_share_of_all_and_the_last_goes_on() {
        for (text, nodes, sizes) in [
            ("2", 5, vec![2, 2, 1]),
            ("1,25%,100%", 16, vec![1, 4, 11]),
            ("1,25%,100%", 1, vec![1]),
            ("1,25%,100%", 2, vec![1, 1]),
            ("1, 10%", 8, vec![1; 8]),
            ("25%", 10, vec![2; 5]),
            ("34%", 10, vec![3, 3, 3, 1]),
            ("100%", 3, vec![3]),
            ("7", 0, vec![]),
        ] {
            assert_eq!(text.parse::<Batches>().unwrap().sizes(nodes), sizes, "{text} of {nodes}");
        }
        for text in ["", "0", "0%", "101%", "1.5", "-1", "%", "1,,2", "all", "1;2", "99999999999"] {
            assert!(text.parse::<Batches>().is_err(), "{text:?}");
        }
        assert!(["1"; 33].join(",").parse::<Batches>().is_err());
    }
}
