//! `#[skills]` on a module.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Error, Item, ItemFn, ItemMod, Result};

use super::{
    Condition, Hooks, block_code, check_portable, constant_code, hook, injected, is_public, join,
    present, read_cleanup, take, with_errors,
};
use crate::attributes::{SkillOptions, SkillsOptions, cfgs_of, combine, doc_of};
use crate::expand::{self, Exposed, What};
use crate::function::{Function, Receiver};

pub(super) fn of_module(
    mut module: ItemMod,
    options: &SkillsOptions,
    mut result: Result<()>,
) -> TokenStream {
    let namespace = match &options.namespace {
        Some(text) => text.value(),
        None => module.ident.unraw().to_string(),
    };
    expose_module(&mut module, &namespace, true, &mut result);
    match result {
        Ok(()) => module.into_token_stream(),
        Err(error) => with_errors(module.into_token_stream(), &error),
    }
}

/// Adds the block's code to a module and to the inline modules in it.
fn expose_module(module: &mut ItemMod, namespace: &str, outermost: bool, result: &mut Result<()>) {
    let Some((_, items)) = &mut module.content else {
        let message = "`#[skills]` needs the module's body here: write `mod name { … }`";
        combine(result, Error::new_spanned(&module.ident, message));
        return;
    };
    // Whether anything in it can be a skill is asked of this module alone.
    let mut codes = Vec::new();
    let mut cleanup = None;
    for item in items.iter_mut() {
        match item {
            Item::Fn(function) => {
                let options = take(&mut function.attrs, result);
                if function.sig.ident == "cleanup" {
                    if outermost {
                        cleanup = read_cleanup(&function.sig, Receiver::None, result)
                            .map(|read| (read, Condition::of(&function.attrs)));
                    } else {
                        let message = "`cleanup` belongs to the outermost module of the block";
                        combine(result, Error::new_spanned(&function.sig.ident, message));
                    }
                } else if is_public(&function.vis) && options.skip.is_none() {
                    codes.extend(function_code(function, &options, namespace, result));
                }
            }
            Item::Const(constant) => {
                let options = take(&mut constant.attrs, result);
                if is_public(&constant.vis) && options.skip.is_none() && constant.ident != "_" {
                    let (attrs, ident, ty) = (&constant.attrs, &constant.ident, &constant.ty);
                    codes.extend(constant_code(
                        attrs, ident, ty, &options, namespace, None, result,
                    ));
                }
            }
            Item::Mod(inner) if inner.content.is_some() => {
                let options = take(&mut inner.attrs, result);
                if let Some(span) = options.portable {
                    let message = "`portable` stands on single functions and constants";
                    combine(result, Error::new(span, message));
                }
                if is_public(&inner.vis) && options.skip.is_none() {
                    let own = inner.ident.unraw().to_string();
                    let name = options.rename.as_ref().map_or(own, syn::LitStr::value);
                    expose_module(inner, &join(namespace, &name), false, result);
                }
            }
            _ => {}
        }
    }
    if result.is_err() || (codes.is_empty() && cleanup.is_none()) {
        return;
    }
    let mut hooks = Hooks::absent();
    if let Some((function, condition)) = &cleanup {
        let call = expand::call(&function.ident, None, &injected(function));
        let body = expand::outcome(&function.output, &call);
        let body = condition.choose(
            &quote!(#body.map(|_| ())),
            &quote!(::std::result::Result::Ok(())),
        );
        hooks.close = hook(None, &quote!(()), &body);
        hooks.cleanup = present(Some(condition));
    }
    let block = block_code(namespace, &codes, &TokenStream::new(), &hooks);
    items.push(Item::Verbatim(block));
}

fn function_code(
    function: &ItemFn,
    options: &SkillOptions,
    namespace: &str,
    result: &mut Result<()>,
) -> Option<expand::SkillCode> {
    let read = match Function::read(&function.sig) {
        Ok(read) => read,
        Err(error) => {
            combine(result, error);
            return None;
        }
    };
    check_portable(&read, options, result);
    if read.receiver != Receiver::None {
        // The compiler says what is wrong: there is no `self` outside of an `impl` block.
        return None;
    }
    let own = function.sig.ident.unraw().to_string();
    let name = options.rename.as_ref().map_or(own, syn::LitStr::value);
    Some(expand::skill(
        &Exposed {
            name: join(namespace, &name),
            doc: doc_of(&function.attrs),
            cfgs: cfgs_of(&function.attrs),
            idempotent: options.idempotent.is_some(),
            portable: options.portable.is_some(),
            what: What::Function(Box::new(read)),
        },
        None,
    ))
}
