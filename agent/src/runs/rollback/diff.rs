//! What changes from one text to another. Pure.

/// A unified diff's body, by the longest common subsequence; such texts are small.
pub fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // Bounded: beyond this the whole text is shown as replaced.
    if old.len() * new.len() > 4_000_000 {
        let removed = old.iter().map(|line| format!("-{line}\n"));
        return removed.chain(new.iter().map(|line| format!("+{line}\n"))).collect();
    }
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for (row, before) in old.iter().enumerate().rev() {
        for (column, after) in new.iter().enumerate().rev() {
            common[row][column] = if before == after {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut text) = (0, 0, String::new());
    while row < old.len() || column < new.len() {
        if row < old.len() && column < new.len() && old[row] == new[column] {
            text.push_str(&format!(" {}\n", old[row]));
            (row, column) = (row + 1, column + 1);
        } else if column == new.len()
            || (row < old.len() && common[row + 1][column] >= common[row][column + 1])
        {
            text.push_str(&format!("-{}\n", old[row]));
            row += 1;
        } else {
            text.push_str(&format!("+{}\n", new[column]));
            column += 1;
        }
    }
    text
}

/// The same of values, a line each.
pub fn values(lines: &[(&str, &str, &str)]) -> String {
    let differs = lines.iter().filter(|(_, old, new)| old != new);
    differs.map(|(name, old, new)| format!("-{name}: {old}\n+{name}: {new}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diff_shows_what_changes_and_what_stays() {
        assert_eq!(unified("a\nb\nc", "a\nx\nc\nd"), " a\n-b\n+x\n c\n+d\n");
        assert_eq!(unified("", "a"), "+a\n");
        assert_eq!(values(&[("a", "1", "1"), ("b", "1", "2")]), "-b: 1\n+b: 2\n");
    }
}
