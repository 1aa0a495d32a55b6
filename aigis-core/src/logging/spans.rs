//! Spans: what a thread is doing while it writes, whoever said so.
//!
//! Plugins open them through their library's bridge, and a program around the core has those of its
//! own `tracing` subscriber. Each thread has one stack of them: what a plugin writes has the spans of
//! its callers around it. A span is the core's own object, with copies of its names and fields.
//!
//! A span of a plugin has a twin in the subscriber of the program around the core, if it has one, so
//! that this sees the same tree. The other way round, the innermost span of that program is asked
//! for when somebody wants to know what a thread is in; `tracing` tells its name, but neither its
//! fields nor the spans around it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigis_plugin_api::codec::Value;
use tracing::Dispatch;
use tracing::dispatcher;
use tracing::subscriber::NoSubscriber;

use super::{Level, twin};

/// Names and values, in the order in which they were given.
pub(crate) type Fields = Vec<(Value, Value)>;

/// Whose spans they are: one generation of one plugin.
#[derive(Debug)]
pub(crate) struct Owner {
    plugin: String,
    ended: AtomicBool,
}

impl Owner {
    pub(crate) fn new(plugin: &str) -> Arc<Self> {
        Arc::new(Self {
            plugin: plugin.to_owned(),
            ended: AtomicBool::new(false),
        })
    }

    /// From now on no thread is in any of its spans.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// One span. It keeps those around it.
#[derive(Debug)]
pub(crate) struct Span {
    id: u64,
    /// None for a span of the program around the core.
    owner: Option<Arc<Owner>>,
    name: String,
    around: Option<Arc<Span>>,
    fields: Mutex<Fields>,
    /// The owner's own.
    mark: usize,
    twin: tracing::Span,
}

/// What a plugin says of a span that it opens.
pub(crate) struct Opening<'a> {
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    pub(crate) name: &'a str,
    pub(crate) fields: Fields,
    pub(crate) mark: usize,
}

/// What is around an event or a span.
#[derive(Clone, Debug)]
pub(crate) enum Around {
    /// Whatever its thread is in.
    Current,
    /// This span, whatever its thread is in.
    Chosen(Arc<Span>),
    /// Nothing, whatever its thread is in.
    Nothing,
}

impl Around {
    /// Returns the innermost span around.
    pub(crate) fn span(&self) -> Option<Arc<Span>> {
        match self {
            Self::Current => current(),
            Self::Chosen(span) => Some(Arc::clone(span)),
            Self::Nothing => None,
        }
    }

