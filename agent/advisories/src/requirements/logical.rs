//! The lines as pip sees them, with the way back to the bytes of the file.

/// A line, joined over backslashes, without a comment.
#[derive(Debug)]
pub(super) struct Logical {
    /// The number of its first line in the file, from 1.
    pub(super) line: usize,
    pub(super) text: String,
    /// Where in `text` a part begins, and where that is in the file.
    parts: Vec<(usize, usize)>,
}

impl Logical {
    /// Where in the file the byte at `at` of the text is.
    pub(super) fn place(&self, at: usize) -> usize {
        let part = self.parts.iter().rev().find(|(start, _)| *start <= at);
        part.map_or(at, |(start, place)| place + (at - start))
    }

    /// Where in the file the text ends that ends before `end`: right behind its last byte.
    pub(super) fn end(&self, end: usize) -> usize {
        end.checked_sub(1).map_or_else(|| self.place(0), |last| self.place(last) + 1)
    }
}

/// The lines that are not empty.
pub(super) fn lines(text: &str) -> Vec<Logical> {
    let mut found = Vec::new();
    let mut open: Option<Logical> = None;
    let mut start = 0;
    // A byte order mark is no part of the first line.
    if text.starts_with('\u{feff}') {
        start = '\u{feff}'.len_utf8();
    }
    let mut number = 0;
    while start < text.len() {
        number += 1;
        let rest = &text[start..];
        let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let line = &rest[..length];
        let ending = if rest[length..].starts_with("\r\n") { 2 } else { 1 };
        let comment = line.trim_start().starts_with('#');
        let logical = open.get_or_insert_with(|| Logical {
            line: number,
            text: String::new(),
            parts: Vec::new(),
        });
        // A comment ends a line that was to go on.
        let goes_on = line.ends_with('\\') && !comment;
        if !comment {
            logical.parts.push((logical.text.len(), start));
            logical.text.push_str(line.trim_end_matches('\\'));
        }
        if !goes_on {
            found.extend(open.take());
        }
        start += length + ending;
    }
    found.extend(open);
    for logical in &mut found {
        let end = comment_start(&logical.text);
        logical.text.truncate(end);
        logical.text.truncate(logical.text.trim_end().len());
    }
    found.retain(|logical| !logical.text.is_empty());
    found
}

/// A comment begins at a `#` after a blank.
fn comment_start(text: &str) -> usize {
    let mut before = ' ';
    for (at, letter) in text.char_indices() {
        if letter == '#' && before.is_whitespace() {
            return at;
        }
        before = letter;
    }
    text.len()
}
