//! Errors as a CNI caller sees them: a code, one line, and a document on stdout. The one place
//! where failures of the core become documents.

use crate::core::exchange::Failure;

use super::version::SpecVersion;

/// An error of a CNI call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// The code: below 100 from the specification, from 100 on Berth's own.
    pub code: u32,
    /// One line for people.
    pub message: String,
}

impl CniError {
    /// The configuration has a version that is not served, or that has not this verb.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The configuration has a key that is not served.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The input is no JSON of the expected form.
    pub const DECODE: u32 = 6;
    /// STATUS: no ADD can be served.
    pub const NOT_AVAILABLE: u32 = Failure::NOT_AVAILABLE;

    /// An error with that code.
    pub fn new(code: u32, message: impl AsRef<str>) -> Self {
        Self {
            code,
            message: one_safe_line(message.as_ref()),
        }
    }

    /// An error in the environment.
    pub fn environment(message: impl AsRef<str>) -> Self {
        Self::new(Failure::INVALID_ENVIRONMENT, message)
    }

    /// An error in the configuration.
    pub fn configuration(message: impl AsRef<str>) -> Self {
        Self::new(Failure::INVALID_CONFIGURATION, message)
    }

    /// The document for stdout.
    pub fn document(&self, version: SpecVersion) -> String {
        serde_json::json!({
            "cniVersion": version.as_str(),
            "code": self.code,
            "msg": self.message,
        })
        .to_string()
    }
}

impl From<Failure> for CniError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code, failure.message)
    }
}

/// Units: bytes. Longer messages are cut; they may quote what a tenant wrote.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The words by which container runtimes take an error of DEL for "already gone", and would then
/// drop it (go-cni's `Remove`). What stands here in their place says the same to people.
const REPLACED: [(&str, &str); 2] = [
    ("not found", "absent"),
    ("no such file or directory", "absent path"),
];

/// The text without line breaks and without the words that runtimes act on.
fn one_safe_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    for (words, instead) in REPLACED {
        while let Some(at) = line.to_ascii_lowercase().find(words) {
            line.replace_range(at..at + words.len(), instead);
        }
    }
    if line.len() > MESSAGE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(MESSAGE_BYTES_MAX));
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_reads_like_something_already_gone() {
        for text in [
            "pool a not found",
            "NOT FOUND",
            "open /x: No such file or directory (os error 2)",
            "no such\nfile or directory",
            "nonot foundt found",
        ] {
            let error = CniError::new(5, text);
            let printed = error.document(SpecVersion::NEWEST).to_lowercase();
            for (words, _) in REPLACED {
                assert!(!printed.contains(words), "{printed}");
            }
        }
    }

    #[test]
    fn an_error_document_has_the_fields_of_the_specification() {
        let document = CniError::new(11, "later").document(SpecVersion::V0_4_0);
        let value: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"cniVersion": "0.4.0", "code": 11, "msg": "later"})
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = CniError::new(7, "ä".repeat(4000));
        assert!(error.message.len() <= MESSAGE_BYTES_MAX + 3);
    }
}