    /// Runs `body` where the subscriber is that knows what is around, with its number for it.
    pub(super) fn in_subscriber<R>(&self, body: impl FnOnce(Option<tracing::Id>) -> R) -> R {
        match self {
            Self::Current => body(current_of_subscriber()),
            Self::Nothing => body(None),
            Self::Chosen(span) => {
                let twin = span.path().find_map(|span| {
                    span.twin
                        .with_subscriber(|(id, dispatch)| (id.clone(), dispatch.clone()))
                });
                match twin {
                    // The numbers of one subscriber mean nothing to another one.
                    Some((id, dispatch)) => dispatcher::with_default(&dispatch, || body(Some(id))),
                    None => body(None),
                }
            }
        }
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Span {
    /// Opens a span.
    pub(crate) fn open(owner: &Arc<Owner>, around: &Around, opening: Opening<'_>) -> Arc<Self> {
        Arc::new(Self {
            id: next_id(),
            owner: Some(Arc::clone(owner)),
            name: opening.name.to_owned(),
            around: around.span(),
            twin: twin::open(&owner.plugin, around, &opening),
            fields: Mutex::new(opening.fields),
            mark: opening.mark,
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the mark that `owner` has made, if the span is its own.
    pub(crate) fn mark_of(&self, owner: &Arc<Owner>) -> Option<usize> {
        let own = self
            .owner
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, owner));
        own.then_some(self.mark)
    }

    /// Tells whether it is a span of the program around the core.
    pub(crate) fn is_of_embedder(&self) -> bool {
        self.owner.is_none()
    }

    /// Adds fields, in the place of those of the same names.
    pub(crate) fn record(&self, added: Fields) {
        let mut fields = self.fields();
        for (key, value) in added {
            fields.retain(|(known, _)| *known != key);
            fields.push((key, value));
        }
        if !self.twin.is_disabled() {
            let all = fields.clone();
            // What follows may be anybody's code.
            drop(fields);
            twin::record(&self.twin, &all);
        }
    }

    fn fields(&self) -> MutexGuard<'_, Fields> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns this span and those around it, from the innermost.
    fn path(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |span| span.around.as_deref())
    }

    /// Writes the names from the outermost, as a reader of `plugin`'s log sees them.
    pub(crate) fn names(&self, plugin: Option<&str>) -> String {
        let mut names: Vec<String> = self.path().map(|span| span.name_for(plugin)).collect();
        names.reverse();
        names.join(":")
    }

    fn name_for(&self, plugin: Option<&str>) -> String {
        match &self.owner {
            Some(owner) if plugin != Some(owner.plugin.as_str()) => {
                format!("{}/{}", owner.plugin, self.name)
            }
            _ => self.name.clone(),
        }
    }

    /// Adds the fields of this span and of those around it. An inner value hides an outer one of the
    /// same name.
    pub(crate) fn add_fields(&self, all: &mut Fields) {
        for span in self.path() {
            for (key, value) in &*span.fields() {
                if all.iter().all(|(known, _)| known != key) {
                    all.push((key.clone(), value.clone()));
                }
            }
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // From the inside to the outside, and not one inside another's drop: they may be many.
        self.twin = tracing::Span::none();
        let mut around = self.around.take();
        while let Some(mut span) = around.and_then(Arc::into_inner) {
            span.twin = tracing::Span::none();
            around = span.around.take();
        }
    }
}

/// A span that a thread has entered.
struct Entered {
    span: Arc<Span>,
    /// What the subscriber was in right after that: if it is in something else later, then the
    /// program around the core has entered a span of its own.
    seen: Option<tracing::Id>,
}

thread_local! {
    /// The core is never unloaded, so this may have a destructor.
    static ENTERED: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
}

/// Uses the stack of this thread, unless the thread is so near its end that it has none any more.
/// Nothing that is not the core's may run in `body`, drops of spans included.
fn with_stack<R>(body: impl FnOnce(&mut Vec<Entered>) -> R) -> Option<R> {
    ENTERED.try_with(|stack| body(&mut stack.borrow_mut())).ok()
}

fn current_of_subscriber() -> Option<tracing::Id> {
    // Almost always there is none.
    if !dispatcher::has_been_set() {
        return None;
    }
    dispatcher::get_default(|dispatch| dispatch.current_span().id().cloned())
}

/// Enters a span on this thread.
pub(crate) fn enter(span: Arc<Span>) {
    span.twin
        .with_subscriber(|(id, dispatch)| dispatch.enter(id));
    let seen = current_of_subscriber();
    let entered = Entered { span, seen };
    let _ = with_stack(|stack| stack.push(entered));
}

/// Leaves the span of this number, which need not be the innermost.
pub(crate) fn exit(id: u64) {
    let left = with_stack(|stack| {
        let place = stack.iter().rposition(|entered| entered.span.id == id)?;
        Some(stack.remove(place))
    });
    if let Some(Some(left)) = left {
        leave(&left);
    }
}

fn leave(left: &Entered) {
    left.span
        .twin
        .with_subscriber(|(id, dispatch)| dispatch.exit(id));
}

/// Returns the span that this thread has entered with this number.
pub(crate) fn entered(id: u64) -> Option<Arc<Span>> {
    let found = with_stack(|stack| {
        let paths = stack.iter().rev();
        let mut same = paths.filter(|entered| entered.span.id == id);
        same.next().map(|entered| Arc::clone(&entered.span))
    });
    found.flatten()
}

/// Returns the innermost span that this thread is in.
pub(crate) fn current() -> Option<Arc<Span>> {
    let (top, seen) = loop {
        let looked = with_stack(|stack| {
            let top = stack.last()?;
            let gone = top.span.owner.as_ref().is_some_and(|own| own.has_ended());
            // A library that never left it will not do so any more.
            let gone = if gone { stack.pop() } else { None };
            let top = stack.last();
            let seen = top.and_then(|top| top.seen.clone());
            Some((gone, top.map(|top| Arc::clone(&top.span)), seen))
        });
        match looked.flatten() {
            None => break (None, None),
            Some((None, top, seen)) => break (top, seen),
            Some((Some(gone), ..)) => leave(&gone),
        }
    };
    if !dispatcher::has_been_set() {
        return top;
    }
    let theirs = tracing::Span::current();
    match (theirs.id(), theirs.metadata()) {
        (Some(id), Some(metadata)) if Some(&id) != seen.as_ref() => Some(Arc::new(Span {
            id: next_id(),
            owner: None,
            name: metadata.name().to_owned(),
            around: top,
            fields: Mutex::default(),
            mark: 0,
            twin: theirs,
        })),
        _ => top,
    }
}

/// Leaves, when it is dropped, what was entered on this thread after it was made.
#[must_use]
pub(crate) struct Boundary {
    depth: usize,
}

impl Boundary {
    /// Marks how deep this thread is in.
    pub(crate) fn here() -> Self {
        Self {
            depth: with_stack(|stack| stack.len()).unwrap_or(0),
        }
    }
}

impl Drop for Boundary {
    fn drop(&mut self) {
        while let Some(Some(left)) = with_stack(|stack| {
            let deeper = stack.len() > self.depth;
            if deeper { stack.pop() } else { None }
        }) {
            leave(&left);
        }
    }
}

/// What a thread is in, for another thread that goes on with its work.
pub(crate) struct Carried {
    span: Option<Arc<Span>>,
    subscriber: Option<Dispatch>,
}

impl Carried {
    /// Takes what this thread is in.
    pub(crate) fn here() -> Self {
        let subscriber = dispatcher::has_been_set()
            .then(|| dispatcher::get_default(Dispatch::clone))
            .filter(|dispatch| !dispatch.is::<NoSubscriber>());
        Self {
            span: current(),
            subscriber,
        }
    }

    /// Runs `body` in the same.
    pub(crate) fn run<R>(self, body: impl FnOnce() -> R) -> R {
        let Self { span, subscriber } = self;
        let inside = || {
            let _boundary = Boundary::here();
            if let Some(span) = span {
                enter(span);
            }
            body()
        };
        match subscriber {
            Some(subscriber) => dispatcher::with_default(&subscriber, inside),
            None => inside(),
        }
    }
}
