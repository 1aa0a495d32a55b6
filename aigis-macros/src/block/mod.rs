//! `#[skills]` on a module or an `impl` block: what both have in common.

mod handover;
mod module;
mod state;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{Error, Item, Result, Type, Visibility};

use crate::attributes::{SkillOptions, SkillsOptions, cfgs_of, combine, doc_of};
use crate::expand::{self, Exposed, What};
use crate::function::{Function, Parameter, Receiver};
use crate::types;

pub(crate) fn skills(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut result = Ok(());
    let options = SkillsOptions::parse(arguments).unwrap_or_else(|error| {
        combine(&mut result, error);
        SkillsOptions::default()
    });
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Mod(module)) => module::of_module(module, &options, result),
        Ok(Item::Impl(block)) => state::of_impl(block, &options, result),
        Ok(other) => with_errors(
            item,
            &Error::new_spanned(
                first_token(&other),
                "`#[skills]` stands on a module with a body or on an `impl` block",
            ),
        ),
        Err(error) => with_errors(item, &error),
    }
}

fn first_token(item: &Item) -> TokenStream {
    item.to_token_stream().into_iter().take(1).collect()
}

/// Keeps the author's code as it is, so that only the real mistakes are shown.
fn with_errors(item: TokenStream, error: &Error) -> TokenStream {
    let error = error.to_compile_error();
    quote!(#item #error)
}

fn join(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Makes the code of a constant that is exposed.
fn constant_code(
    attributes: &[syn::Attribute],
    ident: &syn::Ident,
    ty: &Type,
    options: &SkillOptions,
    namespace: &str,
    state: Option<&Type>,
    result: &mut Result<()>,
) -> Option<expand::SkillCode> {
    if state.is_some() {
        refuse_portable(options, result);
    }
    let name = match &options.rename {
        Some(name) => name.value(),
        None => ident.unraw().to_string(),
    };
    let ty = types::with_static(ty);
    if let Err(error) = types::check_result(&ty) {
        combine(result, error);
        return None;
    }
    let exposed = Exposed {
        name: join(namespace, &name),
        doc: doc_of(attributes),
        cfgs: cfgs_of(attributes),
        idempotent: true,
        portable: options.portable.is_some(),
        what: What::Constant {
            ident: ident.clone(),
            ty: Box::new(ty),
        },
    };
    Some(expand::skill(&exposed, state))
}

/// Refuses `portable` in an `impl` block.
fn refuse_portable(options: &SkillOptions, result: &mut Result<()>) {
    if let Some(span) = options.portable {
        let message = "a portable skill may run in its caller's process, where the plugin has no \
                       state: move it into a `#[skills]` module";
        combine(result, Error::new(span, message));
    }
}

/// Refuses `portable` on a function that needs more of its plugin than the code.
fn check_portable(function: &Function, options: &SkillOptions, result: &mut Result<()>) {
    let Some(span) = options.portable else {
        return;
    };
    if function.asyncness.is_some() {
        let message = "a portable skill is a plain function: in its caller's process nobody polls \
                       the plugin's futures";
        combine(result, Error::new(span, message));
    }
    let parameters = &function.parameters;
    if (parameters.iter()).any(|parameter| matches!(parameter, Parameter::Context)) {
        let message = "a portable skill may run in its caller's process, where the plugin has no \
                       context: leave `ctx` out, `logger` will do";
        combine(result, Error::new(span, message));
    }
}

fn take(attributes: &mut Vec<syn::Attribute>, result: &mut Result<()>) -> SkillOptions {
    SkillOptions::take(attributes).unwrap_or_else(|error| {
        combine(result, error);
        SkillOptions::default()
    })
}

/// Reads a function that the host calls, which takes nothing but what is injected.
fn read_hook(
    signature: &syn::Signature,
    allowed: &[Receiver],
    wrong: &str,
    result: &mut Result<()>,
) -> Option<Function> {
    let function = match Function::read(signature) {
        Ok(function) => function,
        Err(error) => {
            combine(result, error);
            return None;
        }
    };
    if let Some(span) = function.asyncness {
        let message = format!(
            "`{}` is a plain function: the host goes on when it is back, not when a future is ready",
            function.ident
        );
        combine(result, Error::new(span, message));
        return None;
    }
    let misfit = !allowed.contains(&function.receiver) || function.given().next().is_some();
    if misfit {
        let error = if signature.inputs.is_empty() {
            Error::new_spanned(&signature.ident, wrong)
        } else {
            Error::new_spanned(&signature.inputs, wrong)
        };
        combine(result, error);
        return None;
    }
    Some(function)
}

fn read_cleanup(
    signature: &syn::Signature,
    most: Receiver,
    result: &mut Result<()>,
) -> Option<Function> {
    let (allowed, wrong): (&[Receiver], &str) = match most {
        Receiver::None => (
            &[Receiver::None],
            "`cleanup` is called by the host, so it takes nothing but `ctx` and `logger`",
        ),
        _ => (
            &[Receiver::Owned, Receiver::Shared],
            "`cleanup` is called by the host, so it takes `self`, and nothing but `ctx` and \
             `logger` besides",
        ),
    };
    read_hook(signature, allowed, wrong, result)
}

/// The `#[cfg(…)]` predicates of an item, all of which must hold.
struct Condition(Vec<TokenStream>);

impl Condition {
    fn of(attributes: &[syn::Attribute]) -> Self {
        let predicates =
            cfgs_of(attributes)
                .into_iter()
                .filter_map(|attribute| match &attribute.meta {
                    syn::Meta::List(list) => Some(list.tokens.clone()),
                    _ => None,
                });
        Self(predicates.collect())
    }

    /// Makes an expression that is `there` where the item is compiled, and `gone` elsewhere.
    fn choose(&self, there: &TokenStream, gone: &TokenStream) -> TokenStream {
        let Self(predicates) = self;
        if predicates.is_empty() {
            return there.clone();
        }
        quote! {{
            #[cfg(all(#(#predicates),*))]
            let chosen = #there;
            #[cfg(not(all(#(#predicates),*)))]
            let chosen = #gone;
            chosen
        }}
    }
}

/// Makes the expression that tells whether an item is there.
fn present(condition: Option<&Condition>) -> TokenStream {
    match condition {
        Some(Condition(predicates)) => quote!(::std::cfg!(all(#(#predicates),*))),
        None => quote!(false),
    }
}

fn injected(function: &Function) -> Vec<TokenStream> {
    function
        .parameters
        .iter()
        .filter_map(|parameter| match parameter {
            Parameter::Context => Some(quote!(__aigis::context()?)),
            Parameter::Logger => Some(quote!(__aigis::context()?.logger())),
            Parameter::Given { .. } => None,
        })
        .collect()
}

/// The functions of a block that the host calls, as expressions for the fields of a `Block`.
struct Hooks {
    open: TokenStream,
    save: TokenStream,
    restore: TokenStream,
    close: TokenStream,
    /// Whether the author wrote a `cleanup`.
    cleanup: TokenStream,
}

impl Hooks {
    /// None at all.
    fn absent() -> Self {
        Self {
            open: absent(),
            save: absent(),
            restore: absent(),
            close: absent(),
            cleanup: present(None),
        }
    }
}

fn absent() -> TokenStream {
    quote!(::std::option::Option::None)
}

/// Makes a function of `body` that can fail, and a pointer to it in `Some`.
fn hook(
    parameter: Option<(TokenStream, TokenStream)>,
    ok: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let (name, ty): (Vec<_>, Vec<_>) = parameter.into_iter().unzip();
    quote! {
        ::std::option::Option::Some({
            fn hook(#(#name: #ty),*) -> ::std::result::Result<#ok, __aigis::Failure> {
                #body
            }
            // A pointer at once: where a `#[cfg]` chooses, both sides are to be of one type.
            let hook: fn(#(#ty),*) -> ::std::result::Result<#ok, __aigis::Failure> = hook;
            hook
        })
    }
}

/// Makes the registration of one module or `impl` block.
fn block_code(
    namespace: &str,
    codes: &[expand::SkillCode],
    extra: &TokenStream,
    hooks: &Hooks,
) -> TokenStream {
    let prelude = expand::prelude();
    let items = codes.iter().map(|code| &code.items);
    let entries = codes.iter().map(|code| &code.entry);
    let Hooks {
        open,
        save,
        restore,
        close,
        cleanup,
    } = hooks;
    quote! {
        const _: () = {
            #prelude
            #extra
            #(#items)*

            __aigis::inventory::submit! {
                __aigis::Block {
                    module: ::std::module_path!(),
                    line: ::std::line!(),
                    namespace: #namespace,
                    skills: &[#(#entries),*],
                    open: #open,
                    save: #save,
                    restore: #restore,
                    close: #close,
                    cleanup: #cleanup,
                    // Cargo sets it for the crates of programs alone.
                    of_program: ::std::option_env!("CARGO_BIN_NAME").is_some(),
                }
            }
        };
    }
}
