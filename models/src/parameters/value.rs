//! The types that a parameter can have, and how each is read: exactly, as a decimal in the unit of
//! its entry. Where a value stands is not known here.

use std::time::Duration;

/// A rate, exact to a thousandth per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units: events per 1000 seconds.
    pub milli_per_s: u64,
}

/// A closed range of durations, from which a stream draws evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
}

/// CPU capacity, exact to a thousandth of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millicores(pub u64);

/// A factor, exact to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Units: thousandths.
    pub milli: u64,
}

impl Factor {
    /// The duration times the factor.
    pub fn of(self, duration: Duration) -> Duration {
        let nanos = duration.as_nanos() * u128::from(self.milli) / 1000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// An exact decimal: `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    mantissa: u128,
    scale: u32,
}

impl Decimal {
    pub(super) fn parse(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.len() > 12 || whole.len() > 18 {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Decimal {
            mantissa: digits.parse().ok()?,
            scale: fraction.len() as u32,
        })
    }

    /// The value times `factor`, if that is a whole number that fits.
    pub(super) fn times(self, factor: u128) -> Option<u64> {
        let scaled = self.mantissa.checked_mul(factor)?;
        let divisor = 10u128.pow(self.scale);
        if scaled.is_multiple_of(divisor) {
            u64::try_from(scaled / divisor).ok()
        } else {
            None
        }
    }
}

/// A type that a parameter can have.
pub trait ParameterValue: Sized {
    /// Units that the type reads.
    const UNITS: &'static [&'static str];
    /// Reads `text`, given in `unit`; the error says what is allowed.
    fn read(text: &str, unit: &str) -> Result<Self, String>;
}

/// Nanoseconds per unit of time.
fn nanos_per(unit: &str) -> Option<u128> {
    match unit {
        "s" | "CPU-s" => Some(1_000_000_000),
        "ms" | "CPU-ms" => Some(1_000_000),
        "us" | "CPU-us" => Some(1_000),
        _ => None,
    }
}

impl ParameterValue for Duration {
    const UNITS: &'static [&'static str] = &["s", "ms", "us", "CPU-s", "CPU-ms", "CPU-us"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        let nanos = nanos_per(unit).ok_or("a time")?;
        Decimal::parse(text)
            .and_then(|d| d.times(nanos))
            .map(Duration::from_nanos)
            .ok_or_else(|| format!("a time >= 0 in {unit}, exact to 1 ns"))
    }
}

impl ParameterValue for Span {
    const UNITS: &'static [&'static str] = &["s", "ms", "us"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        let expected = || format!("MIN..MAX in {unit}, with MIN <= MAX");
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let min = Duration::read(min.trim(), unit).map_err(|_| expected())?;
        let max = Duration::read(max.trim(), unit).map_err(|_| expected())?;
        if min <= max {
            Ok(Span { min, max })
        } else {
            Err(expected())
        }
    }
}

impl ParameterValue for Rate {
    const UNITS: &'static [&'static str] = &["1/s"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        Decimal::parse(text)
            .and_then(|d| d.times(1000))
            .filter(|milli| *milli > 0)
            .map(|milli_per_s| Rate { milli_per_s })
            .ok_or_else(|| "a rate > 0 in 1/s, exact to 0.001".to_owned())
    }
}

impl ParameterValue for Millicores {
    const UNITS: &'static [&'static str] = &["cores"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        Decimal::parse(text)
            .and_then(|d| d.times(1000))
            .map(Millicores)
            .ok_or_else(|| "a number of cores >= 0, exact to 0.001".to_owned())
    }
}

impl ParameterValue for Factor {
    const UNITS: &'static [&'static str] = &["times"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        Decimal::parse(text)
            .and_then(|d| d.times(1000))
            .map(|milli| Factor { milli })
            .ok_or_else(|| "a factor >= 0, exact to 0.001".to_owned())
    }
}

/// What one request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Median latency at an idle server, disk included.
    pub latency: Duration,
    /// CPU time of the apiserver.
    pub apiserver: Duration,
    /// CPU time of the etcd member that it asks.
    pub etcd: Duration,
}

/// Prices by the number of records in the object.
/// Shape: at least one point, records strictly increasing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices(Vec<(u32, Price)>);

impl Prices {
    /// The price at a number of records: linear between the points, the first point below them,
    /// and the slope of the last two above them.
    pub fn at(&self, record_count: u32) -> Price {
        let points = &self.0;
        let upper = points.partition_point(|(records, _)| *records < record_count);
        if points.len() == 1 || upper == 0 {
            return points[0].1;
        }
        let upper = upper.min(points.len() - 1);
        let ((low, from), (high, to)) = (points[upper - 1], points[upper]);
        let (part, whole) = (i128::from(record_count - low), i128::from(high - low));
        let line = |from: Duration, to: Duration| {
            let (from, to) = (from.as_nanos() as i128, to.as_nanos() as i128);
            let nanos = (from + (to - from) * part / whole).max(0);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        Price {
            latency: line(from.latency, to.latency),
            apiserver: line(from.apiserver, to.apiserver),
            etcd: line(from.etcd, to.etcd),
        }
    }
}

impl ParameterValue for Prices {
    const UNITS: &'static [&'static str] = &["ms", "us"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        let expected =
            || format!("LATENCY/APISERVER/ETCD in {unit}, or RECORDS:LATENCY/APISERVER/ETCD …");
        let price = |text: &str| {
            let mut parts = text.split('/').map(|part| Duration::read(part, unit).ok());
            let mut next = || parts.next().flatten();
            let (latency, apiserver, etcd) = (next()?, next()?, next()?);
            parts.next().is_none().then_some(Price {
                latency,
                apiserver,
                etcd,
            })
        };
        let mut points: Vec<(u32, Price)> = Vec::new();
        for point in text.split_whitespace() {
            let (records, rest) = point.split_once(':').unwrap_or(("1", point));
            let records = records.parse().map_err(|_| expected())?;
            if points.last().is_some_and(|(last, _)| *last >= records) {
                return Err(expected());
            }
            points.push((records, price(rest).ok_or_else(expected)?));
        }
        if points.is_empty() {
            Err(expected())
        } else {
            Ok(Prices(points))
        }
    }
}

impl ParameterValue for u64 {
    const UNITS: &'static [&'static str] = &["count", "bytes"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("a whole number >= 0 ({unit})"))
    }
}

impl ParameterValue for bool {
    const UNITS: &'static [&'static str] = &["bool"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "true or false".to_owned())
    }
}
