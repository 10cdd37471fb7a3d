//! Quantities and prices: decimal text, exact to the last digit.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A decimal number of at most 28 digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Quantity(Decimal);

impl Quantity {
    /// Nothing.
    pub(super) const ZERO: Self = Self(Decimal::ZERO);

    /// Whether it is nothing.
    pub(super) fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Whether it is less than nothing.
    pub(super) fn is_negative(self) -> bool {
        self < Self::ZERO
    }

    /// Without its sign.
    #[must_use]
    pub(super) fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// Half of it, towards nothing where the last digit is odd.
    #[must_use]
    pub(super) fn half(self) -> Self {
        let half = self.0 / Decimal::TWO;
        Self(half.trunc_with_scale(self.0.scale().max(1)))
    }

    /// Both together.
    #[must_use]
    pub(super) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left of it without the other.
    #[must_use]
    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// As much as this, with the sign of another; nothing where that is nothing.
    #[must_use]
    pub(super) fn signed_as(self, other: Self) -> Self {
        match (other.is_zero(), other.is_negative()) {
            (true, _) => Self::ZERO,
            (false, true) => Self(-self.0.abs()),
            (false, false) => self.abs(),
        }
    }
}

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoQuantity(String);

impl fmt::Display for NoQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(f, "{text:?} is no decimal number of at most 28 digits")
    }
}

impl std::error::Error for NoQuantity {}

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let failed = || NoQuantity(text.chars().take(60).collect());
        // Plainer than what the library takes: neither "+1" nor "1_000", ".5" and "5.".
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(whole) || !plain(fraction) {
            return Err(failed());
        }
        Decimal::from_str_exact(text).map(Self).map_err(|_| failed())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.normalize().fmt(f)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A JSON number would have been through a float with whoever wrote it.
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_number_say_the_same() {
        for (text, shown) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("10", "10"),
            ("100.50", "100.5"),
            ("-0.000000000000000001", "-0.000000000000000001"),
            ("007", "7"),
            ("9999999999.999999999999999999", "9999999999.999999999999999999"),
        ] {
            assert_eq!(of(text).to_string(), shown);
            let json = serde_json::to_string(&of(text)).unwrap();
            assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), of(text), "{json}");
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_no_quantity() {
        for text in [
            "",
            "-",
            "+1",
            "--1",
            ".5",
            "5.",
            "-.5",
            "1e3",
            "NaN",
            "inf",
            "1,5",
            " 1",
            "1 ",
            "0x1",
            "1.2.3",
            "١",
            "1.-5",
            "100000000000000000000000000000",
            "0.00000000000000000000000000001",
            "1_000",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
        for json in ["1", "1.5", "null", "\"\""] {
            assert!(serde_json::from_str::<Quantity>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn it_adds_up_exactly() {
        assert_eq!(of("0.1").plus(of("0.2")), of("0.3"));
        assert_eq!(of("0.3").minus(of("0.1")).minus(of("0.2")), Quantity::ZERO);
        assert_eq!(of("-3").half(), of("-1.5"));
        assert_eq!(of("0.000000000000000003").half(), of("0.000000000000000001"));
        assert_eq!(of("2").signed_as(of("-7")), of("-2"));
        assert_eq!(of("2").signed_as(Quantity::ZERO), Quantity::ZERO);
        assert!(of("-2") < of("0.5") && of("-2").is_negative() && !of("0").is_negative());
    }
}
