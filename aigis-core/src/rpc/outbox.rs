//! What is on its way to one client.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

/// How many frames go to the system at once.
const BATCH: usize = 32;
/// How many bytes one turn writes at least before it lets others in, if the client reads that fast.
const TURN: usize = 1 << 20;

/// The frames that wait to be written to one client.
///
/// Whoever has a frame writes it on the spot if nothing waits before it and the system takes it, which
/// spares the wake-up of another thread; what is left is the session's task's to write. So nobody ever
/// waits for the client.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// Wakes the session's task.
    work: Notify,
    /// Tells that frames have gone.
    room: Arc<Notify>,
    budget: usize,
    stall: Duration,
}

struct Queue {
    /// None once the connection is closed or broken.
    stream: Option<Arc<OwnedWriteHalf>>,
    frames: VecDeque<Vec<u8>>,
    /// How much of the first frame is written.
    written: usize,
    /// What is left of all frames.
    bytes: usize,
    /// When the client has last read something, as far as that can be known.
    progress: Instant,
}

/// Why nothing can be written any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// The connection is closed.
    Closed,
    /// The client has not read anything for too long.
    Stalled,
}

impl Outbox {
    /// Makes an empty one that `room` hears of. It is full with `budget` bytes; a client may leave it
    /// so for `stall`.
    pub(super) fn new(
        stream: OwnedWriteHalf,
        room: Arc<Notify>,
        budget: usize,
        stall: Duration,
    ) -> Self {
        Self {
            queue: Mutex::new(Queue {
                stream: Some(Arc::new(stream)),
                frames: VecDeque::new(),
                written: 0,
                bytes: 0,
                progress: Instant::now(),
            }),
            work: Notify::new(),
            room,
            budget,
            stall,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs under this lock.
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Sends a frame, now or when the client reads. Never waits; after the end it does nothing.
    pub(super) fn push(&self, frame: Vec<u8>) {
        let mut queue = self.lock();
        if queue.stream.is_none() || frame.is_empty() {
            return;
        }
        let first = queue.frames.is_empty();
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        if first {
            queue.progress = Instant::now();
            queue.write();
            if !queue.frames.is_empty() || queue.stream.is_none() {
                self.work.notify_one();
            }
        }
    }

    /// Whether so much waits that no more should be made.
    pub(super) fn is_full(&self) -> bool {
        self.lock().bytes >= self.budget
    }

    /// Writes whatever comes, until nothing can be written any more.
    pub(super) async fn write(&self) -> WriteEnd {
        loop {
            if let Err(end) = self.flush().await {
                return end;
            }
            self.work.notified().await;
        }
    }

    /// Writes until nothing waits.
    ///
    /// # Errors
    /// Nothing can be written any more.
    pub(super) async fn flush(&self) -> Result<(), WriteEnd> {
        loop {
            let stream = {
                let queue = self.lock();
                let stream = queue.stream.clone().ok_or(WriteEnd::Closed)?;
                if queue.frames.is_empty() {
                    return Ok(());
                }
                stream
            };
            match tokio::time::timeout(self.stall, stream.writable()).await {
                Ok(Ok(())) => {
                    self.lock().write();
                    self.room.notify_one();
                }
                Ok(Err(_)) => return Err(WriteEnd::Closed),
                Err(_) => {
                    let queue = self.lock();
                    if queue.bytes >= self.budget && queue.progress.elapsed() >= self.stall {
                        return Err(WriteEnd::Stalled);
                    }
                }
            }
        }
    }

    /// Closes the connection's writing half and forgets what waits.
    pub(super) fn close(&self) {
        let gone = {
            let mut queue = self.lock();
            queue.stream = None;
            queue.bytes = 0;
            std::mem::take(&mut queue.frames)
        };
        drop(gone);
    }
}

impl Queue {
    /// Writes as much as the system takes now, for one turn.
    fn write(&mut self) {
        let Some(stream) = self.stream.clone() else {
            return;
        };
        let mut done = 0;
        while !self.frames.is_empty() && done < TURN {
            let mut slices = [IoSlice::new(&[]); BATCH];
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.frames) {
                let skip = if count == 0 { self.written } else { 0 };
                *slice = IoSlice::new(frame.get(skip..).unwrap_or_default());
                count += 1;
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    done += written;
                    self.advance(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.stream = None;
                    self.frames.clear();
                    self.bytes = 0;
                    return;
                }
            }
        }
    }

    fn advance(&mut self, written: usize) {
        self.progress = Instant::now();
        self.bytes = self.bytes.saturating_sub(written);
        self.written += written;
        while let Some(first) = self.frames.front()
            && self.written >= first.len()
        {
            self.written -= first.len();
            self.frames.pop_front();
        }
    }
}
