//! The core's own skills: what plugins, sessions and the command line ask of it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aigis_plugin_api::__private::{
    Decode, Failure, FailureKind, Own, Parameter, Ref, Shape, Signature,
};
use aigis_plugin_api::codec;
use serde::Serialize;

use super::add::{Addition, Wish};
use super::apply::Applying;
use super::operations::Reload;
use super::replace::Replacement;
use super::{Inner, only};
use crate::loader::guard::Change;
use crate::loader::{CoreSkill, Serving};
use crate::registry::{CORE_NAMESPACE, Offer};

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    codec::to_vec(value)
        .map_err(|error| Failure::new(FailureKind::Unserializable, error.to_string()))
}

/// The body of one of the core's own skills.
type Body = fn(&Arc<Inner>, &[u8]) -> Result<Vec<u8>, Failure>;

/// Offers the core's own skills. They are there for as long as the process.
pub(super) fn install(inner: &Arc<Inner>) {
    let changes = core_skills(inner).into_iter().map(|serving| {
        let serving: &'static Serving = Box::leak(Box::new(serving));
        let offer = Arc::clone(serving.offer());
        let slot = inner
            .registry_mut()
            .install_core(offer, |name| inner.new_slot(name));
        Change {
            slot,
            next: std::ptr::from_ref(serving),
        }
    });
    let changes = changes.collect();
    inner.board_of_slots().begin(changes, None).commit();
}

