//! The tests of the whole: real plugins, real processes, real servers, one module per subject.

mod asynchronous;
mod bad_input;
mod boot;
mod crash;
mod detach;
mod embedding;
mod examples;
mod freshness;
mod hybrid;
mod probe;
mod processes;
mod random;
mod reload;
mod replace;
mod requirements;
mod sessions;
mod shutdown;
mod skills;
mod slow_calls;
mod sources;
mod support;
mod swap;
mod terminal;
mod tracing;
