//! What is wanted of the figures.

use crate::table::Figures;

/// The goals that have been looked at.
#[derive(Debug, Default)]
pub(crate) struct Goals {
    missed: usize,
}

impl Goals {
    /// Prints whether the median of `found` is at most `most`.
    pub(crate) fn at_most(&mut self, what: &str, most: f64, unit: &str, found: &Figures) {
        let reached = found.median() <= most;
        self.judge(&format!("{what} <= {most}{unit}"), unit, found, reached);
    }

    /// Prints whether the median of `found` is at least `least`.
    pub(crate) fn at_least(&mut self, what: &str, least: f64, unit: &str, found: &Figures) {
        let reached = found.median() >= least;
        self.judge(&format!("{what} >= {least}{unit}"), unit, found, reached);
    }

    fn judge(&mut self, goal: &str, unit: &str, found: &Figures, reached: bool) {
        let verdict = if reached { "reached" } else { "missed" };
        self.missed += usize::from(!reached);
        let (low, high) = found.interval();
        let median = found.median();
        println!("goal: {goal}: {verdict} ({median:.3}{unit}, between {low:.3} and {high:.3})");
    }

    /// Returns how many were missed.
    pub(crate) fn missed(&self) -> usize {
        self.missed
    }
}
