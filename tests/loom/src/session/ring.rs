//! One way of the ring; what it is made of stands in for the memory of two processes.

#[path = "../../../../aigis-plugin-api/src/session/ring/lane.rs"]
mod lane;
mod sync;

#[cfg(test)]
mod models;
