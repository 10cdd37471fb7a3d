//! What is typed for a new experiment.

use genesis_client::parameters::is_name;

/// The most bytes of a value.
pub(crate) const VALUE_LIMIT: usize = 1_024;

/// The variant's share, in hundredths of a percent: 1 to 9,999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split(pub(in crate::commands) u32);

/// All units, in hundredths of a percent.
const ALL: u32 = 10_000;

/// Such as "80/20" or "99.5/0.5". Exact: a float has no hundredths.
pub(in crate::commands) fn split(text: &str) -> Result<Split, String> {
    let hint = "write control/variant in percent, such as 80/20 or 99.5/0.5";
    let (control, variant) = text.trim().split_once('/').ok_or(hint)?;
    let (control, variant) = (basis_points(control, hint)?, basis_points(variant, hint)?);
    let all = control.saturating_add(variant);
    if all != ALL {
        return Err(format!("the shares add up to {} %, not to 100 %", percent(all)));
    }
    match (control, variant) {
        (_, 0) => Err("without units for the variant there is nothing to compare".to_owned()),
        (0, _) => Err("without units for the control there is nothing to compare".to_owned()),
        _ => Ok(Split(variant)),
    }
}

/// A share in percent, to the hundredth.
fn basis_points(text: &str, hint: &str) -> Result<u32, String> {
    let text = text.trim().trim_end_matches('%').trim_end();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(format!("{text:?} is no share: {hint}"));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 2 {
        return Err(format!(
            "{text} % is finer than a hundredth of a percent, which is the finest"
        ));
    }
    let hundredths = format!("{fraction:0<2}").parse::<u32>().unwrap_or_default();
    match whole.parse::<u32>() {
        Ok(whole) if whole <= 100 => Ok(whole * 100 + hundredths),
        _ => Err(format!("{text} % is more than all units")),
    }
}

/// Hundredths of a percent, such as "99.5".
pub(in crate::commands) fn percent(basis_points: u32) -> String {
    let (whole, rest) = (basis_points / 100, basis_points % 100);
    let text = format!("{whole}.{rest:02}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Such as "threshold:0.003": what stands behind the first colon is the value, whatever it is.
pub(in crate::commands) fn trial(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME:VALUE, such as threshold:0.003")?;
    Ok((parameter(name)?, bounded(value)?))
}

/// Such as "threshold=0.003".
pub(crate) fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, such as threshold=0.003")?;
    Ok((parameter(name)?, bounded(value)?))
}

/// The name of a strategy.
pub(crate) fn strategy(text: &str) -> Result<String, String> {
    named("a strategy", text)
}

/// The name of a parameter.
pub(crate) fn parameter(text: &str) -> Result<String, String> {
    named("a parameter", text.trim())
}

fn named(what: &str, text: &str) -> Result<String, String> {
    let known = is_name(text).then(|| text.to_owned());
    known.ok_or_else(|| format!("{what} is 1 to 64 of a-z, A-Z, 0-9 and -_"))
}

fn bounded(value: &str) -> Result<String, String> {
    if value.len() > VALUE_LIMIT {
        return Err(format!("the value has {} bytes, {VALUE_LIMIT} are allowed", value.len()));
    }
    Ok(value.to_owned())
}

/// A share such as "10%" or "0.1".
fn share(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, divisor) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let parsed = number.parse::<f64>().ok().filter(|number| number.is_finite());
    parsed.map(|number| number / divisor).ok_or_else(|| "write 10% or 0.1".to_owned())
}

/// A lift above 0.
pub(in crate::commands) fn gain(text: &str) -> Result<f64, String> {
    let lift = share(text)?;
    if lift > 0.0 { Ok(lift) } else { Err("a promotion needs a lift above 0".to_owned()) }
}

/// A lift below 0.
pub(in crate::commands) fn loss(text: &str) -> Result<f64, String> {
    let lift = share(text)?;
    if lift < 0.0 { Ok(lift) } else { Err("a rollback needs a lift below 0".to_owned()) }
}

/// Cohen's d. 0 would stand for the procedures' number.
pub(in crate::commands) fn effect(text: &str) -> Result<f64, String> {
    let parsed = text.trim().parse::<f64>().ok();
    parsed.filter(|d| *d > 0.0 && d.is_finite()).ok_or_else(|| "write a number above 0".to_owned())
}

pub(in crate::commands) fn alpha(text: &str) -> Result<f64, String> {
    let alpha = share(text)?;
    if alpha > 0.0 && alpha < 1.0 { Ok(alpha) } else { Err("it lies between 0 and 1".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_exact_and_say_what_is_wrong() {
        for (text, variant) in [
            ("90/10", 1_000),
            ("80/20", 2_000),
            ("99.5/0.5", 50),
            ("99.99/0.01", 1),
            ("0.01/99.99", 9_999),
            (" 50 / 50 ", 5_000),
            ("66.67%/33.33%", 3_333),
            ("89.90/10.10", 1_010),
        ] {
            assert_eq!(split(text), Ok(Split(variant)), "{text}");
        }
        for (text, why) in [
            ("0/100", "without units for the control"),
            ("100/0", "without units for the variant"),
            ("120/-20", "more than all units"),
            ("-20/120", "no share"),
            ("120/20", "more than all units"),
            ("80/30", "add up to 110 %"),
            ("80/19.5", "add up to 99.5 %"),
            ("0/0", "add up to 0 %"),
            ("99.995/0.005", "finer than a hundredth"),
            ("80", "control/variant"),
            ("80/", "no share"),
            ("/20", "no share"),
            ("eighty/20", "no share"),
            ("80/20/0", "no share"),
            ("80,5/19,5", "no share"),
            ("1e1/90", "no share"),
            ("99999999999/1", "more than all units"),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn shares_names_and_values() {
        assert_eq!((gain("10%"), gain("0.1"), loss(" -10 %")), (Ok(0.1), Ok(0.1), Ok(-0.1)));
        for bad in ["-10%", "0", "NaN", "inf", "ten"] {
            assert!(gain(bad).is_err(), "{bad}");
        }
        assert!(loss("10%").is_err() && loss("0").is_err());
        assert!(alpha("5%").is_ok() && alpha("1").is_err() && alpha("0").is_err());
        assert!(effect("0.2").is_ok() && effect("0").is_err() && effect("NaN").is_err());
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(trial("url:http://a:1"), pair("url", "http://a:1"));
        assert_eq!(trial("empty:"), pair("empty", ""));
        assert_eq!(assignment("a=b=c"), pair("a", "b=c"));
        for bad in ["threshold", "no name:1", ":1", &format!("a:{}", "x".repeat(1_025))] {
            assert!(trial(bad).is_err(), "{bad}");
        }
        assert!(assignment("a:1").is_err());
    }
}
