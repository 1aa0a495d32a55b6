//! `#[skills]` on a module or an `impl` block.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, ImplItem, ImplItemFn, Item, ItemFn, ItemImpl, ItemMod, Result, Type, Visibility};

use crate::attributes::{SkillOptions, SkillsOptions, cfgs_of, combine, doc_of};
use crate::expand::{self, Exposed, What};
use crate::function::{Function, Parameter, Receiver};
use crate::types;

/// The names with a meaning of their own in an `impl` block.
const RESERVED: [&str; 2] = ["save", "restore"];

pub(crate) fn skills(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut result = Ok(());
    let options = SkillsOptions::parse(arguments).unwrap_or_else(|error| {
        combine(&mut result, error);
        SkillsOptions::default()
    });
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Mod(module)) => of_module(module, &options, result),
        Ok(Item::Impl(block)) => of_impl(block, &options, result),
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

fn of_module(mut module: ItemMod, options: &SkillsOptions, mut result: Result<()>) -> TokenStream {
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
                    let own = constant.ident.unraw().to_string();
                    let name = options.rename.as_ref().map_or(own, syn::LitStr::value);
                    let ty = types::with_static(&constant.ty);
                    if let Err(error) = types::check_result(&ty) {
                        combine(result, error);
                        continue;
                    }
                    codes.push(expand::skill(
                        &Exposed {
                            name: join(namespace, &name),
                            doc: doc_of(&constant.attrs),
                            cfgs: cfgs_of(&constant.attrs),
                            idempotent: true,
                            what: What::Constant {
                                ident: constant.ident.clone(),
                                ty: Box::new(ty),
                            },
                        },
                        None,
                    ));
                }
            }
            Item::Mod(inner) if inner.content.is_some() => {
                let options = take(&mut inner.attrs, result);
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
    let close = cleanup.as_ref().map(|(function, condition)| {
        let call = expand::call(&function.ident, None, &injected(function));
        let body = expand::outcome(&function.output, &call);
        condition.choose(
            &quote!(#body.map(|_| ())),
            &quote!(::std::result::Result::Ok(())),
        )
    });
    let block = block_code(
        &codes,
        &TokenStream::new(),
        None,
        close.as_ref(),
        &present(cleanup.as_ref().map(|(_, condition)| condition)),
    );
    items.push(Item::Verbatim(block));
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn take(attributes: &mut Vec<syn::Attribute>, result: &mut Result<()>) -> SkillOptions {
    SkillOptions::take(attributes).unwrap_or_else(|error| {
        combine(result, error);
        SkillOptions::default()
    })
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
            what: What::Function(Box::new(read)),
        },
        None,
    ))
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

/// Makes the registration of one module or `impl` block.
fn block_code(
    codes: &[expand::SkillCode],
    extra: &TokenStream,
    open: Option<&TokenStream>,
    close: Option<&TokenStream>,
    cleanup: &TokenStream,
) -> TokenStream {
    let prelude = expand::prelude();
    let items = codes.iter().map(|code| &code.items);
    let entries = codes.iter().map(|code| &code.entry);
    let none = quote!(::std::option::Option::None);
    let hook = |body: &TokenStream, parameters: TokenStream| {
        quote! {
            ::std::option::Option::Some({
                fn hook(#parameters) -> ::std::result::Result<(), __aigis::Failure> {
                    #body
                }
                hook
            })
        }
    };
    let open = open.map_or_else(
        || none.clone(),
        |body| hook(body, quote!(_: &::aigis_plugin_api::Context)),
    );
    let close = close.map_or_else(|| none.clone(), |body| hook(body, TokenStream::new()));
    quote! {
        const _: () = {
            #prelude
            #extra
            #(#items)*

            __aigis::inventory::submit! {
                __aigis::Block {
                    module: ::std::module_path!(),
                    line: ::std::line!(),
                    skills: &[#(#entries),*],
                    open: #open,
                    close: #close,
                    cleanup: #cleanup,
                }
            }
        };
    }
}

fn of_impl(mut block: ItemImpl, options: &SkillsOptions, mut result: Result<()>) -> TokenStream {
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
                } else if is_public(&method.vis) && options.skip.is_none() {
                    codes.extend(method_code(method, &options, &namespace, &state, result));
                }
            }
            ImplItem::Const(constant) => {
                let options = take(&mut constant.attrs, result);
                if is_public(&constant.vis) && options.skip.is_none() {
                    let own = constant.ident.unraw().to_string();
                    let name = options.rename.as_ref().map_or(own, syn::LitStr::value);
                    let ty = types::with_static(&constant.ty);
                    if let Err(error) = types::check_result(&ty) {
                        combine(result, error);
                        continue;
                    }
                    codes.push(expand::skill(
                        &Exposed {
                            name: join(&namespace, &name),
                            doc: doc_of(&constant.attrs),
                            cfgs: cfgs_of(&constant.attrs),
                            idempotent: true,
                            what: What::Constant {
                                ident: constant.ident.clone(),
                                ty: Box::new(ty),
                            },
                        },
                        Some(&state),
                    ));
                }
            }
            _ => {}
        }
    }
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
    Some(impl_code(&codes, &state, &new, cleanup.as_ref()))
}

fn impl_code(
    codes: &[expand::SkillCode],
    state: &Type,
    new: &Function,
    cleanup: Option<&(Function, Condition)>,
) -> TokenStream {
    // On the author's own token, so that a wrong result is reported there.
    let (ident, span, passed) = (&new.ident, types::at(new.output.ok.span()), injected(new));
    let make = quote_spanned!(span=> <#state>::#ident(#(#passed),*));
    let made = expand::outcome(&new.output, &make);
    let open = quote! {
        let made: ::std::result::Result<#state, __aigis::Failure> = #made;
        __aigis::open_instance(&INSTANCE, made)
    };
    let dropped = quote!(__aigis::discard(state));
    let end = match cleanup {
        Some((function, condition)) => {
            let receiver = match function.receiver {
                Receiver::Shared => quote!(&state),
                _ => quote!(state),
            };
            let passed: Vec<_> = std::iter::once(receiver)
                .chain(injected(function))
                .collect();
            let call = expand::call(&function.ident, Some(state), &passed);
            let body = expand::outcome(&function.output, &call);
            condition.choose(&quote!(#body.map(|_| ())), &dropped)
        }
        None => dropped,
    };
    let close = quote!(__aigis::close_instance(&INSTANCE, |state| #end));
    // On the author's own token, so that a state that cannot be shared is reported there.
    let empty = quote_spanned!(types::at(state.span())=> __aigis::Instance::<#state>::new());
    let extra = quote! {
        static INSTANCE: __aigis::Instance<#state> = #empty;
    };
    let cleanup = present(cleanup.map(|(_, condition)| condition));
    block_code(codes, &extra, Some(&open), Some(&close), &cleanup)
}

fn method_code(
    method: &ImplItemFn,
    options: &SkillOptions,
    namespace: &str,
    state: &Type,
    result: &mut Result<()>,
) -> Option<expand::SkillCode> {
    let ident = &method.sig.ident;
    if RESERVED.iter().any(|reserved| ident == reserved) {
        let message = format!(
            "`{ident}` is kept for handing the state to the next version: give the method another \
             name; `#[skill(rename = \"{ident}\")]` on it keeps the skill's"
        );
        combine(result, Error::new_spanned(ident, message));
        return None;
    }
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
