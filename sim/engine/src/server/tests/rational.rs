//! Exact fractions for the model of processor sharing; small enough for `i128`.

use std::cmp::Ordering;

/// A reduced fraction with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rational {
    num: i128,
    den: i128,
}

impl Rational {
    pub(super) const ZERO: Self = Self { num: 0, den: 1 };

    pub(super) fn new(num: i128, den: i128) -> Self {
        let divisor = gcd(num.abs(), den);
        Self {
            num: num / divisor,
            den: den / divisor,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self::new(
            self.num * other.den + other.num * self.den,
            self.den * other.den,
        )
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.plus(Self {
            num: -other.num,
            ..other
        })
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self::new(self.num * other.num, self.den * other.den)
    }

    pub(super) fn over(self, other: Self) -> Self {
        assert!(other.num > 0, "only positive rates divide");
        self.times(Self {
            num: other.den,
            den: other.num,
        })
    }
}

fn gcd(one: i128, other: i128) -> i128 {
    if other == 0 {
        one.max(1)
    } else {
        gcd(other, one % other)
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.num * other.den).cmp(&(other.num * self.den))
    }
}
