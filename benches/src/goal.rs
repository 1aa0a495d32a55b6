//! What is wanted of the figures.

/// The goals that have been looked at.
#[derive(Debug, Default)]
pub(crate) struct Goals {
    missed: usize,
}

impl Goals {
    /// Prints whether `found` is at most `most`.
    pub(crate) fn at_most(&mut self, what: &str, most: f64, unit: &str, found: f64) {
        self.judge(
            &format!("{what} <= {most}{unit}"),
            unit,
            found,
            found <= most,
        );
    }

    /// Prints whether `found` is at least `least`.
    pub(crate) fn at_least(&mut self, what: &str, least: f64, unit: &str, found: f64) {
        self.judge(
            &format!("{what} >= {least}{unit}"),
            unit,
            found,
            found >= least,
        );
    }

    fn judge(&mut self, goal: &str, unit: &str, found: f64, reached: bool) {
        let verdict = if reached { "reached" } else { "missed" };
        self.missed += usize::from(!reached);
        // A whole number is shown as one.
        let digits = if found.fract() == 0.0 { 0 } else { 2 };
        println!("goal: {goal}: {verdict} ({found:.digits$}{unit})");
    }

    /// Returns how many were missed.
    pub(crate) fn missed(&self) -> usize {
        self.missed
    }
}
