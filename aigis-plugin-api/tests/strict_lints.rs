//! What the macros make passes the strictest lints that an author may have switched on.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    missing_debug_implementations,
    non_snake_case,
    trivial_casts,
    trivial_numeric_casts,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::unwrap_used,
    clippy::panic
)]

use std::time::Duration;

use aigis_plugin_api::{CallError, Context, Logger, Stream, import, skill_type, skills};

/// A point.
#[skill_type]
#[derive(Clone, Debug)]
pub struct Point {
    /// Across.
    pub x: f64,
    /// Up.
    pub y: Option<f64>,
}

/// A figure.
#[skill_type]
#[derive(Clone, Debug)]
pub enum Figure {
    /// Nothing.
    Empty,
    /// A point.
    Point(Point),
}

/// Skills.
#[skills]
pub mod geometry {
    use super::{CallError, Context, Duration, Figure, Logger, Point, Stream};

    /// Points on the way.
    pub fn way(to: u32) -> impl Iterator<Item = Result<Point, String>> {
        (0..to).map(|n| {
            Ok(Point {
                x: f64::from(n),
                y: None,
            })
        })
    }

    /// How far it is.
    ///
    /// # Errors
    /// That of the stream.
    pub fn length(items: Stream<f64>) -> Result<f64, CallError> {
        items.sum()
    }

    /// How many.
    pub const DIMENSIONS: usize = 2;

    /// What it is called.
    pub const NAME: &str = "plane";

    /// Moves a point.
    ///
    /// # Errors
    /// Never.
    pub fn moved(logger: &Logger, point: &Point, by: f64) -> Result<Figure, String> {
        logger.debug("moving");
        Ok(Figure::Point(Point {
            x: point.x + by,
            y: point.y,
        }))
    }

    /// Adds.
    #[must_use]
    pub const fn add(a: u8, b: u8) -> u8 {
        a.wrapping_add(b)
    }

    /// Moves a point, later.
    ///
    /// # Errors
    /// Never.
    pub async fn moved_later(ctx: &Context, point: &Point, by: f64) -> Result<Figure, String> {
        ctx.sleep(Duration::from_millis(1)).await;
        Ok(Figure::Point(Point {
            x: point.x + by,
            y: point.y,
        }))
    }

    /// Ends.
    pub const fn cleanup() {}
}

/// A state.
#[derive(Debug)]
pub struct Counter {
    start: u64,
}

#[skills(namespace = "counting")]
impl Counter {
    /// Makes it.
    ///
    /// # Errors
    /// Never.
    pub fn new(ctx: &Context) -> Result<Self, String> {
        Ok(Self {
            start: ctx.generation(),
        })
    }

    /// Where it starts.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Hands over.
    ///
    /// # Errors
    /// Never.
    pub const fn save(&self) -> Result<u64, String> {
        Ok(self.start)
    }

    /// Takes over.
    ///
    /// # Errors
    /// Never.
    pub const fn restore(start: u64, _logger: &Logger) -> Result<Self, String> {
        Ok(Self { start })
    }

    /// Where it starts, later.
    pub async fn start_later(&self, ctx: &Context) -> u64 {
        ctx.sleep(Duration::from_millis(1)).await;
        self.start
    }

    /// Ends.
    pub const fn cleanup(self) {}
}

mod expected {
    use super::{Figure, Point, Stream};

    aigis_plugin_api::import! {
        pub mod geometry {
            const DIMENSIONS: usize;
            fn moved(point: &Point, by: f64) -> Result<Figure, String>;
            fn add(a: u8, b: u8) -> u8;
            async fn moved_later(point: &Point, by: f64) -> Result<Figure, String>;
            fn way(to: u32) -> Stream<Point>;
            async fn length(items: Stream<f64>) -> Result<f64, String>;
        }
    }
}

import! {
    fn absent(text: &str) -> Vec<String>;
}

fn ask() -> Result<usize, CallError> {
    let sum = expected::geometry::add(1, 2)?;
    let all = absent("text")?;
    drop(expected::geometry::way(2)?);
    Ok(usize::from(sum) + expected::geometry::DIMENSIONS()? + all.len())
}

#[test]
fn it_compiles_and_asks_for_a_host() {
    assert!(matches!(ask(), Err(CallError::NotConnected { .. })));
    let point = Point { x: 0.0, y: None };
    assert!(expected::geometry::moved(&point, 1.0).is_err());
    drop(expected::geometry::moved_later(&point, 1.0));
}
