//! Figures of several rounds, and tables in Markdown.

/// The figures of one row, a round each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Combines what two rows found in the same rounds: what slowed a round down slowed both of them.
    pub(crate) fn with(&self, other: &Self, combine: fn(f64, f64) -> f64) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(one, other)| combine(*one, *other)).collect())
    }

    /// Returns the middle figure.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        }
    }

    /// Prints a row: the median, the least and the greatest figure.
    pub(crate) fn print(&self, name: &str) {
        let sorted = self.sorted();
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        println!("| {name} | {:.2} | {least:.2} | {most:.2} |", self.median());
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Prints the head of a table of [`Figures`].
pub(crate) fn head(title: &str, unit: &str) {
    println!("\n| {title} | {unit}, median | min | max |\n|---|---:|---:|---:|");
}
