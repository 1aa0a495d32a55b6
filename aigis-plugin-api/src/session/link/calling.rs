//! Calls of this side, and the threads that wait for them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{End, Errands, Link, Outgoing, Sent, Shared};
use crate::abi::OnOutcome;
use crate::error::{Failure, cancelled, timed_out};
use crate::session::frame::{self, Kind};
use crate::session::inbox::Inbox;
use crate::session::lock;
use crate::session::outbox::Packet;
use crate::session::spin::{spin, spin_for_woken};
use crate::session::waiting::{Mode, Told, Waiter};

/// Calls of this side.
impl Link {
    /// Calls and waits, on this thread.
    ///
    /// # Errors
    /// Whatever ended the call.
    pub fn call(&self, call: Outgoing<'_>) -> Result<Vec<u8>, Failure> {
        let Outgoing {
            skill,
            begun,
            timeout,
            ..
        } = call;
        let heard = self.heard.load(Ordering::Relaxed);
        let pause = self.at(begun).saturating_sub(heard);
        self.own_call.took(Duration::from_nanos(pause));
        let deadline = begun.checked_add(timeout);
        let Some((number, waiter)) = self.calls.wait() else {
            return Err(self.gone(skill));
        };
        // Before the call goes out: the answer is not to wake another thread for nothing.
        let attended = self.ring.get().is_some_and(|it| it.ring.is_attended());
        let inbox = if attended && !call.in_order {
            None
        } else {
            self.try_inbox().inspect(|_| self.borrow())
        };
        let sent = match self.send_call(number, &call) {
            Ok(sent) => sent,
            Err(failure) => {
                self.calls.forget(number);
                if let Some(inbox) = inbox {
                    drop(inbox);
                    self.pass_on();
                }
                return Err(failure);
            }
        };
        let spun = match (sent, &inbox) {
            (Sent::Ring(position), None) => self.spin_for(&waiter, position, begun),
            _ => None,
        };
        let heard = match spun {
            Some(took) => begun + took,
            None => {
                self.wait(&waiter, inbox, deadline);
                Instant::now()
            }
        };
        self.heard.store(self.at(heard), Ordering::Relaxed);
        if waiter.is_done() {
            return waiter.take().unwrap_or_else(|| Err(self.gone(skill)));
        }
        if self.calls.forget(number) {
            self.send_cancel(number);
        } else if let Some(outcome) = waiter.take() {
            // It came at the last moment.
            return outcome;
        }
        Err(timed_out(skill, timeout))
    }

    /// Starts a call; `done` hears its outcome on a thread that must not wait.
    pub fn start_call(&self, call: Outgoing<'_>, done: OnOutcome) -> u64 {
        let skill = call.skill;
        let number = match self.calls.start(skill, done) {
            Ok(number) => number,
            Err(done) => {
                done(Err(self.gone(skill)));
                return 0;
            }
        };
        if let Err(failure) = self.send_call(number, &call) {
            self.tell_here(self.calls.complete(number, Err(failure)));
        }
        number
    }

    fn send_call(&self, number: u64, call: &Outgoing<'_>) -> Result<Sent, Failure> {
        let (arguments, tail) = (call.call.arguments, call.tail);
        let timeout_ms = frame::milliseconds(call.timeout);
        let len = arguments.len() + tail.len();
        let mut head = call.call.head(number, timeout_ms, arguments.len(), len)?;
        head.extend_from_slice(arguments);
        let packet = Packet::new(head, tail.to_vec());
        if call.in_order {
            self.push(packet);
            return Ok(Sent::Socket);
        }
        Ok(self.send_shortest(packet))
    }

    /// Gives up on a call that was started.
    pub fn cancel(&self, number: u64) {
        let told = self.calls.complete(number, Err(cancelled()));
        if !matches!(told, Told::Nobody) {
            self.send_cancel(number);
            self.tell_here(told);
        }
    }

    fn send_cancel(&self, number: u64) {
        // When the other side is gone there is nothing to cancel. Behind the call: what lies in the
        // ring is taken before a cancel that comes over the socket.
        if let Ok(cancel) = frame::frame(Kind::Cancel, number, 0, &[]) {
            self.send(cancel);
        }
    }

    pub(super) fn gone(&self, skill: &str) -> Failure {
        let end = self.end.get().unwrap_or(&End::Closed);
        super::lost(self.side.other(), skill, end)
    }

