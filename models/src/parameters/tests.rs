//! Claims about parameter files, profiles and overrides.

use std::time::Duration;

use super::value::Decimal;
use super::*;

fn refused(assignment: &str) -> String {
    let mut table = Table::released();
    match table.set(assignment) {
        Err(error) => error.to_string(),
        Ok(()) => Parameters::read(&table)
            .expect_err("it must be refused")
            .to_string(),
    }
}

#[test]
fn every_profile_is_complete_and_consistent() {
    for name in Table::profile_names() {
        if let Err(error) = Parameters::profile(name) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn every_value_lies_in_its_range() {
    let number = |text: &str| Decimal::parse(text).and_then(|d| d.times(1_000_000_000_000));
    for (key, entry) in Table::released().entries {
        let Some([low, high]) = &entry.range else {
            continue;
        };
        let (low, high) = (number(&text_of(low)), number(&text_of(high)));
        for part in text_of(&entry.value).split("..") {
            let value = number(part);
            assert!(
                low <= value && value <= high,
                "{key} = {part} is outside its range"
            );
        }
    }
}

#[test]
fn a_profile_fits_at_most_one_number() {
    for name in Table::profile_names() {
        let table = Table::profile(name).expect("a built-in profile");
        let fitted = table
            .entries
            .values()
            .filter(|entry| entry.kind == Kind::Fitted)
            .count();
        assert!(fitted <= 1, "{name} has {fitted} fitted values");
    }
}

#[test]
fn an_entry_without_unit_source_or_kind_is_refused() {
    let whole = "[a.b]\nvalue = 1\nunit = \"count\"\nkind = \"cited\"\nsource = \"x\"\n";
    assert!(Table::parse("t", whole).is_ok());
    for line in [
        "unit = \"count\"\n",
        "kind = \"cited\"\n",
        "source = \"x\"\n",
        "value = 1\n",
    ] {
        assert!(
            Table::parse("t", &whole.replace(line, "")).is_err(),
            "without {line}"
        );
    }
    assert!(
        Table::parse("t", &whole.replace("\"x\"", "\" \"")).is_err(),
        "an empty source"
    );
    assert!(
        Table::parse("t", &whole.replace("cited", "guessed")).is_err(),
        "an unknown kind"
    );
}

#[test]
fn overrides_are_checked_and_errors_say_what_is_allowed() {
    assert!(refused("kcm.qbs=20").contains("did you mean `kcm.qps`"));
    assert!(refused("kcm.qps").contains("KEY=VALUE"));
    assert!(refused("kcm.qps=fast").contains("a rate > 0"));
    assert!(refused("kcm.workers=0").contains("above 0"));
    assert!(refused("node.base_control_plane=9").contains("below node.cores"));
    assert!(refused("cost.get_pod=1/2").contains("LATENCY/APISERVER/ETCD"));
    let mut table = Table::released();
    table.set("kcm.qps=100.5").expect("it is a rate");
    let parameters = Parameters::read(&table).expect("it is consistent");
    assert_eq!(
        parameters.kcm.qps,
        Rate {
            milli_per_s: 100_500
        }
    );
}

#[test]
fn an_unknown_profile_names_the_known_ones() {
    let error = Table::profile("fast")
        .expect_err("there is none")
        .to_string();
    assert!(error.contains("measured, event-model-check"), "{error}");
}

#[test]
fn prices_are_exact_at_the_measured_sizes_and_linear_between_and_beyond() {
    let prices = Prices::read("1:1/2/0 11:3/4/1", "ms").expect("two points");
    let ms = |latency, apiserver, etcd| Price {
        latency: Duration::from_micros(latency),
        apiserver: Duration::from_micros(apiserver),
        etcd: Duration::from_micros(etcd),
    };
    assert_eq!(prices.at(0), ms(1000, 2000, 0));
    assert_eq!(prices.at(1), ms(1000, 2000, 0));
    assert_eq!(prices.at(6), ms(2000, 3000, 500));
    assert_eq!(prices.at(11), ms(3000, 4000, 1000));
    assert_eq!(prices.at(21), ms(5000, 6000, 2000));
    assert!(
        Prices::read("2:1/2/0 2:1/2/0", "ms").is_err(),
        "sizes must increase"
    );
}

#[test]
fn a_rival_profile_fits_exactly_one_number_and_measured_none() {
    for name in RIVALS {
        let table = Table::profile(name).expect("a built-in profile");
        let wanted = usize::from(name != "measured");
        assert_eq!(table.fitted().count(), wanted, "{name}");
        for key in table.fitted() {
            assert!(table.entries[key].range.is_some(), "{name}: {key}");
        }
    }
}

#[test]
fn a_profile_with_two_fitted_numbers_is_refused() {
    let mut table = Table::released();
    for key in ["kcm.qps", "kubelet.qps"] {
        assert_eq!(table.check_fitted("mine"), Ok(()));
        table.entries.get_mut(key).expect("it exists").kind = Kind::Fitted;
    }
    let error = table.check_fitted("mine").expect_err("two").to_string();
    assert!(error.contains("kcm.qps and kubelet.qps"), "{error}");
}

#[test]
fn a_factor_scales_a_price_exactly() {
    let factor = Factor::read("2.5", "times").expect("a factor");
    assert_eq!(
        factor.of(Duration::from_nanos(1_000_001)),
        Duration::from_nanos(2_500_002)
    );
    assert!(Factor::read("1.0005", "times").is_err());
}
