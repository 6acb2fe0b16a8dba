//! Random choices in words.

pub use fastrand::Rng;

/// What the generators ask of their random numbers.
pub(crate) trait Dice {
    /// True in so many of 100 cases.
    fn percent(&mut self, chance: u8) -> bool;

    /// One of the items; `None` if there is none.
    fn pick<'i, T>(&mut self, items: &'i [T]) -> Option<&'i T>;

    /// One of the items of a list that is not empty.
    fn one_of<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T;

    /// So many of the items (at most all), in their order.
    fn some<T: Clone>(&mut self, items: &[T], count: usize) -> Vec<T>;
}

/// [`Dice::one_of`], for items that need the random numbers themselves.
macro_rules! one_of {
    ($rng:expr, $items:expr) => {{
        let items = $items;
        $crate::generate::dice::Dice::one_of($rng, items)
    }};
}
pub(crate) use one_of;

impl Dice for Rng {
    fn percent(&mut self, chance: u8) -> bool {
        self.u8(0..100) < chance
    }

    fn pick<'i, T>(&mut self, items: &'i [T]) -> Option<&'i T> {
        if items.is_empty() {
            None
        } else {
            items.get(self.usize(..items.len()))
        }
    }

    fn one_of<T: Copy, const N: usize>(&mut self, items: [T; N]) -> T {
        items[self.usize(..N)]
    }

    fn some<T: Clone>(&mut self, items: &[T], count: usize) -> Vec<T> {
        let mut left = count.min(items.len());
        let mut taken = Vec::with_capacity(left);
        for (index, item) in items.iter().enumerate() {
            if self.usize(..items.len() - index) < left {
                taken.push(item.clone());
                left -= 1;
            }
        }
        taken
    }
}
