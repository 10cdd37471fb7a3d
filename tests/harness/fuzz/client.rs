//! What the client reads: the words of a command, arguments of experiments, and files of lines that are pushed.

use std::time::Duration;

use genesis_client::Node;
use genesisctl::fuzzing::{Argument, Lines, argument, command, lines, percent};

use super::text;

/// So many words a command has at most here.
const WORDS: usize = 64;

/// A byte of flags, a number of bytes, then a file: read in pieces of so many bytes it is what it is as a whole, and each
/// good line is a row.
pub fn pushed_lines(data: &[u8]) {
    let Some(([flags, piece], bytes)) = data.split_first_chunk::<2>() else { return };
    let of = match flags & 3 {
        0 => Lines::Observations,
        1 => Lines::Trades,
        _ => Lines::Values,
    };
    let how = (flags & 4 != 0, flags & 8 != 0);
    let whole = lines(of, how, bytes, 1 << 16);
    assert_eq!(lines(of, how, bytes, usize::from(*piece)), whole);
    assert!(whole.bad.is_sorted_by_key(|(line, _)| *line));
    // A line of series has a value for each of several.
    if of != Lines::Values {
        assert_eq!(whole.rows, whole.good);
    }
}

/// The words of a command, one in each line: what is none is said to be, and a node is the one that it is shown as.
pub fn client_arguments(data: &[u8]) {
    let text = text(data);
    let given = text.lines().take(WORDS).map(str::to_owned);
    let words: Vec<String> = std::iter::once("genesisctl".to_owned()).chain(given).collect();
    if let Err(why) = command(&words) {
        assert!(!why.trim().is_empty(), "{words:?} are refused without a word");
    }
    for word in &words {
        if let Ok(node) = word.parse::<Node>() {
            assert_eq!(node.to_string().parse::<Node>(), Ok(node));
        }
    }
}

/// A text as an argument of each kind: it is within what the kind allows, and the same as it is shown.
pub fn experiment_arguments(data: &[u8]) {
    let read = argument(&text(data));
    if let Some(split) = read.split {
        assert!((1..10_000).contains(&split));
        let shown = format!("{}/{}", percent(10_000 - split), percent(split));
        assert_eq!(argument(&shown).split, Some(split), "{shown}");
    }
    if let Some((name, value)) = &read.trial {
        assert_eq!(argument(&format!("{name}:{value}")).trial, read.trial);
    }
    if let Some((name, value)) = &read.assignment {
        assert_eq!(argument(&format!("{name}={value}")).assignment, read.assignment);
    }
    let Argument { gain, loss, effect, alpha, batches, timeout, .. } = &read;
    assert!(gain.is_none_or(|lift| lift > 0.0 && lift.is_finite()));
    assert!(loss.is_none_or(|lift| lift < 0.0 && lift.is_finite()));
    assert!(effect.is_none_or(|effect| effect > 0.0 && effect.is_finite()));
    assert!(alpha.is_none_or(|alpha| alpha > 0.0 && alpha < 1.0));
    if let Some(sizes) = batches {
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(!sizes.contains(&0));
    }
    assert!(timeout.is_none_or(|timeout| timeout >= Duration::from_millis(1)));
}
