//! The file of a round: JSON that a person can read too, one line for each row of a table.

use core::fmt::Write as _;

use serde_json::{Value, json};

use super::Micros;

/// With one decimal.
pub(crate) fn milliseconds(time: Micros) -> Value {
    json!((time as f64 / 100.0).round() / 10.0)
}

/// With two decimals.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// What so many percent of them, in order, are at most; null when there are none.
pub(crate) fn rank(sorted: &[Micros], percent: usize) -> Value {
    match sorted.len().checked_sub(1) {
        Some(last) => milliseconds(sorted[last * percent / 100]),
        None => Value::Null,
    }
}

/// Median, nine of ten, greatest.
pub(crate) fn spread(times: &[Micros]) -> [Value; 3] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    [50, 90, 100].map(|percent| rank(&sorted, percent))
}

pub(crate) struct File {
    parts: Vec<(String, String)>,
}

impl File {
    /// Begins with the members of `head`, an object.
    pub(crate) fn new(head: Value) -> Self {
        let mut file = Self { parts: Vec::new() };
        let Value::Object(members) = head else {
            panic!("the head of a file is an object");
        };
        for (name, value) in members {
            file.set(&name, &value);
        }
        file
    }

    pub(crate) fn set(&mut self, name: &str, value: &Value) {
        self.parts.push((name.to_owned(), value.to_string()));
    }

    /// An object of `columns` and `rows`.
    pub(crate) fn table(&mut self, name: &str, columns: &[&str], rows: &[Vec<Value>]) {
        let mut text = format!("{{\"columns\": {}, \"rows\": [", json!(columns));
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row.len(), columns.len(), "a row of {name}");
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(text, "{comma}\n    {}", json!(row));
        }
        text.push_str("\n  ]}");
        self.parts.push((name.to_owned(), text));
    }

    pub(crate) fn text(&self) -> String {
        let parts = self.parts.iter();
        let parts: Vec<_> = parts
            .map(|(name, value)| format!("  \"{name}\": {value}"))
            .collect();
        format!("{{\n{}\n}}\n", parts.join(",\n"))
    }
}

#[test]
fn a_file_is_json_with_a_line_for_each_row() {
    let mut file = File::new(json!({"name": "n"}));
    file.table(
        "t",
        &["a", "b"],
        &[vec![json!(1), Value::Null], vec![json!("x"), json!(2.5)]],
    );
    file.table("empty", &["a"], &[]);
    let text = file.text();
    assert!(
        text.contains("\n    [1,null],\n    [\"x\",2.5]\n"),
        "{text}"
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["t"]["rows"][1], json!(["x", 2.5]));
}

#[test]
fn ranks_are_those_of_the_sorted() {
    assert_eq!(
        spread(&[3000, 1000, 2000]),
        [json!(2.0), json!(2.0), json!(3.0)]
    );
    assert_eq!(spread(&[]), [Value::Null, Value::Null, Value::Null]);
}
