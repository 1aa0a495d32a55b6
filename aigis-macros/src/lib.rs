//! The macros of `aigis-plugin-api`, which re-exports them with examples; use them from there.
//!
//! This file routes. `block` and `function` read what the author wrote, `types` knows which
//! types can cross, and the rest expands.

mod attributes;
mod block;
mod direct;
mod expand;
mod function;
mod import;
mod launch;
mod skill_type;
mod source;
mod types;

use proc_macro::TokenStream;

/// Exposes the functions and constants of a module, or the methods of a type, as skills.
///
/// On a **module**: every `pub fn` and `pub const` is a skill named `module.item`; inline `pub mod`s
/// are nested namespaces. `fn cleanup()` runs once, when this version of the plugin is retired.
///
/// On an **`impl` block**: `new(ctx)` makes the state, one for each loaded version; every other
/// `pub fn` and `pub const` is a skill named `type_in_snake_case.item`, and those with `&self` share
/// the state; `cleanup(self)` frees it. `save(&self)` and `restore(saved)` hand it to the next
/// version, see below.
///
/// `#[skills(namespace = "other.name")]` names another namespace, `""` none. `#[skill(skip)]`,
/// `#[skill(rename = "…")]`, `#[skill(idempotent)]` and `#[skill(portable)]` stand on single items.
/// Parameters of type `&Context` and `&Logger` are injected, and no part of the signature.
///
/// A skill may be an `async fn`, also with `&self`: the host polls its future, which owns its
/// parameters, and drops it when the call is given up. `new` and `cleanup` are plain functions. A
/// caller does not see the difference, and waits for an async skill like for any other.
///
/// Parameters are any types that serde can read, by value or as `&T`, `&str`, `&[T]`; results any
/// that serde can write, or a `Result` with the author's error. Between core plugins, scalars, text,
/// bytes, `Option`, `Vec`, arrays, tuples, `Result`, `Box` and types with `#[skill_type]` are not even
/// encoded, and a `String` or a `Vec` that is returned is handed over, not copied.
///
/// # Streams
///
/// A result that comes item by item is a `Stream<T>` or an `impl Iterator<Item = T>` (`Send`, and owning what
/// it needs: with `&self` write `+ use<>`), also inside the author's `Result`. If the items of the iterator
/// are `Result`s, the first error ends the stream. A parameter of type `Stream<T>` is an iterator of what the
/// caller gives. A stream is a whole result or a whole parameter, never inside another type. Items are made
/// when they are asked for, by whichever thread asks. A stream goes on while the state is saved, and in this
/// version when the next one serves, at most for the plugin's `DRAIN_TIMEOUT`.
///
/// # Handing the state to the next version
///
/// Without further ado a reload begins with `new`. A state that is to outlive it has two more
/// functions, which are no skills, whatever their visibility:
///
/// - `fn save(&self) -> T` returns what the next version is to know: any type that serde can write.
/// - `fn restore(saved: T) -> Self` makes the state from it, in place of `new`.
///
/// Both may take `ctx` and `logger` besides, in any order, and return a `Result`. The two are of
/// different versions, so their types need not be the same: fields are found by their names, those
/// that are gone are passed over, and a new one needs `#[serde(default)]`. Each block has its state
/// under its namespace, so a type that gets another name keeps its state with
/// `#[skills(namespace = "the_old_one")]`.
///
/// `new` is needed all the same: it runs at the first start, and wherever the version before has
/// saved nothing for the block. A `save` needs a `restore` next to it. A `restore` alone takes over
/// from a version before, and hands nothing on.
///
/// While `save` runs no call is inside, and new ones wait until the next version has restored. If
/// either fails, panics or takes too long, they go on in this version, with the state as `save` left
/// it: so `save` takes nothing away. What threads of the plugin's own change afterwards is lost to
/// the next version.
///
/// In a module, which has no state, `save` and `restore` are names like any other. In an `impl` block
/// `#[skill(skip)]` makes them that, and `#[skill(rename = "save")]` on a method of another name makes
/// a skill `save`.
///
/// # Portable skills
///
/// `#[skill(portable)]` on a plain function or a constant of a module lets its code come to a caller in
/// another process that asks for it, with `#[portable]` in `import!`. There it is called directly, as
/// between core plugins, and a reload reaches it at once.
///
/// Then it runs in the caller's process: it has no state and no `ctx`, neither `new` nor `cleanup` runs
/// there, and statics are that process's own. `logger` writes to that process's log, from `info`
/// upwards. What it imports itself is called through the session of its caller. A panic is an error of
/// the call, as anywhere, but a crash is the caller's. So such a skill computes from what it is given;
/// whatever the callers of a plugin share belongs into another one.
///
/// # Panics in these functions
///
/// A panic in a skill, in `new`, `restore`, `save` or `cleanup`, or in the `Drop` of the state, ends
/// there: the host gets an error with its message and place, and the log one line. One kind cannot be
/// caught: where a panic unwinds through a value whose own `Drop` panics, that is, a second panic
/// inside the first, Rust aborts the process, which is the core and every plugin in it. The same holds
/// for a stack that overflows. A plugin whose code may do that, or that calls foreign code which may,
/// belongs in a process of its own: make it an internal plugin, with
/// `launch`, so that it fails alone and is started again.
#[proc_macro_attribute]
pub fn skills(arguments: TokenStream, item: TokenStream) -> TokenStream {
    block::skills(arguments.into(), item.into()).into()
}

