//! What is done to the plugins meanwhile, and how each must end.

use std::fs;
use std::sync::atomic::Ordering;

use aigis_core::{PluginStatus, State};

use super::{Alarm, Desk, Random, World, lock};
use crate::support::plugins;

const DESK: &str = include_str!("../fixtures/swap/desk.rs");

/// Does things to the plugins until the time is over.
pub(super) fn until_the_end(world: &World, mut random: Random) {
    let _alarm = Alarm(world);
    while world.goes_on() {
        world.operations.fetch_add(1, Ordering::Relaxed);
        match random.below(10) {
            0 | 1 => {
                let _turn = lock(&world.vault_turn);
                world.host.reload("vault", false).expect("is swapped");
            }
            2 => {
                let _turn = lock(&world.vault_turn);
                world.home.write("data/vault/refuse", "");
                let refused = world.host.reload("vault", false).expect_err("is refused");
                assert!(
                    refused.to_string().contains("does not want to"),
                    "{refused}"
                );
                fs::remove_file(world.home.path().join("data/vault/refuse")).expect("is there");
            }
            3 | 4 => {
                let (_vault, _desk) = (lock(&world.vault_turn), lock(&world.desk_turn));
                let forced = random.below(2) == 0;
                let names = ["desk", "vault"];
                // A plugin that is stopped is started by that.
                world.change_desk(|desk| {
                    let arguments = (names, false, forced);
                    let all: Result<Vec<PluginStatus>, _> =
                        world.host.call("aigis.reload_set", arguments);
                    assert_eq!(all.expect("is swapped").len(), 2);
                    Desk { runs: true, ..desk }
                });
            }
            5 => {
                let _turn = lock(&world.desk_turn);
                world.change_desk(|desk| {
                    world.host.stop_forced("desk").expect("is stopped");
                    Desk {
                        runs: false,
                        ..desk
                    }
                });
            }
            6 => {
                let _turn = lock(&world.desk_turn);
                fails_to_start(world);
            }
            7 => {
                let _turn = lock(&world.desk_turn);
                does_not_build(world);
            }
            8 => {
                let _turn = lock(&world.desk_turn);
                changes_its_type(world);
            }
            _ => {
                let _turn = lock(&world.desk_turn);
                starts(world);
            }
        }
    }
}

/// Starts `desk` or, if it runs, reloads it.
fn starts(world: &World) {
    world.change_desk(|desk| {
        let status = if desk.runs {
            world.host.reload("desk", false).expect("is swapped")
        } else {
            world.host.start_plugin("desk").expect("is started")
        };
        assert_eq!(status.state, State::Ready);
        Desk { runs: true, ..desk }
    });
}

/// A version whose `new` panics: nothing changes.
fn fails_to_start(world: &World) {
    world.home.write("data/desk/refuse", "");
    let refused = world.host.reload("desk", false).expect_err("is refused");
    assert!(
        refused.to_string().contains("does not want to"),
        "{refused}"
    );
    fs::remove_file(world.home.path().join("data/desk/refuse")).expect("is there");
}

pub(super) fn source(is_other: bool) -> String {
    if is_other {
        DESK.replace("pub number: u32", "pub number: u64")
    } else {
        DESK.to_owned()
    }
}

/// A version that does not compile: nothing changes, until it does again.
fn does_not_build(world: &World) {
    let good = source(lock(&world.desk).is_other);
    let bad = good.replace(
        "pub fn echo(&self, text: String)",
        "pub fn echo(&self, text: u8)",
    );
    plugins::core(&world.home, "desk", &bad);
    let refused = world.host.reload("desk", true).expect_err("does not build");
    assert!(
        refused
            .to_string()
            .contains("expected `String`, found `u8`"),
        "{refused}"
    );
    plugins::core(&world.home, "desk", &good);
    world.change_desk(|desk| {
        world.host.reload("desk", true).expect("is swapped");
        Desk { runs: true, ..desk }
    });
}

/// A version with another type; it needs force, but not to get back.
fn changes_its_type(world: &World) {
    let now = *lock(&world.desk);
    plugins::core(&world.home, "desk", &source(!now.is_other));
    if now.runs && !now.is_other {
        let refused = world.host.reload("desk", true).expect_err("is refused");
        let refused = refused.to_string();
        assert!(
            refused.contains("desk.slip: result.number: `u32` -> `u64`"),
            "{refused}"
        );
        assert_eq!(*lock(&world.desk), now);
    }
    world.change_desk(|desk| {
        let arguments = ("desk", true, true);
        let status: Result<PluginStatus, _> = world.host.call("aigis.reload", arguments);
        assert_eq!(status.expect("is forced").state, State::Ready);
        Desk {
            runs: true,
            is_other: !desk.is_other,
            ..desk
        }
    });
}
