//! What a thread of the reactor does with the socket, and what others have of it for a while.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{End, Errands, Link};
use crate::session::inbox::Inbox;
use crate::session::lock;
use crate::session::outbox::Written;
use crate::session::reactor::Watched;

impl Watched for Link {
    fn ready(self: Arc<Self>) {
        self.ready_after(false);
    }

    fn reclaim(&self) -> bool {
        const LONG: u32 = 5;
        let progress = self.progress.load(Ordering::Relaxed);
        let mut seen = lock(&self.seen);
        if seen.0 != progress {
            *seen = (progress, 0);
            return self.end.get().is_some();
        }
        seen.1 += 1;
        if let Some(inbox) = self.try_inbox() {
            *seen = (progress, 0);
            self.give_back();
            drop(inbox);
            self.resume();
            return true;
        }
        if seen.1 > LONG {
            // Whoever reads it waits for something that takes its time.
            *seen = (progress, 0);
            lock(&self.interest).recalled = true;
            // Who has let go of it just now may not have seen that.
            if let Some(inbox) = self.try_inbox() {
                self.give_back();
                drop(inbox);
                self.resume();
            }
            return true;
        }
        false
    }
}

impl Link {
    /// Sees to what has come in, and to what was held back before if there is room for that again.
    pub(super) fn ready_after(self: Arc<Self>, held: bool) {
        let mut errands = Errands::default();
        if held && let Err(failure) = self.drain(&mut errands) {
            self.refuse(failure);
        }
        let mut inbox = self.try_inbox();
        if held && inbox.is_none() {
            // Whoever has it may have held back just what this is about: it resumes when it has let go,
            // unless it has by now.
            self.held.store(true, Ordering::SeqCst);
            inbox = self.try_inbox();
            if inbox.is_some() {
                self.held.store(false, Ordering::SeqCst);
            }
        }
        // Whoever else reads it looks after it.
        if let Some(mut inbox) = inbox {
            let mut more = true;
            // One that has something to run lets others read.
            while more && !errands.calls && self.end.get().is_none() && self.has_room() {
                more = self.look(&mut inbox, false, &mut errands);
            }
            drop(inbox);
            if !self.has_room() && self.hung_up() {
                self.finish(End::Closed);
            }
        }
        let stays = errands.calls && self.next_call.is_near() && self.reactor.begin_stay();
        if !self.flush(stays) {
            if stays {
                self.reactor.end_stay();
            }
            // An answer that came right before the end is told all the same.
            errands.call_back();
            return;
        }
        self.resume();
        errands.call_back();
        if errands.calls {
            self.incoming.work(&self);
            self.attend(&self);
        }
        if stays {
            self.stay(&self);
            self.reactor.end_stay();
        }
    }
}

/// What a thread of the reactor does with the socket.
impl Link {
    /// Writes what waits, and has the socket watched again unless this thread stays with it; `false` at
    /// the end.
    fn flush(&self, stays: bool) -> bool {
        let mut wishes = lock(&self.interest);
        if wishes.writing {
            match self.outbox.flush(&self.socket) {
                Written::All => wishes.writing = false,
                Written::Left(_) => {}
                Written::Closed => {
                    wishes.writing = false;
                    let _ = self.socket.shutdown(Shutdown::Both);
                }
            }
        }
        if self.end.get().is_some() {
            return false;
        }
        let lent = wishes.lent;
        wishes.lent |= stays;
        wishes.recalled &= lent;
        if wishes.writing || !stays {
            self.watch_for(&wishes);
        }
        let has_room = !wishes.writing;
        drop(wishes);
        if has_room {
            self.streams.has_room();
        }
        if stays && !lent {
            self.reactor
                .lend(Weak::clone(&self.me) as Weak<dyn Watched>);
        }
        true
    }

    /// Waits for the next calls right here, as long as they come soon.
    fn stay(&self, me: &Arc<Self>) {
        while self.is_lent() && self.end.get().is_none() && self.has_room() {
            let Some(mut inbox) = self.try_inbox() else {
                return;
            };
            let mut errands = Errands::default();
            let came = self.look(&mut inbox, true, &mut errands);
            self.progress.fetch_add(1, Ordering::Relaxed);
            drop(inbox);
            // Nobody asks for it any more, and what has come in may take its time.
            if lock(&self.interest).recalled {
                self.give_back();
            }
            errands.call_back();
            if errands.calls {
                self.incoming.work(me);
                self.attend(me);
            }
            if !came {
                break;
            }
        }
        self.give_back();
        self.resume();
    }

    /// Takes the reading of the socket over from the reactor, which looks after it when this thread,
    /// or another, does not come back to it.
    pub(super) fn borrow(&self) {
        let mut wishes = lock(&self.interest);
        if std::mem::replace(&mut wishes.lent, true) {
            return;
        }
        // One that calls now and then gives it back each time.
        wishes.recalled = !self.own_call.is_near();
        self.watch_for(&wishes);
        if wishes.recalled {
            return;
        }
        drop(wishes);
        self.reactor
            .lend(Weak::clone(&self.me) as Weak<dyn Watched>);
    }

    pub(super) fn is_lent(&self) -> bool {
        lock(&self.interest).lent
    }

    /// Gives it back.
    pub(super) fn give_back(&self) {
        let mut wishes = lock(&self.interest);
        if std::mem::take(&mut wishes.lent) {
            self.watch_for(&wishes);
        }
    }

    pub(super) fn try_inbox(&self) -> Option<MutexGuard<'_, Inbox>> {
        match self.inbox.try_lock() {
            Ok(inbox) => Some(inbox),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn hung_up(&self) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec::default();
        poll(&mut socket, Some(&now)).is_ok() && socket[0].revents().contains(PollFlags::HUP)
    }
}