/// Marks one item of a `#[skills]` block: `skip`, `rename = "…"`, `idempotent`, `portable`.
///
/// The surrounding `#[skills]` reads it, and `import!` reads `rename`, so it need not be imported;
/// anywhere else it is a mistake.
#[proc_macro_attribute]
pub fn skill(_: TokenStream, item: TokenStream) -> TokenStream {
    let item: proc_macro2::TokenStream = item.into();
    let error = syn::Error::new(
        types::here(),
        "`#[skill(…)]` marks a function, a constant or a module inside `#[skills]`",
    )
    .into_compile_error();
    quote::quote!(#item #error).into()
}

/// Makes functions that call skills.
///
/// What is imported is what is *expected*, not whose it is: any plugin whose skill has a compatible
/// signature serves it. Imports resolve at the first call.
///
/// A function that is declared `async` starts the call and returns a future of its result, whether or
/// not the skill itself is `async`; dropping the future gives the call up.
///
/// A skill that returns items one by one is declared with the result `Stream<T>`, whatever its author wrote.
///
/// `#[portable]` on a function or a constant asks for the code of a portable skill, in a program that is
/// built with the feature `portable` of `aigis-plugin-api`. The first calls go through the session, until
/// the code is there; so do those of a skill that is not portable, is not offered by a core plugin, or
/// cannot be brought to this process for any other reason, and those made with `start::…`. The result is
/// the same. A library that was brought stays in the process until its end; after 64 different ones no
/// more are taken.
#[proc_macro]
pub fn import(input: TokenStream) -> TokenStream {
    import::import(input.into()).into()
}

/// Makes a struct or an enum part of the signatures it appears in, field by field.
///
/// Such a type crosses between core plugins as it is, without being encoded, if all its fields do:
/// scalars, `String`, `Option`, `Vec`, arrays, tuples, `Result`, `Box` and other skill types. A field
/// that does not (a map, a plain serde type, the type itself again) is no mistake: then the whole
/// is encoded.
///
/// Adds serde's derives where the author has not written them. Types with serde attributes that
/// change more than names and defaults are known by their path alone, like any other serde type.
#[proc_macro_attribute]
pub fn skill_type(arguments: TokenStream, item: TokenStream) -> TokenStream {
    skill_type::skill_type(arguments.into(), item.into()).into()
}

/// Makes the `main` of an internal plugin: connects to the core, then runs the function.
///
/// The function is named `launch` and takes nothing or a `&Context`; it may return a `Result`.
#[proc_macro_attribute]
pub fn launch(arguments: TokenStream, item: TokenStream) -> TokenStream {
    launch::launch(arguments.into(), item.into()).into()
}

/// Expands to the sources of this crate, as `&[(&str, &str)]` of paths and contents.
#[doc(hidden)]
#[proc_macro]
pub fn __own_source(_: TokenStream) -> TokenStream {
    source::own().into()
}

/// Expands to the sources of the crate it is called in, as `&[(&str, &str)]` of paths and contents.
#[doc(hidden)]
#[proc_macro]
pub fn __callers_source(_: TokenStream) -> TokenStream {
    source::of_caller().into()
}
