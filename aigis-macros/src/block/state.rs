//! `#[skills]` on an `impl` block: the state of a plugin.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, ImplItem, ImplItemFn, ItemImpl, Result, Type};

use super::handover::Handover;
use super::{
    Condition, Hooks, block_code, constant_code, hook, injected, is_public, join, present,
    read_cleanup, read_hook, refuse_portable, take, with_errors,
};
use crate::attributes::{SkillOptions, SkillsOptions, cfgs_of, combine, doc_of};
use crate::expand::{self, Exposed, What};
use crate::function::{Function, Receiver};
use crate::types;

pub(super) fn of_impl(
    mut block: ItemImpl,
    options: &SkillsOptions,
    mut result: Result<()>,
) -> TokenStream {
    let code = expose_impl(&mut block, options, &mut result);
    match (code, result) {
        (Some(code), Ok(())) => quote!(#block #code),
        (_, Err(error)) => with_errors(block.into_token_stream(), &error),
        (None, Ok(())) => block.into_token_stream(),
    }
}

fn expose_impl(
    block: &mut ItemImpl,
    options: &SkillsOptions,
    result: &mut Result<()>,
) -> Option<TokenStream> {
    if let Some((path, _)) = &block.trait_ {
        let message = "`#[skills]` stands on a type's own `impl` block, not on that of a trait";
        combine(result, Error::new_spanned(path, message));
    }
    if !block.generics.params.is_empty() {
        let message = "the state of a plugin cannot be generic: there is one for each version";
        combine(result, Error::new_spanned(&block.generics, message));
    }
    let state = (*block.self_ty).clone();
    let namespace = match (&options.namespace, type_name(&state)) {
        (Some(text), _) => text.value(),
        (None, Some(name)) => snake_case(&name),
        (None, None) => {
            let message = "`#[skills]` needs a named type here";
            combine(result, Error::new_spanned(&state, message));
            return None;
        }
    };
    let mut codes = Vec::new();
    let mut new = None;
    let mut cleanup = None;
    let mut handover = Handover::default();
    for item in &mut block.items {
        match item {
            ImplItem::Fn(method) => {
                let options = take(&mut method.attrs, result);
                let ident = &method.sig.ident;
                if ident == "new" {
                    let wrong = "`new` is called by the host, so it takes nothing but `ctx` and \
                                 `logger`, and returns `Self` or a `Result` with it";
                    new = read_hook(&method.sig, &[Receiver::None], wrong, result);
                } else if ident == "cleanup" {
                    cleanup = read_cleanup(&method.sig, Receiver::Owned, result)
                        .map(|read| (read, Condition::of(&method.attrs)));
                } else if options.skip.is_none() && handover.takes(method, result) {
                    // It is no skill, whatever its visibility, as `new` and `cleanup` are none.
                } else if is_public(&method.vis) && options.skip.is_none() {
                    codes.extend(method_code(method, &options, &namespace, &state, result));
                }
            }
            ImplItem::Const(constant) => {
                let options = take(&mut constant.attrs, result);
                if is_public(&constant.vis) && options.skip.is_none() {
                    let (attrs, ident, ty) = (&constant.attrs, &constant.ident, &constant.ty);
                    codes.extend(constant_code(
                        attrs,
                        ident,
                        ty,
                        &options,
                        &namespace,
                        Some(&state),
                        result,
                    ));
                }
            }
            _ => {}
        }
    }
    handover.check(result);
    let Some(new) = new else {
        if result.is_ok() {
            let message = "the host makes the state with `new`: add \
                           `pub fn new(ctx: &Context) -> Self` or one that returns a `Result`";
            combine(result, Error::new_spanned(&state, message));
        }
        return None;
    };
    if result.is_err() {
        return None;
    }
    Some(impl_code(
        &namespace,
        &codes,
        &state,
        &new,
        cleanup.as_ref(),
        &handover,
    ))
}

fn impl_code(
    namespace: &str,
    codes: &[expand::SkillCode],
    state: &Type,
    new: &Function,
    cleanup: Option<&(Function, Condition)>,
    handover: &Handover,
) -> TokenStream {
    let open = open_with(state, new, &injected(new));
    let dropped = quote!(__aigis::close_instance(&INSTANCE, __aigis::discard));
    let close = match cleanup {
        Some((function, condition)) => {
            let passed: Vec<_> = std::iter::once(quote!(state))
                .chain(injected(function))
                .collect();
            let call = expand::call(&function.ident, Some(state), &passed);
            let body = expand::outcome(&function.output, &call);
            let close = match function.receiver {
                Receiver::Shared => quote!(close_lent),
                _ => quote!(close_instance),
            };
            let cleaned = quote!(__aigis::#close(&INSTANCE, |state| #body.map(|_| ())));
            condition.choose(&cleaned, &dropped)
        }
        None => dropped,
    };
    // On the author's own token, so that a state that cannot be shared is reported there.
    let empty = quote_spanned!(types::at(state.span())=> __aigis::Instance::<#state>::new());
    let pairing = handover.pairing();
    let extra = quote! {
        static INSTANCE: __aigis::Instance<#state> = #empty;
        #pairing
    };
    let hooks = Hooks {
        open: hook(
            Some((quote!(_), quote!(&::aigis_plugin_api::Context))),
            &quote!(()),
            &open,
        ),
        save: handover.save(namespace, state),
        restore: handover.restore(namespace, state),
        close: hook(None, &quote!(()), &close),
        cleanup: present(cleanup.map(|(_, condition)| condition)),
    };
    block_code(namespace, codes, &extra, &hooks)
}

/// Makes the statements that put what `maker` returns in its place.
pub(super) fn open_with(state: &Type, maker: &Function, passed: &[TokenStream]) -> TokenStream {
    // On the author's own token, so that a wrong result is reported there.
    let (ident, span) = (&maker.ident, types::at(maker.output.ok.span()));
    let make = quote_spanned!(span=> <#state>::#ident(#(#passed),*));
    let made = expand::outcome(&maker.output, &make);
    quote! {
        let made: ::std::result::Result<#state, __aigis::Failure> = #made;
        __aigis::open_instance(&INSTANCE, made)
    }
}

fn method_code(
    method: &ImplItemFn,
    options: &SkillOptions,
    namespace: &str,
    state: &Type,
    result: &mut Result<()>,
) -> Option<expand::SkillCode> {
    let ident = &method.sig.ident;
    refuse_portable(options, result);
    let read = match Function::read(&method.sig) {
        Ok(read) => read,
        Err(error) => {
            combine(result, error);
            return None;
        }
    };
    if read.receiver == Receiver::Owned {
        let message = "a skill shares the state with other calls: take `&self`";
        combine(
            result,
            Error::new_spanned(method.sig.inputs.first(), message),
        );
        return None;
    }
    let own = ident.unraw().to_string();
    let name = options.rename.as_ref().map_or(own, syn::LitStr::value);
    Some(expand::skill(
        &Exposed {
            name: join(namespace, &name),
            doc: doc_of(&method.attrs),
            cfgs: cfgs_of(&method.attrs),
            idempotent: options.idempotent.is_some(),
            portable: false,
            what: What::Function(Box::new(read)),
        },
        Some(state),
    ))
}

fn type_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => Some(path.path.segments.last()?.ident.unraw().to_string()),
        _ => None,
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    let letters: Vec<char> = name.chars().collect();
    for (index, letter) in letters.iter().enumerate() {
        // A new word begins at a capital after a small letter, or before one.
        let after_small = index > 0 && !letters[index - 1].is_uppercase();
        let before_small = index > 0
            && letters
                .get(index + 1)
                .is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_small || before_small) && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn type_names_become_namespaces() {
        for (name, namespace) in [
            ("Counter", "counter"),
            ("TextIndex", "text_index"),
            ("HTTPServer", "http_server"),
            ("Utf8", "utf8"),
        ] {
            assert_eq!(snake_case(name), namespace);
        }
    }
}
