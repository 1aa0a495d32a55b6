//! Rounds: each peer has a slice in every one of them, so that a slow moment of the machine counts for all.

use session_peers::{Failed, Order, Tally};

use crate::aigis::Core;
use crate::peer::{Pair, Peer};
use crate::table::{self, Figures};

/// Peers that are ready, and the core that some of them call.
pub(crate) struct Field {
    // End before the core does.
    pairs: Vec<(Peer, Pair)>,
    _core: Core,
}

/// What was found of one peer, a round each; times in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) p50: Figures,
    pub(crate) p99: Figures,
    pub(crate) mean: Figures,
    /// Calls per second of all callers.
    pub(crate) rate: Figures,
    /// Calls per second of one caller, were it to do nothing between them, such as to check what came back.
    pub(crate) pace: Figures,
}

impl Tallies {
    pub(crate) fn push(&mut self, tally: &Tally) {
        self.p50.push(tally.p50 / 1e3);
        self.p99.push(tally.p99 / 1e3);
        self.mean.push(tally.mean / 1e3);
        self.rate.push(tally.rate);
        self.pace.push(1e9 / tally.mean);
    }
}

/// What was found of all of them.
pub(crate) struct Found {
    rounds: usize,
    rows: Vec<(Peer, Tallies)>,
}

impl Field {
    /// Starts the peers.
    pub(crate) fn start(peers: &[Peer]) -> Result<Self, Failed> {
        let core = Core::start()?;
        let start = |peer: &Peer| Pair::start(*peer, core.home()).map(|pair| (*peer, pair));
        let pairs = peers.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { pairs, _core: core })
    }

    /// Gives each peer a slice in every round.
    pub(crate) fn run(&mut self, rounds: usize, order: &Order) -> Result<Found, Failed> {
        let rows = self.pairs.iter();
        let rows = rows.map(|(peer, _)| (*peer, Tallies::default()));
        let mut rows: Vec<_> = rows.collect();
        for round in 0..rounds {
            // Each is first, and each follows each other one, about equally often.
            let count = rows.len();
            for turn in 0..count {
                let place = (turn + round) % count;
                let (peer, pair) = &mut self.pairs[place];
                let tally = pair.slice(order);
                let tally = tally.map_err(|error| format!("{}: {error}", peer.name()))?;
                rows[place].1.push(&tally);
            }
        }
        Ok(Found { rounds, rows })
    }
}

impl Found {
    /// Returns what was found of a peer.
    ///
    /// # Panics
    /// If it was not measured.
    pub(crate) fn of(&self, peer: Peer) -> &Tallies {
        let mut rows = self.rows.iter();
        let row = rows.find(|(measured, _)| *measured == peer);
        &row.expect("it is among the peers that were started").1
    }

    /// Prints a table.
    pub(crate) fn print(&self, title: &str, unit: &str, figures: fn(&Tallies) -> &Figures) {
        self.print_each(title, unit, |tallies| figures(tallies).clone());
    }

    /// Prints a table of what is made of the figures.
    pub(crate) fn print_each(
        &self,
        title: &str,
        unit: &str,
        figures: impl Fn(&Tallies) -> Figures,
    ) {
        table::head(&format!("{title}, {} rounds", self.rounds), unit);
        for (peer, tallies) in &self.rows {
            figures(tallies).print(peer.name());
        }
    }
}
