//! Integers with their units as text, rounded to nearest; nothing is rounded before it is compared.

/// A number of nanoseconds in the unit that fits its size: `182 s`, `1.31 s`, `110 ms`, `42.0 us`.
pub fn duration(ns: u64) -> String {
    let (unit_ns, unit): (u64, _) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let decimals = match ns / unit_ns {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!(
        "{} {unit}",
        fixed(u128::from(ns), u128::from(unit_ns), decimals)
    )
}

/// A number of nanoseconds in seconds with one decimal.
pub fn seconds(ns: u64) -> String {
    format!("{} s", fixed(u128::from(ns), 1_000_000_000, 1))
}

/// Parts per million as percent with one decimal.
pub fn percent(ppm: u64) -> String {
    format!("{} %", fixed(u128::from(ppm), 10_000, 1))
}

/// A signed deviation in parts per million as percent with one decimal and its sign.
pub fn deviation(ppm: i64) -> String {
    let sign = if ppm < 0 { '-' } else { '+' };
    format!("{sign}{}", percent(ppm.unsigned_abs()))
}

/// Parts per million as a factor with three decimals: `1.020`.
pub fn ratio(ppm: u64) -> String {
    fixed(u128::from(ppm), 1_000_000, 3)
}

/// Thousandths with two decimals: `1.33`.
pub fn milli(value: u64) -> String {
    fixed(u128::from(value), 1000, 2)
}

/// A number of bytes in MiB with one decimal.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", fixed(u128::from(bytes), 1 << 20, 1))
}

/// `value / unit` with that many decimals, rounded to nearest.
fn fixed(value: u128, unit: u128, decimals: u32) -> String {
    let scale = 10_u128.pow(decimals);
    let scaled = (value * scale + unit / 2) / unit;
    if decimals == 0 {
        return scaled.to_string();
    }
    format!(
        "{}.{:0width$}",
        scaled / scale,
        scaled % scale,
        width = decimals as usize
    )
}

/// `part` of `whole` in parts per million, rounded to nearest; none of nothing.
pub fn ratio_ppm(part: u64, whole: u64) -> Option<u64> {
    let whole = u128::from(whole);
    let ppm = (u128::from(part) * 1_000_000 + whole / 2).checked_div(whole)?;
    u64::try_from(ppm).ok()
}

/// How far `found` lies from `wanted`, in parts per million of `wanted`; none if that is zero.
pub fn deviation_ppm(found: u64, wanted: u64) -> Option<i64> {
    let distance = i64::try_from(ratio_ppm(found.abs_diff(wanted), wanted)?).ok()?;
    Some(if found < wanted { -distance } else { distance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_nearest_with_their_unit() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(42_000), "42.0 us");
        assert_eq!(duration(110_034_944), "110 ms");
        assert_eq!(duration(8_150_000_000), "8.15 s");
        assert_eq!(duration(182_400_000_000), "182 s");
        assert_eq!(seconds(182_350_000_000), "182.4 s");
        assert_eq!(percent(81_250), "8.1 %");
        assert_eq!(deviation(-150_000), "-15.0 %");
        assert_eq!(ratio(1_019_500), "1.020");
        assert_eq!(milli(1333), "1.33");
        assert_eq!(mebibytes(73_400_320), "70.0 MiB");
    }

    #[test]
    fn deviations_have_a_sign_and_no_division_by_zero() {
        assert_eq!(deviation_ppm(90, 100), Some(-100_000));
        assert_eq!(deviation_ppm(110, 100), Some(100_000));
        assert_eq!(deviation_ppm(1, 0), None);
    }
}