/// Makes the core's own skills, in the namespace `aigis`.
fn core_skills(inner: &Arc<Inner>) -> Vec<Serving> {
    let weak = Arc::downgrade(inner);
    let skill =
        move |name: &str, doc: &str, parameters: &[(&str, Shape)], result: Shape, body: Body| {
            let signature = Signature {
                parameters: parameters
                    .iter()
                    .map(|(name, shape)| Parameter {
                        name: (*name).to_owned(),
                        shape: shape.clone(),
                    })
                    .collect(),
                result,
                error: None,
                constant: false,
            };
            let weak = Weak::clone(&weak);
            let run: CoreSkill = Arc::new(move |arguments| match weak.upgrade() {
                Some(inner) => body(&inner, arguments),
                None => Err(Failure::new(FailureKind::CoreGone, "the core is gone")),
            });
            let offer = Offer {
                name: format!("{CORE_NAMESPACE}.{name}"),
                doc: doc.to_owned(),
                id: signature.id(),
                signature,
                plugin: CORE_NAMESPACE.to_owned(),
                generation: 1,
                idempotent: false,
            };
            Serving::of_core(offer, run)
        };
    let opaque = |name: &str| Shape::Opaque(name.to_owned());
    let list = |name: &str| Shape::List(Box::new(opaque(name)));
    let flag = || Shape::Option(Box::new(Shape::Bool));
    let name = [("name", Shape::Text)];
    let reload = [("name", Shape::Text), ("fresh", flag()), ("force", flag())];
    let replace = [
        ("old", Shape::Text),
        ("new", Shape::Text),
        ("source", Shape::Text),
        ("force", flag()),
    ];
    let names = [("names", Shape::List(Box::new(Shape::Text)))];
    let stop_set = [
        ("names", Shape::List(Box::new(Shape::Text))),
        ("force", flag()),
    ];
    let reload_set = [
        ("names", Shape::List(Box::new(Shape::Text))),
        ("fresh", flag()),
        ("force", flag()),
    ];
    vec![
        skill(
            "pid",
            "Returns the core's process id.",
            &[],
            Shape::U32,
            |_, bytes| <() as Decode>::decode(&[], bytes, |()| encode(&std::process::id())),
        ),
        skill(
            "status",
            "Lists the plugins and how they are.",
            &[],
            list("PluginStatus"),
            |inner, bytes| <() as Decode>::decode(&[], bytes, |()| encode(&inner.status())),
        ),
        skill(
            "core",
            "Says how the core itself is.",
            &[],
            opaque("CoreStatus"),
            |inner, bytes| <() as Decode>::decode(&[], bytes, |()| encode(&inner.core_status())),
        ),
        skill(
            "skills",
            "Lists the skills that plugins offer.",
            &[],
            list("SkillInfo"),
            |inner, bytes| <() as Decode>::decode(&[], bytes, |()| encode(&inner.skills())),
        ),
        skill(
            "settled",
            "Waits until every plugin is ready or has ended, at most so many milliseconds.",
            &[("timeout_ms", Shape::U64)],
            list("PluginStatus"),
            |inner, bytes| {
                <(Own<u64>,)>::decode(&["timeout_ms"], bytes, |(timeout_ms,)| {
                    let timeout = Duration::from_millis(timeout_ms);
                    encode(&inner.settled(Some(timeout)))
                })
            },
        ),
        skill(
            "reload",
            "Fetches, builds and swaps a plugin; with `fresh` a local source is copied anew, with \
             `force` whoever has been compiled for what it loses gets errors from then on.",
            &reload,
            opaque("PluginStatus"),
            |inner, bytes| {
                type Arguments = (Ref<str>, Own<Option<bool>>, Own<Option<bool>>);
                Arguments::decode(
                    &["name", "fresh", "force"],
                    bytes,
                    |(name, fresh, force)| {
                        let how = Reload::new(fresh, force);
                        encode(&only(inner.reload(&[name], how)?))
                    },
                )
            },
        ),
        skill(
            "reload_set",
            "Reloads several plugins together: all of them are switched in one instant, or none.",
            &reload_set,
            list("PluginStatus"),
            |inner, bytes| {
                type Arguments = (Own<Vec<String>>, Own<Option<bool>>, Own<Option<bool>>);
                Arguments::decode(
                    &["names", "fresh", "force"],
                    bytes,
                    |(names, fresh, force)| {
                        let names: Vec<&str> = names.iter().map(String::as_str).collect();
                        encode(&inner.reload(&names, Reload::new(fresh, force))?)
                    },
                )
            },
        ),
        skill(
            "replace",
            "Puts a new plugin in the place of another, under the same names; the config file stays as \
             it is.",
            &replace,
            opaque("PluginStatus"),
            |inner, bytes| {
                type Arguments = (Ref<str>, Ref<str>, Ref<str>, Own<Option<bool>>);
                let names = ["old", "new", "source", "force"];
                Arguments::decode(&names, bytes, |(old, new, source, force)| {
                    encode(&inner.replace(Replacement {
                        old,
                        new,
                        source,
                        force: force.unwrap_or(false),
                    })?)
                })
            },
        ),
        skill(
            "apply",
            "Makes what runs what a config file says: the one that the core was started with, unless \
             another one is named. With `dry_run` nothing is done; with `force` whoever has been compiled \
             for what goes gets errors from then on.",
            &[
                ("config", Shape::Option(Box::new(Shape::Text))),
                ("dry_run", flag()),
                ("force", flag()),
            ],
            opaque("ApplyReport"),
            |inner, bytes| {
                type Arguments = (Own<Option<String>>, Own<Option<bool>>, Own<Option<bool>>);
                let names = ["config", "dry_run", "force"];
                Arguments::decode(&names, bytes, |(config, dry_run, force)| {
                    let how = Applying {
                        dry_run: dry_run.unwrap_or(false),
                        force: force.unwrap_or(false),
                    };
                    encode(&inner.apply_file(config.as_deref(), how)?)
                })
            },
        ),
        skill(
            "add",
            "Adds a plugin until the core shuts down; with `save` also to the config file. Without a \
             `kind` its manifest says which one it is; `options` are other keys of its entry, as \
             `key=value`.",
            &[
                ("name", Shape::Text),
                ("source", Shape::Text),
                ("kind", Shape::Option(Box::new(Shape::Text))),
                ("options", Shape::List(Box::new(Shape::Text))),
                ("save", flag()),
            ],
            opaque("PluginStatus"),
            |inner, bytes| {
                type Arguments = (
                    Ref<str>,
                    Ref<str>,
                    Own<Option<String>>,
                    Own<Vec<String>>,
                    Own<Option<bool>>,
                );
                let names = ["name", "source", "kind", "options", "save"];
                Arguments::decode(&names, bytes, |(name, source, kind, options, save)| {
                    let wish = Wish {
                        name,
                        source,
                        kind: kind.as_deref(),
                        options: &options,
                        save: save.unwrap_or(false),
                    };
                    encode(&inner.add(Addition::read(wish)?)?)
                })
            },
        ),
        skill(
            "remove",
            "Stops a plugin and forgets it; with `save` it is taken out of the config file as well. With \
             `force` whoever has been compiled for its skills gets errors from then on.",
            &[("name", Shape::Text), ("force", flag()), ("save", flag())],
            Shape::Unit,
            |inner, bytes| {
                type Arguments = (Ref<str>, Own<Option<bool>>, Own<Option<bool>>);
                let names = ["name", "force", "save"];
                Arguments::decode(&names, bytes, |(name, force, save)| {
                    inner.remove(name, force.unwrap_or(false), save.unwrap_or(false))?;
                    encode(&())
                })
            },
        ),
        skill(
            "stop",
            "Stops a plugin; its skills are gone until it is started again. With `force` also if others \
             have been compiled for them.",
            &[("name", Shape::Text), ("force", flag())],
            opaque("PluginStatus"),
            |inner, bytes| {
                <(Ref<str>, Own<Option<bool>>)>::decode(
                    &["name", "force"],
                    bytes,
                    |(name, force)| encode(&inner.stop(name, force.unwrap_or(false))?),
                )
            },
        ),
        skill(
            "stop_set",
            "Stops several plugins side by side, those that start after others before these. With `force` also if \
             others have been compiled for their skills.",
            &stop_set,
            list("PluginStatus"),
            |inner, bytes| {
                let of = ["names", "force"];
                <(Own<Vec<String>>, Own<Option<bool>>)>::decode(&of, bytes, |(names, force)| {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    encode(&inner.stop_set(&names, force.unwrap_or(false))?)
                })
            },
        ),
        skill(
            "restart",
            "Stops plugins and starts them again, those that others start after first.",
            &names,
            list("PluginStatus"),
            |inner, bytes| {
                <(Own<Vec<String>>,)>::decode(&["names"], bytes, |(names,)| {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    encode(&inner.restart(&names)?)
                })
            },
        ),
        skill(
            "start",
            "Starts a plugin that is stopped, finished or has failed.",
            &name,
            opaque("PluginStatus"),
            |inner, bytes| {
                <(Ref<str>,)>::decode(&["name"], bytes, |(name,)| {
                    encode(&inner.start_plugin(name)?)
                })
            },
        ),
        skill(
            "takeover",
            "Hands everything over to the core of another process, which has asked for it, and ends.",
            &[("pid", Shape::U32)],
            list("Handed"),
            |inner, bytes| {
                <(Own<u32>,)>::decode(&["pid"], bytes, |(pid,)| encode(&inner.hand_over_to(pid)?))
            },
        ),
        skill(
            "shutdown",
            "Shuts the core down; returns at once.",
            &[],
            Shape::Unit,
            |inner, bytes| {
                <() as Decode>::decode(&[], bytes, |()| {
                    inner.shutdown_in_background();
                    encode(&())
                })
            },
        ),
    ]
}
