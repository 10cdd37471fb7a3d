//! `matrix show --format`: a matrix as a file for other programs.

use std::fmt::Write as _;

use super::super::incomplete_answer;
use super::square::Square;
use super::{FileType, Show, show};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::outfile::OutFile;
use crate::render::{self, Answer, View};

pub(super) async fn export(
    session: &Session<'_>,
    arguments: &Show,
    format: FileType,
) -> Result<Exit, Halt> {
    session.one_node("matrix show --format")?;
    let out = arguments.out.as_deref();
    if !session.for_people() && out.is_none() {
        return Err(Halt::Usage(
            "a file of values is no JSON, which has them as well: add --out FILE for it, or leave -o or --format out"
                .into(),
        ));
    }
    let terminal = session.console(|console| console.stdout_terminal);
    if format == FileType::Npy && out.is_none() && terminal {
        return Err(Halt::Usage(
            "an array of NumPy is nothing for a terminal: add --out FILE, or redirect it".into(),
        ));
    }
    session
        .each(|client| async move {
            // Refused before the agent is put to work.
            let replace = session.global.yes;
            let file = out.map(|path| OutFile::create(path, replace)).transpose()?;
            let mut found = show::get(&client, arguments).await?;
            let json = session.json("GetMatrixResponse", &found)?;
            let matrix = found.matrix.take().ok_or_else(|| incomplete_answer("the values"))?;
            let (version, digest) = (matrix.version, matrix.digest.clone());
            let square = Square::of_message(matrix)?;
            let data = match format {
                FileType::Csv => csv(&square).into_bytes(),
                FileType::Npy => npy(&square),
            };
            match file {
                Some(mut file) => {
                    file.write(&data)?;
                    file.commit()?;
                }
                None => session.console(|console| {
                    render::file(console, &data)?;
                    render::flush(console)
                })?,
            }
            if session.for_people() && (out.is_some() || format == FileType::Npy) {
                let size = square.size();
                let digest = if digest.is_empty() { digest } else { format!(", digest {digest}") };
                session.note(&format!("exported version {version}, {size} x {size}{digest}"));
            }
            if format == FileType::Npy {
                // The version is named, for another one may be active by then.
                session.note(&format!(
                    "an .npy has no names: `genesisctl matrix show --version {version} --format csv | head -n1` has \
                     them, in the order of rows and columns"
                ));
            }
            Ok(Answer::new(json, View::default()))
        })
        .await
}

/// A square with the names in the first line and the first column. Read again, each value is the same to the bit.
fn csv(square: &Square) -> String {
    let mut text = String::from("series");
    for name in square.names() {
        let _ = write!(text, ",{}", field(name));
    }
    text.push('\n');
    for (i, name) in square.names().iter().enumerate() {
        text.push_str(&field(name));
        for j in 0..square.size() {
            match square.get(i, j) {
                // The fewest digits that are this number and no other.
                Some(value) => {
                    let _ = write!(text, ",{value:?}");
                }
                None => text.push(','),
            }
        }
        text.push('\n');
    }
    text
}

/// As RFC 4180 has it. Names as agents allow them need no quotes.
fn field(name: &str) -> String {
    match name.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    }
}

/// NumPy's format, version 1.0: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
fn npy(square: &Square) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    /// The values begin at a multiple of it.
    const ALIGNMENT: usize = 64;
    let size = square.size();
    let mut header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({size}, {size}), }}");
    // Its length in two bytes stands before it, and it ends with a line.
    let before = MAGIC.len() + 2;
    let whole = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.push_str(&" ".repeat(whole - before - header.len() - 1));
    header.push('\n');
    let mut data = Vec::with_capacity(whole + 8 * size * size);
    data.extend_from_slice(MAGIC);
    // Some 100 bytes, whatever the size.
    data.extend_from_slice(&(header.len() as u16).to_le_bytes());
    data.extend_from_slice(header.as_bytes());
    for i in 0..size {
        for j in 0..size {
            data.extend_from_slice(&square.get(i, j).unwrap_or(f64::NAN).to_le_bytes());
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(upper: &[f64], names: &[&str]) -> Square {
        Square::of(names.iter().map(|name| (*name).to_owned()).collect(), upper.to_vec()).unwrap()
    }

    #[test]
    fn a_csv_is_read_again_to_the_bit() {
        let values = [0.1 + 0.2, -1e-300, f64::NAN];
        let text = csv(&square(&values, &["a", "b,\"c\"", "d"]));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "series,a,\"b,\"\"c\"\"\",d");
        assert_eq!(lines[1], "a,1.0,0.30000000000000004,-1e-300");
        assert_eq!(lines[2], "\"b,\"\"c\"\"\",0.30000000000000004,1.0,");
        assert_eq!(csv(&square(&[], &[])), "series\n");
    }

    #[test]
    fn an_npy_has_an_aligned_header_of_any_size() {
        for count in [0_usize, 1, 2, 10, 100] {
            let names: Vec<_> = (0..count).map(|number| format!("s{number}")).collect();
            let upper = vec![0.5; count * count.saturating_sub(1) / 2];
            let data = npy(&Square::of(names, upper).unwrap());
            let length = usize::from(u16::from_le_bytes([data[8], data[9]]));
            assert_eq!((10 + length) % 64, 0);
            assert_eq!(data[10 + length - 1], b'\n');
            assert_eq!(data.len(), 10 + length + 8 * count * count);
        }
    }
}
