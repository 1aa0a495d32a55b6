//! Offers: what one side serves from now on, and the other side's answer.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Link;
use crate::abi::OnOutcome;
use crate::error::{Failure, FailureKind, timed_out};
use crate::session::frame::{self, Kind, Offer};

/// What an offer is called in errors.
const THE_OFFER: &str = "the offer";
/// How an offer is answered that is taken: nil.
const TAKEN: [u8; 1] = [0xc0];

impl Link {
    /// Says what this side serves from now on, and waits for the answer.
    ///
    /// # Errors
    /// Why the other side does not take it, or whatever ended the wait.
    pub fn offer(&self, offer: &Offer, timeout: Duration) -> Result<(), Failure> {
        let (sender, answer) = mpsc::channel();
        self.start_offer(
            offer,
            Box::new(move |outcome| {
                // Nobody listens any more when it took too long.
                let _ = sender.send(outcome);
            }),
        );
        match answer.recv_timeout(timeout) {
            Ok(outcome) => outcome.map(|_| ()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(timed_out(THE_OFFER, timeout)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Failure::new(
                FailureKind::Overloaded,
                "there is no thread that could take the answer to the offer",
            )),
        }
    }

    /// Does the same without waiting; `done` hears the answer on a thread that must not wait.
    pub fn start_offer(&self, offer: &Offer, done: OnOutcome) {
        let number = match self.calls.start(THE_OFFER, done) {
            Ok(number) => number,
            Err(done) => return done(Err(self.gone(THE_OFFER))),
        };
        match frame::encode_frame(Kind::Offer, number, 0, offer) {
            Ok(frame) => self.send(frame),
            Err(failure) => self.tell_here(self.calls.complete(number, Err(failure))),
        }
    }

    /// Answers the other side's offer of this number.
    pub fn answer_offer(&self, number: u64, outcome: Result<(), Failure>) {
        let now = Instant::now();
        self.answer_with(number, outcome.map(|()| TAKEN.to_vec()), now);
    }
}
