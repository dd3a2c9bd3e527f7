//! Progress bars: on a terminal one that a person can watch, elsewhere nothing. They count; what is
//! counted goes on without them.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of this length, with these words behind it (`{pos}`, `{len}`, `{eta}`, `{per_sec}`,
/// `{msg}`); a hidden one where nobody looks at standard error.
pub fn bar(length: u64, words: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{bar:30}} {words}"))
        .expect("a template is constant and well formed");
    ProgressBar::new(length).with_style(style)
}
