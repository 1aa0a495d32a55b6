//! Calls of every kind, in every way, and what each must answer.

use std::fmt;
use std::sync::atomic::Ordering;

use aigis_core::Host;
use aigis_plugin_api::serde::Serialize;
use aigis_plugin_api::serde::de::DeserializeOwned;
use aigis_plugin_api::{CallError, Session, SkillFailure, import, skill_type};

use super::{Alarm, Desk, Random, World};

#[skill_type]
#[derive(Debug)]
pub(super) struct Slip {
    pub(super) number: u32,
    pub(super) text: String,
}

import! {
    mod vault {
        fn add(amount: u64) -> (u64, u64);
    }
    pub(super) mod desk {
        fn slip(number: u32) -> Slip;
        fn deposit(amount: u64) -> Result<(u64, u64), String>;
    }
}

/// Checks a failure of a call to `desk` that should have been served, were it there.
fn is_absent<E: fmt::Debug>(error: &CallError<E>, desk: Option<Desk>) {
    assert!(matches!(error, CallError::NotFound { .. }), "{error:?}");
    assert!(
        desk.is_none_or(|desk| !desk.runs),
        "{error:?} though {desk:?}"
    );
}

/// The ways to call.
pub(super) enum Way<'a> {
    Host(&'a Host),
    Session(&'a Session),
}

impl Way<'_> {
    fn call<T: DeserializeOwned + 'static>(
        &self,
        name: &str,
        arguments: impl Serialize,
    ) -> Result<T, CallError<SkillFailure>> {
        match self {
            Self::Host(host) => host.call(name, arguments),
            Self::Session(session) => session.call(name, arguments),
        }
    }

    fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        match self {
            Self::Host(host) => host.scope(body),
            Self::Session(session) => session.scope(body),
        }
    }
}

/// Calls whatever there is until the time is over.
pub(super) fn until_the_end(world: &World, way: &Way<'_>, mut random: Random) {
    let _alarm = Alarm(world);
    let mut last = (0, 0);
    while world.goes_on() {
        world.calls.fetch_add(1, Ordering::Relaxed);
        let amount = 1 + random.below(9);
        match random.below(8) {
            0 => {
                let answer = way.call("vault.add", (amount,)).expect("is never away");
                world.acknowledged(amount, answer, &mut last);
            }
            1 | 2 => {
                let answer = way.scope(|| vault::add(amount)).expect("is never away");
                world.acknowledged(amount, answer, &mut last);
            }
            3 => {
                let (outcome, desk) = world.steadily(|| way.scope(|| desk::deposit(amount)));
                match outcome {
                    Ok(answer) => {
                        assert!(
                            desk.is_none_or(|desk| desk.runs),
                            "is served though {desk:?}"
                        );
                        world.acknowledged(amount, answer, &mut last);
                    }
                    Err(error) => is_absent(&error, desk),
                }
            }
            4 => {
                let text = format!("{amount} and {}", random.below(1000));
                let call = || way.call::<String>("desk.echo", (&text,));
                let (outcome, desk) = world.steadily(call);
                match outcome {
                    Ok(answer) => assert_eq!(answer, text),
                    Err(error) => is_absent(&error, desk),
                }
            }
            5 => {
                let (outcome, desk) = world.steadily(|| way.call::<()>("desk.breaks", ("a pen",)));
                match outcome {
                    Err(CallError::Panicked { message, .. }) => {
                        assert_eq!(message, "a pen is broken");
                    }
                    Ok(()) => panic!("should have panicked"),
                    Err(error) => is_absent(&error, desk),
                }
            }
            _ => slip(world, way, random.below(1 << 20)),
        }
    }
}

/// A call with a type that changes.
fn slip(world: &World, way: &Way<'_>, number: u64) {
    let number = u32::try_from(number).expect("is small");
    let (outcome, desk) = world.steadily(|| way.scope(|| desk::slip(number)));
    match outcome {
        Ok(slip) => {
            assert!(
                desk.is_none_or(|desk| desk.runs && !desk.is_other),
                "{slip:?} {desk:?}"
            );
            assert_eq!((slip.number, slip.text), (number, number.to_string()));
        }
        Err(CallError::Mismatch { differences, .. }) => {
            assert!(
                desk.is_none_or(|desk| desk.runs && desk.is_other),
                "{desk:?}"
            );
            assert_eq!(differences, ["result.number: `u32` -> `u64`"]);
        }
        Err(error) => is_absent(&error, desk),
    }
}
