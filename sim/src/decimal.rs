//! Decimals in thousandths: what a search over a constant halves, exactly and without floats.

/// A number in thousandths of its unit.
pub type Milli = u64;

/// Reads a decimal of at most three places; none if it is something else.
pub fn milli(text: &str) -> Option<Milli> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 {
        return None;
    }
    format!("{whole}{fraction:0<3}").parse().ok()
}

/// The shortest decimal of some thousandths.
pub fn decimal(milli: Milli) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_in_thousandths_read_back() {
        for (text, value) in [("0.5", 500), ("12", 12_000), ("3.125", 3_125), ("0", 0)] {
            assert_eq!(milli(text), Some(value));
            assert_eq!(decimal(value), text);
        }
        assert_eq!(milli("0.0001"), None);
        assert_eq!(milli("1..2"), None);
    }
}
