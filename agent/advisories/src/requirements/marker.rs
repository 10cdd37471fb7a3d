//! Whether a text is a marker of PEP 508. It is not evaluated, but one that is none may be a requirement that a stray
//! backslash has joined to the one before it, and would be lost.

/// The variables of the specification, of its later additions, and the old names that pip still takes.
const VARIABLES: [&str; 21] = [
    "python_version",
    "python_full_version",
    "os_name",
    "sys_platform",
    "platform_release",
    "platform_system",
    "platform_version",
    "platform_machine",
    "platform_python_implementation",
    "implementation_name",
    "implementation_version",
    "extra",
    "extras",
    "dependency_groups",
    "os.name",
    "sys.platform",
    "platform.version",
    "platform.machine",
    "platform.python_implementation",
    "python_implementation",
    "platform_node",
];
/// Longer ones first, since the shorter ones begin them.
const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

#[derive(PartialEq)]
enum Wanted {
    Left,
    Operator,
    /// The `in` of `not in`.
    In,
    Right,
    Joint,
}

/// Whether a text is comparisons of variables and quoted texts, joined by `and` and `or`, in parentheses that fit.
pub(super) fn is_marker(text: &str) -> bool {
    let mut wanted = Wanted::Left;
    let mut depth = 0_usize;
    let mut rest = text.trim_start();
    while let Some(token) = token(rest) {
        let value = VARIABLES.contains(&token) || token.starts_with(['"', '\'']);
        wanted = match (wanted, token) {
            (Wanted::Left, "(") => {
                depth += 1;
                Wanted::Left
            }
            (Wanted::Left, _) if value => Wanted::Operator,
            (Wanted::Operator, "in") => Wanted::Right,
            (Wanted::Operator, "not") => Wanted::In,
            (Wanted::Operator, operator) if OPERATORS.contains(&operator) => Wanted::Right,
            (Wanted::In, "in") => Wanted::Right,
            (Wanted::Right, _) if value => Wanted::Joint,
            (Wanted::Joint, "and" | "or") => Wanted::Left,
            (Wanted::Joint, ")") if depth > 0 => {
                depth -= 1;
                Wanted::Joint
            }
            _ => return false,
        };
        rest = rest[token.len()..].trim_start();
    }
    rest.is_empty() && depth == 0 && wanted == Wanted::Joint
}

/// The first token of a text without blanks before it.
fn token(text: &str) -> Option<&str> {
    let first = text.chars().next()?;
    let length = match first {
        '(' | ')' => 1,
        '"' | '\'' => text[1..].find(first)? + 2,
        _ => match OPERATORS.iter().find(|operator| text.starts_with(**operator)) {
            Some(operator) => operator.len(),
            None => {
                let inside = |letter: char| letter.is_ascii_alphanumeric() || "._".contains(letter);
                text.find(|letter| !inside(letter)).unwrap_or(text.len())
            }
        },
    };
    text.get(..length).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_marker;

    #[test]
    fn markers() {
        for (text, expected) in [
            ("python_version < '3.9'", true),
            ("os_name=='nt'and(sys_platform != \"win32\" or 'a' in extra)", true),
            ("'linux' not in sys_platform", true),
            ("((os_name == 'a'))", true),
            ("", false),
            ("os_name", false),
            ("os_name == 'a' g==7", false),
            ("(os_name == 'a'", false),
            ("os_name == 'a')", false),
            ("os_name == 'a", false),
            ("os_name == 'a' and", false),
            ("x == 'a'", false),
            ("os_name not 'a'", false),
            ("é", false),
        ] {
            assert_eq!(is_marker(text), expected, "{text}");
        }
    }
}
