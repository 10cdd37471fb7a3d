//! A value for each pair.

/// What there is of each pair i < j of `size` things: the upper triangle without its diagonal, row by row.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Triangle<T> {
    size: usize,
    items: Vec<T>,
}

/// How many pairs there are.
pub(super) const fn pairs(size: usize) -> usize {
    size * size.saturating_sub(1) / 2
}

impl<T: Copy> Triangle<T> {
    pub(super) fn new(size: usize, item: T) -> Self {
        Self { size, items: vec![item; pairs(size)] }
    }

    /// `None` unless there are as many items as pairs.
    pub(super) fn of(size: usize, items: Vec<T>) -> Option<Self> {
        (items.len() == pairs(size)).then_some(Self { size, items })
    }

    /// Row by row; `item` is asked with i < j.
    pub(super) fn from_fn(size: usize, mut item: impl FnMut(usize, usize) -> T) -> Self {
        let mut items = Vec::with_capacity(pairs(size));
        for i in 0..size {
            items.extend((i + 1..size).map(|j| item(i, j)));
        }
        Self { size, items }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// Where a pair is, in either order. The two differ.
    fn at(&self, i: usize, j: usize) -> usize {
        let (i, j) = if i < j { (i, j) } else { (j, i) };
        debug_assert!(i < j && j < self.size, "a pair of different ones");
        // i rows of size - 1, size - 2, .. items are above.
        i * (2 * self.size - i - 1) / 2 + (j - i - 1)
    }

    #[inline]
    pub(super) fn get(&self, i: usize, j: usize) -> T {
        self.items[self.at(i, j)]
    }

    /// The items of i with i + 1, i + 2, ..
    pub(super) fn row(&self, i: usize) -> &[T] {
        if i + 1 >= self.size {
            return &[];
        }
        let from = self.at(i, i + 1);
        &self.items[from..from + self.size - i - 1]
    }

    pub(super) fn row_mut(&mut self, i: usize) -> &mut [T] {
        if i + 1 >= self.size {
            return &mut [];
        }
        let from = self.at(i, i + 1);
        &mut self.items[from..from + self.size - i - 1]
    }

    /// All pairs with i < j, row by row.
    pub(super) fn iter(&self) -> impl Iterator<Item = ((usize, usize), T)> + '_ {
        let pairs = (0..self.size).flat_map(|i| (i + 1..self.size).map(move |j| (i, j)));
        pairs.zip(self.items.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_has_its_place() {
        for size in 0..6 {
            let triangle = Triangle::from_fn(size, |i, j| (i, j));
            assert_eq!(triangle.items().len(), pairs(size));
            for (pair, item) in triangle.iter() {
                assert_eq!(pair, item);
                assert_eq!(triangle.get(item.0, item.1), item);
                assert_eq!(triangle.get(item.1, item.0), item);
                assert_eq!(triangle.row(item.0)[item.1 - item.0 - 1], item);
            }
        }
        let mut triangle = Triangle::new(3, 0);
        triangle.row_mut(0)[1] = 7;
        triangle.row_mut(1)[0] = 9;
        assert_eq!((triangle.items(), triangle.get(2, 0)), (&[0, 7, 9][..], 7));
        assert!(triangle.row(2).is_empty() && triangle.row_mut(3).is_empty());
        assert!(
            Triangle::of(3, vec![1, 2]).is_none() && Triangle::of(0, Vec::<u8>::new()).is_some()
        );
    }
}
