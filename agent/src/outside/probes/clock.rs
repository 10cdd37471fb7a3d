//! How wrong the kernel's clock may be.

use super::{Measured, Outcome};

/// What adjtimex(2) tells.
struct Facts {
    /// The bits `STA_*`.
    status: i32,
    /// Microseconds.
    max_error: i64,
    /// Microseconds.
    estimated_error: i64,
    /// Nanoseconds.
    offset: i64,
}

/// Milliseconds that the clock may be wrong by at most; infinite when nobody keeps it right.
///
/// The value is the kernel's `maxerror`, the root distance of NTP: half the way to the source of time and back, and
/// what every clock on that way may be wrong by. All daemons set it (chronyd, ntpd, systemd-timesyncd), and between
/// two of their corrections the kernel lets it grow by 0.5 ms a second, so that a daemon that has died is seen too.
/// The estimates say less: `esterror` is 0 with systemd-timesyncd, and what is left of `offset` to correct is always
/// about 0 with chronyd, which corrects by other means; both stand still when the daemon does.
///
/// # Errors
/// Why it can't be told, in words.
pub fn error() -> Outcome {
    judge(&facts()?)
}

#[allow(unsafe_code)] // No crate in the tree wraps adjtimex.
fn facts() -> Result<Facts, String> {
    // SAFETY: all zeros are a valid timex, whose fields are integers; without `modes` the call changes nothing, and
    // fills what it is handed for as long as the call lasts.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("the kernel does not tell about its clock: {error}"));
    }
    let unit = if timex.status & libc::STA_NANO == 0 { 1_000 } else { 1 };
    Ok(Facts {
        status: timex.status,
        max_error: timex.maxerror,
        estimated_error: timex.esterror,
        offset: timex.offset.saturating_mul(unit),
    })
}

fn judge(facts: &Facts) -> Outcome {
    if facts.status & libc::STA_UNSYNC != 0 {
        return Ok(Measured { value: f64::INFINITY, detail: "not synchronised".to_owned() });
    }
    if facts.max_error < 0 {
        return Err(format!("the kernel tells an error of {} us", facts.max_error));
    }
    let value = facts.max_error as f64 / 1_000.0;
    let estimated = facts.estimated_error as f64 / 1_000.0;
    let offset = facts.offset as f64 / 1_000_000.0;
    let detail = format!(
        "wrong by at most {value:.3} ms (estimated {estimated:.3} ms, {offset:.3} ms left to correct)"
    );
    Ok(Measured { value, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Facts =
        Facts { status: libc::STA_NANO, max_error: 12_500, estimated_error: 40, offset: -7_000 };

    #[test]
    fn the_bound_of_the_error_counts() {
        let measured = judge(&KEPT).unwrap();
        assert_eq!(measured.value, 12.5);
        let said = "wrong by at most 12.500 ms (estimated 0.040 ms, -0.007 ms left to correct)";
        assert_eq!(measured.detail, said);
        assert!(judge(&Facts { max_error: -1, ..KEPT }).is_err());
    }

    #[test]
    fn a_clock_that_nobody_keeps_may_be_wrong_by_anything() {
        let measured = judge(&Facts { status: libc::STA_UNSYNC | libc::STA_NANO, ..KEPT }).unwrap();
        assert_eq!((measured.value, measured.detail.as_str()), (f64::INFINITY, "not synchronised"));
    }

    #[test]
    fn the_kernel_is_asked() {
        // A container may be kept from asking.
        match error() {
            Ok(measured) => assert!(measured.value >= 0.0, "{measured:?}"),
            Err(why) => assert!(why.contains("does not tell"), "{why}"),
        }
    }
}
