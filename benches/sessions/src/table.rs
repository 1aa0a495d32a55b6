//! Figures of several rounds, and tables in Markdown.

/// How sure an interval is to hold the median.
const SURE: f64 = 0.95;

/// The figures of one row, a round each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Divides what two rows found in the same rounds: what slowed a round down slowed both of them.
    pub(crate) fn over(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(one, other)| one / other).collect())
    }

    /// Returns what is made of each figure.
    pub(crate) fn map(&self, make: fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(make).collect())
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

    /// Returns between which two figures the true median is, [`SURE`] or surer; the least and the greatest if there are
    /// too few to tell.
    pub(crate) fn interval(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let count = sorted.len();
        // Each figure is above the true median or below it, as a coin falls: so how many of the figures are below it is
        // known as well as how often a coin falls on one side. `likely` is the likelihood of `below` times.
        let (mut likely, mut outside) = (0.5_f64.powf(count as f64), 0.0);
        let mut below = 0;
        while below < count / 2 && 2.0 * (outside + likely) <= 1.0 - SURE {
            outside += likely;
            likely *= (count - below) as f64 / (below + 1) as f64;
            below += 1;
        }
        // With `below` figures left out on each side, the median is outside with that likelihood at each.
        let cut = below.saturating_sub(1);
        (sorted[cut], sorted[count - 1 - cut])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(count: u32) -> Figures {
        Figures((1..=count).map(f64::from).collect())
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_the_sign_test() {
        // From the tables of the sign test, 95 %: ranks 4 and 12 of 15, 6 and 15 of 20, 1 and 6 of 6.
        assert_eq!(counted(15).interval(), (4.0, 12.0));
        assert_eq!(counted(20).interval(), (6.0, 15.0));
        assert_eq!(counted(6).interval(), (1.0, 6.0));
        assert_eq!(counted(3).interval(), (1.0, 3.0));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let ratios = Figures(vec![2.0, 9.0, 40.0]).over(&Figures(vec![1.0, 3.0, 10.0]));
        assert_eq!(ratios.median(), 3.0);
    }
}
