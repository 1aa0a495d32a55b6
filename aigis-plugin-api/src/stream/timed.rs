//! Items that are waited for no longer than somebody has said.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::items::{BoxItems, Items, Next, over};
use super::lock;
use crate::error::timed_out;
use crate::program::{Timer, start_timer, stop_timer};

/// How long items may take.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// All of them together, from now on.
    Whole(Duration),
    /// Each of them, from when it is asked for.
    Each(Duration),
}

/// Gives items up when their time is over; `name` is the skill's.
pub fn timed(items: BoxItems, name: &str, limit: Limit) -> BoxItems {
    Box::new(Timed {
        items: Some(items),
        name: name.to_owned(),
        limit,
        deadline: match limit {
            Limit::Whole(time) => Instant::now().checked_add(time),
            Limit::Each(_) => None,
        },
        alarm: None,
    })
}

struct Timed {
    items: Option<BoxItems>,
    name: String,
    limit: Limit,
    /// When the time of what is asked for is over; none while nothing is.
    deadline: Option<Instant>,
    alarm: Option<(Timer, Arc<Mutex<Waker>>)>,
}

impl Timed {
    fn stop_alarm(&mut self) {
        if let Some((timer, _)) = self.alarm.take() {
            stop_timer(timer);
        }
    }

    fn set_alarm(&mut self, waker: &Waker) {
        if let Some((_, wakes)) = &self.alarm {
            waker.clone_into(&mut lock(wakes));
            return;
        }
        let Some(deadline) = self.deadline else {
            return;
        };
        let wakes = Arc::new(Mutex::new(waker.clone()));
        let rings = Arc::clone(&wakes);
        let ring = move || {
            let waker = lock(&rings).clone();
            waker.wake();
        };
        self.alarm = Some((start_timer(deadline, Box::new(ring)), wakes));
    }
}

impl Items for Timed {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let Some(items) = &mut self.items else {
            return Poll::Ready(Err(over()));
        };
        let polled = items.poll_next(context);
        if polled.is_ready() {
            self.stop_alarm();
            if let Limit::Each(_) = self.limit {
                self.deadline = None;
            }
            return polled;
        }
        let (Limit::Each(time) | Limit::Whole(time)) = self.limit;
        if self.deadline.is_none() {
            self.deadline = Instant::now().checked_add(time);
        }
        if self.deadline.is_some_and(|at| Instant::now() >= at) {
            self.stop_alarm();
            self.items = None;
            return Poll::Ready(Err(timed_out(&self.name, time)));
        }
        self.set_alarm(context.waker());
        Poll::Pending
    }

    fn before_sleeping(&self) {
        if let Some(items) = &self.items {
            items.before_sleeping();
        }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.stop_alarm();
    }
}
