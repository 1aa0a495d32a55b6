//! What comes in, frame by frame.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::{End, Errands, Link};
use crate::error::{Failure, FailureKind};
use crate::session::frame::{self, Call, Kind};
use crate::session::inbox::{Inbox, Look, Received};
use crate::session::waiting::Told;

/// What comes in.
impl Link {
    /// Reads what is there, or, if it `waits`, what comes during a nap; `false` when there is nothing
    /// more to be read.
    pub(super) fn look(&self, inbox: &mut Inbox, waits: bool, errands: &mut Errands) -> bool {
        let look = match self.take(inbox, errands) {
            Ok(true) => {
                let greeted = self.greeted.load(Ordering::Relaxed);
                let look = inbox.look(&self.socket, waits, greeted);
                self.take(inbox, errands).and(look)
            }
            Ok(false) => Ok(Look::Nothing),
            Err(failure) => Err(failure),
        };
        match look {
            Ok(Look::Some) => true,
            Ok(Look::Nothing) => false,
            Ok(Look::Closed) => {
                self.finish(End::Closed);
                false
            }
            Err(failure) => {
                self.refuse(failure);
                false
            }
        }
    }

    /// Takes the frames that are there, as far as there is room for the calls among them; `false` when
    /// some are left.
    fn take(&self, inbox: &mut Inbox, errands: &mut Errands) -> Result<bool, Failure> {
        loop {
            if inbox.begins_with_call() && errands.calls && !errands.waits && !self.has_room() {
                self.held.store(true, Ordering::SeqCst);
                return Ok(false);
            }
            match inbox.next() {
                Some(frame) => self.receive(frame, errands)?,
                None => return Ok(true),
            }
        }
    }

    /// Has what was held back taken, once there is room for it.
    pub(in crate::session) fn resume(&self) {
        // Who has let go of the inbox, or has made room, sees what was held back before.
        fence(Ordering::SeqCst);
        if self.held.load(Ordering::Acquire)
            && self.has_room()
            && self.held.swap(false, Ordering::AcqRel)
            && let Some(link) = self.me.upgrade()
        {
            let task = Box::new(move || link.ready_after(true));
            if let Err(error) = self.reactor.submit(task) {
                let message = format!("no thread can be started: {error}");
                self.refuse(Failure::new(FailureKind::Overloaded, message));
            }
        }
    }

    /// Takes a frame.
    pub(super) fn receive(&self, frame: Received, errands: &mut Errands) -> Result<(), Failure> {
        let Some(me) = self.me.upgrade() else {
            return Ok(());
        };
        let header = frame.header;
        if !self.greeted.load(Ordering::Relaxed) {
            return self.side.take(&me, frame);
        }
        match header.kind {
            Kind::Reply if self.end_ours(header.call, Ok(())) => {}
            Kind::Reply => self.tell(self.calls.complete(header.call, Ok(frame.body)), errands),
            Kind::Error if header.call == 0 => {
                self.finish(End::Refused(Failure::decode(&frame.body)));
            }
            Kind::Error => {
                let failure = Failure::decode(&frame.body);
                if self.end_ours(header.call, Err(failure.clone())) {
                    return Ok(());
                }
                self.tell(self.calls.complete(header.call, Err(failure)), errands);
            }
            Kind::Call => {
                let now = Instant::now();
                self.learn_pace(now);
                // Here, and not by whoever runs it: what comes behind it is to find the session ended.
                self.side.check(&Call::read(&frame.body)?)?;
                self.incoming.submit(&me, header, frame.body, now)?;
                errands.calls = true;
            }
            Kind::Cancel => {
                // The call may lie in the ring, whoever read the socket first.
                self.drain(errands)?;
                if header.timeout_ms == 0 {
                    self.incoming.cancel(header.call);
                    self.cancel_theirs(header.call);
                } else if let Some(pump) = self.streams.pump(header.call, header.timeout_ms) {
                    // It stands for the number of an argument that nobody wants any more.
                    pump.stop(None);
                }
            }
            Kind::Open | Kind::Item | Kind::More | Kind::End => {
                self.receive_streaming(&me, frame)?;
            }
            Kind::Goodbye if *frame.body == [frame::ALL_ANSWERED] => {
                // What was answered may lie in the ring.
                self.drain(errands)?;
                self.finish(End::HandedOver);
            }
            Kind::Goodbye => self.finish(End::Goodbye),
            Kind::Look => self.drain(errands)?,
            Kind::Ring if self.accepts.swap(false, Ordering::Relaxed) => {
                self.adopt(frame.descriptor)?;
            }
            _ => self.side.take(&me, frame)?,
        }
        Ok(())
    }

    /// Has the reactor see to what this thread, which waits for an answer of its own, must not.
    pub(super) fn hand_off(&self, errands: &mut Errands) {
        if std::mem::take(&mut errands.calls)
            && let Some(link) = self.me.upgrade()
        {
            let task = Box::new(move || link.incoming.work(&link));
            if let Err(error) = self.reactor.submit(task) {
                let message = format!("no thread can be started: {error}");
                self.refuse(Failure::new(FailureKind::Overloaded, message));
            }
        }
        if !errands.callbacks.is_empty() {
            let mut errands = Errands {
                callbacks: std::mem::take(&mut errands.callbacks),
                ..Errands::default()
            };
            // Without a thread the callbacks are dropped, which tells whoever waits for them.
            let _ = self.reactor.submit(Box::new(move || errands.call_back()));
        }
    }

    /// Tells whoever waits.
    pub(super) fn tell(&self, told: Told, errands: &mut Errands) {
        match told {
            Told::Done | Told::Nobody => {}
            Told::IsReading => {
                if let Some(shared) = self.ring.get() {
                    let _ = rustix::io::write(&shared.bell, &1_u64.to_ne_bytes());
                }
            }
            Told::Callback(done, outcome) => errands.callbacks.push((done, outcome)),
        }
    }

    /// Tells whoever waits, its callback on this thread.
    pub(super) fn tell_here(&self, told: Told) {
        let mut errands = Errands::default();
        self.tell(told, &mut errands);
        errands.call_back();
    }

    /// Notes when a call has come, and offers to share memory with a caller that does not pause.
    fn learn_pace(&self, now: Instant) {
        let answered = self.answered.swap(0, Ordering::Relaxed);
        if answered > 0 {
            self.next_call
                .took(Duration::from_nanos(self.at(now).saturating_sub(answered)));
        }
    }
}
