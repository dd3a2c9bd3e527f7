//! A text of others as part of one line of ours: what a Pod's owner, an apiserver or a kernel wrote
//! makes no second line of the log and moves no terminal's cursor. The one place for that.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal or a reader of lines may do something with it.
fn is_active(c: char) -> bool {
    // Cc; the line and paragraph separators; what turns the direction of what follows.
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with everything active written out, as `\n` or `\u{1b}`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_active(c) {
            write!(line, "{}", c.escape_default()).expect("writing to a String succeeds");
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_begin_a_line_or_move_a_cursor_is_written_out_and_nothing_else_is() {
        for plain in ["", "pool \"a\" is full", "Straße 東京 \\n", "10.0.0.1/24"] {
            assert_eq!(one_line(plain), plain);
        }
        let hostile = "a\nb\r\u{1b}[2Jc\u{85}d\u{2028}e\u{202e}f\0";
        assert_eq!(
            one_line(hostile),
            "a\\nb\\r\\u{1b}[2Jc\\u{85}d\\u{2028}e\\u{202e}f\\u{0}"
        );
    }
}
