//! The tests of the whole: real plugins, real processes, real servers, one module per subject.

mod support;