    /// Waits until the waiter has its outcome, or the time is over.
    /// `inbox`: this thread reads the socket already.
    fn wait<'l>(
        &'l self,
        waiter: &Arc<Waiter>,
        mut inbox: Option<MutexGuard<'l, Inbox>>,
        deadline: Option<Instant>,
    ) {
        while !waiter.is_done() {
            let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if let Some(mut reading) = inbox.take().or_else(|| self.try_inbox()) {
                self.lead(&mut reading, waiter, deadline);
                drop(reading);
                self.pass_on();
                if late() {
                    return;
                }
                continue;
            }
            self.calls.park(waiter);
            // Whoever read has stopped before it could see this one in the list.
            let free = self.try_inbox().is_some();
            if !free && waiter.set(Mode::Parked) {
                match deadline {
                    Some(deadline) => {
                        thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
                    }
                    None => thread::park(),
                }
                waiter.set(Mode::Awake);
            }
            let leads = !self.calls.unpark(waiter);
            if waiter.is_done() || late() {
                if leads {
                    self.pass_on();
                }
                return;
            }
        }
        // The outcome came by the ring before this thread has read anything.
        if let Some(reading) = inbox {
            drop(reading);
            self.pass_on();
        }
    }

    /// Looks at the ring for an answer, for a while; returns how long it took since the call was made,
    /// or has the other side look where the call lies at `position`.
    fn spin_for(&self, waiter: &Arc<Waiter>, position: u64, begun: Instant) -> Option<Duration> {
        let shared = self.ring.get()?;
        let mut took = None;
        if let Some(window) = self.answer.window()
            && let Some(taking) = shared.take()
        {
            shared.ring.attend();
            // Those that look share the cores: each gives way to the others, and waits for them.
            let crowd = shared.spinning.fetch_add(1, Ordering::Relaxed) + 1;
            let crowd = u32::try_from(crowd).unwrap_or(u32::MAX);
            let crowded = || shared.spinning.load(Ordering::Relaxed) > 1;
            let mut errands = Errands::of_waiter();
            let look = || {
                if !waiter.is_done()
                    && shared.ring.has_message()
                    && let Err(failure) = self.pop(&mut errands)
                {
                    self.refuse(failure);
                }
                waiter.is_done()
            };
            took = spin(begun, window * crowd, crowded, look);
            shared.spinning.fetch_sub(1, Ordering::Relaxed);
            // Even while others look: they may be about to stop as well.
            if shared.ring.leave()
                && let Err(failure) = self.drain(&mut errands)
            {
                self.refuse(failure);
            }
            drop(taking);
            self.hand_off(&mut errands);
            self.answer.took(took.unwrap_or(window * 2 * crowd) / crowd);
        }
        if took.is_none() && !waiter.is_done() && !shared.ring.is_taken(position) {
            // Whoever attended is busy with something else: another thread has to look.
            self.call_to_ring();
        }
        took
    }

    /// Reads the socket until the waiter has its outcome, or the time is over.
    fn lead(&self, inbox: &mut Inbox, waiter: &Arc<Waiter>, deadline: Option<Instant>) {
        self.borrow();
        let mut errands = Errands::of_waiter();
        self.look_out(inbox, waiter, &mut errands);
        let mut first = true;
        while waiter.set(Mode::Reading) && self.end.get().is_none() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let ring = self.ring.get();
            // Where nobody calls it away, the system may wait for the bytes right where they are read.
            let waits = std::mem::take(&mut first)
                && left.is_none_or(|left| left > self.nap)
                && ring.is_none_or(Shared::turn_deaf);
            if !waits {
                self.sleep(left);
            }
            self.look(inbox, waits, &mut errands);
            if waits && let Some(ring) = ring {
                ring.hear_again();
            }
            self.hand_off(&mut errands);
        }
        waiter.set(Mode::Awake);
    }

    /// Looks at the socket for a while before it sleeps there, if this side calls now and then: then the
    /// other side sleeps, and one wake-up is enough.
    fn look_out(&self, inbox: &mut Inbox, waiter: &Waiter, errands: &mut Errands) {
        if self.own_call.is_near() {
            return;
        }
        let Some(window) = self.late_answer.window() else {
            return;
        };
        let look = || {
            self.look(inbox, false, errands);
            waiter.is_done() || self.end.get().is_some()
        };
        let took = spin_for_woken(Instant::now(), window, look);
        self.late_answer.took(took.unwrap_or(window * 2));
        self.hand_off(errands);
    }

    /// Sleeps until the socket can be read, or somebody else has taken what this thread waits for.
    fn sleep(&self, left: Option<Duration>) {
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let socket = PollFd::new(&self.socket, PollFlags::IN);
        match self.ring.get() {
            None => {
                let _ = poll(&mut [socket], left.as_ref());
            }
            Some(shared) => {
                let bell = PollFd::new(&shared.bell, PollFlags::IN);
                let mut both = [socket, bell];
                let _ = poll(&mut both, left.as_ref());
                if both[1].revents().contains(PollFlags::IN) {
                    let _ = rustix::io::read(&shared.bell, &mut [0_u8; 8]);
                }
            }
        }
    }

    /// Has another thread that waits read the socket, or leaves it for the next one that does.
    fn pass_on(&self) {
        self.resume();
        if !self.calls.next_reader() {
            self.progress.fetch_add(1, Ordering::Relaxed);
            if lock(&self.interest).recalled {
                self.give_back();
            }
        }
    }
}
