//! Progress bars: on a terminal only, on standard error, gone when the work is.

use genesis_client::v1::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::render::clean;

const REDRAWS_A_SECOND: u8 = 10;

/// A progress bar, or nothing where none may be drawn. It is cleared when dropped.
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A bar labelled `what`, drawn only if `visible`.
    pub(crate) fn new(visible: bool, what: &str) -> Self {
        let bar = visible.then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_A_SECOND);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(spinner());
            bar.set_message(clean(what).into_owned());
            bar
        });
        Self { bar }
    }

    /// Shows what an agent reported.
    pub(crate) fn report(&self, progress: &Progress) {
        let Some(bar) = &self.bar else { return };
        if !progress.message.is_empty() {
            bar.set_message(clean(&progress.message).into_owned());
        }
        bar.set_prefix(clean(&progress.unit).into_owned());
        self.at(progress.done, progress.total, progress.unit == "bytes");
    }

    /// Shows how many bytes of about how many have come.
    pub(crate) fn bytes(&self, done: u64, total: u64) {
        self.at(done, total, true);
    }

    fn at(&self, done: u64, total: u64, bytes: bool) {
        let Some(bar) = &self.bar else { return };
        if total > 0 && bar.length() != Some(total.max(done)) {
            bar.set_length(total.max(done));
            bar.set_style(if bytes { byte_bar() } else { count_bar() });
        }
        bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressStyle {
    style("{spinner} {msg}")
}

fn count_bar() -> ProgressStyle {
    style("{msg} [{bar:30}] {human_pos}/{human_len} {prefix} {eta}")
}

fn byte_bar() -> ProgressStyle {
    style("{msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}")
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants above; a test draws each.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid_and_an_invisible_bar_takes_everything() {
        for template in
            ["{spinner} {msg}", "{msg} [{bar:30}] {human_pos}/{human_len} {prefix} {eta}"]
        {
            ProgressStyle::with_template(template).unwrap();
        }
        let bar = Bar::new(false, "x");
        bar.bytes(5, 3);
        bar.report(&Progress {
            done: 9,
            total: 1,
            unit: "bytes".into(),
            message: "\u{1b}[2J".into(),
        });
        // Drawn nowhere, but through every style.
        let bar = Bar { bar: Some(ProgressBar::hidden()) };
        bar.bytes(1, 10);
        bar.report(&Progress { done: 2, total: 10, unit: "segments".into(), message: "m".into() });
    }
}
