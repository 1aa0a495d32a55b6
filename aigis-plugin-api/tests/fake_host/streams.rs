//! The host's side of streams: all of them are made by this library, so the host only passes them on.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use aigis_plugin_api::__private::{Failure, FailureKind};
use aigis_plugin_api::abi::{
    Buffer, Bytes, Completion, Produced, Producer, Request, Slice, Status,
};
use aigis_plugin_api::signature::differences;

use super::{FakeHost, Link, Poller, host};

/// The streams that the library has numbers of.
#[derive(Default)]
pub struct Streams {
    last: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Held>>>,
}

/// One of them; what went wrong before it could be opened is said when it is asked for an item.
struct Held {
    source: Mutex<Result<Producer, Failure>>,
    poller: Arc<Poller>,
}

impl Held {
    fn next(&self) -> Result<Option<Vec<u8>>, Failure> {
        let source = self.source.lock().unwrap();
        let producer = source.as_ref().map_err(Clone::clone)?;
        loop {
            let mut out = Buffer::default();
            // SAFETY: the lock makes this the only call with the producer; the waker is this poller's.
            let produced = unsafe { (producer.next)(producer.data, self.poller.waker(), &mut out) };
            match produced {
                Produced::Pending => self.poller.wait(),
                Produced::Item => return Ok(Some(out.into_vec())),
                Produced::End => return Ok(None),
                Produced::Failed => return Err(Failure::decode(out.as_slice())),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(producer) = self.source.get_mut().unwrap() {
            let mut error = Buffer::default();
            // SAFETY: it was handed over and is dropped here, once.
            let _ = unsafe { (producer.drop)(producer.data, &mut error) };
        }
    }
}

impl Streams {
    fn insert(&self, source: Result<Producer, Failure>) -> u64 {
        let number = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let held = Arc::new(Held {
            source: Mutex::new(source),
            poller: Poller::new(),
        });
        self.open.lock().unwrap().insert(number, held);
        number
    }

    fn get(&self, number: u64) -> Arc<Held> {
        let open = self.open.lock().unwrap();
        Arc::clone(open.get(&number).expect("the library has this number"))
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.open.lock().unwrap().len()
    }
}

impl FakeHost {
    fn open_skill(&self, request: &Request<'_>, streams: &[u64]) -> Result<Producer, Failure> {
        let name = request.name.as_str();
        let Some((index, skill)) = self.skill(name) else {
            let message = format!("no plugin offers `{name}`");
            return Err(Failure::new(FailureKind::NotFound, message));
        };
        if !request.link.is_null() {
            // SAFETY: a link that is not null came from `link`, and links are never removed.
            let link = unsafe { &*request.link.cast::<Link>() };
            let found = differences(&link.signature, &skill.signature);
            if !found.is_empty() {
                return Err(Failure::new(FailureKind::Mismatch, name).with_details(found));
            }
        }
        let (mut producer, mut error) = (MaybeUninit::uninit(), Buffer::default());
        let produce = self.descriptor.produce.expect("is of 1.2");
        let arguments = request.arguments;
        match produce(index, arguments, streams.into(), &mut producer, &mut error) {
            // SAFETY: after `Ok` the producer is written.
            Status::Ok => Ok(unsafe { producer.assume_init() }),
            Status::Absent => Err(Failure::new(FailureKind::Mismatch, "it has no streams")),
            Status::Failed => Err(Failure::decode(error.as_slice())),
        }
    }
}

pub(super) unsafe extern "C" fn open(
    context: *const c_void,
    request: Request<'_>,
    streams: Slice<'_, Producer>,
) -> u64 {
    let host = host(context);
    let producers = streams.as_slice().iter();
    // SAFETY: they are handed over.
    let producers = producers.map(|producer| unsafe { std::ptr::read(producer) });
    let numbers: Vec<u64> = producers
        .map(|producer| host.streams.insert(Ok(producer)))
        .collect();
    let opened = host.open_skill(&request, &numbers);
    host.streams.insert(opened)
}

pub(super) unsafe extern "C" fn next(
    context: *const c_void,
    stream: u64,
    out: &mut Buffer,
) -> Produced {
    match host(context).streams.get(stream).next() {
        Ok(Some(item)) => {
            *out = item.into();
            Produced::Item
        }
        Ok(None) => Produced::End,
        Err(failure) => {
            *out = failure.encode().into();
            Produced::Failed
        }
    }
}

pub(super) unsafe extern "C" fn pull(context: *const c_void, stream: u64, done: Completion) {
    let held = host(context).streams.get(stream);
    thread::spawn(move || {
        let done = done;
        let (status, bytes) = match held.next() {
            Ok(Some(item)) => (Status::Ok, item),
            Ok(None) => (Status::Absent, Vec::new()),
            Err(failure) => (Status::Failed, failure.encode()),
        };
        // SAFETY: this is the only call.
        unsafe { (done.complete)(done.data, status, Bytes::of(&bytes)) };
    });
}

pub(super) unsafe extern "C" fn close_stream(context: *const c_void, stream: u64) {
    let held = host(context).streams.open.lock().unwrap().remove(&stream);
    drop(held);
}
