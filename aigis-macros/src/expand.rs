//! Code for single skills and signatures.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Type};

use crate::function::{Function, Parameter, Receiver};
use crate::types::{self, Iterated, Output};

/// One item that is exposed.
pub(crate) struct Exposed<'a> {
    /// The full name.
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) cfgs: Vec<&'a Attribute>,
    pub(crate) idempotent: bool,
    pub(crate) portable: bool,
    pub(crate) what: What,
}

/// What is exposed.
pub(crate) enum What {
    Function(Box<Function>),
    Constant { ident: Ident, ty: Box<Type> },
}

/// The code for one skill.
pub(crate) struct SkillCode {
    /// Its types: items for the block's scope.
    pub(crate) items: TokenStream,
    /// Its entry in the block's list.
    pub(crate) entry: TokenStream,
}

/// The names that every generated block begins with.
pub(crate) fn prelude() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::aigis_plugin_api::__private::{
            self as __aigis, AsyncSkillFn as _, Begun as _, Chained as _, Coded as _, Modes as _,
            Opaque as _, Opened as _, OpenedAsync as _, Payloaded as _, Readable as _, Restored as _, Saved as _, Shown as _,
            SkillFn as _, Structural as _, Typed as _, Unbegun as _, Uncoded as _, Unheard as _,
            Unopened as _, Unreadable as _, Unrestored as _, Unsaved as _, Unserved as _, Unshown as _, Untyped as _, Valued as _,
            ViaBytes as _, ViaEntry as _, ViaItems as _,
        };
    }
}

/// Makes the code for one skill; `state` is the type whose methods are exposed.
pub(crate) fn skill(exposed: &Exposed<'_>, state: Option<&Type>) -> SkillCode {
    match &exposed.what {
        What::Function(function) => of_function(exposed, function, state),
        What::Constant { ident, ty } => of_constant(exposed, ident, ty, state),
    }
}

fn own(ty: &Type, state: Option<&Type>) -> Type {
    match state {
        Some(state) => types::without_self(ty, state),
        None => ty.clone(),
    }
}

fn of_function(exposed: &Exposed<'_>, function: &Function, state: Option<&Type>) -> SkillCode {
    let marker = format_ident!("Skill_{}", function.ident.unraw());
    let mut places = Vec::new();
    let mut passed = Vec::new();
    let mut given = Vec::new();
    let with_state = function.receiver != Receiver::None;
    if with_state {
        passed.push(quote!(state));
    }
    for parameter in &function.parameters {
        match parameter {
            Parameter::Given { name, ty } => {
                let place = format_ident!("argument_{}", places.len());
                passed.push(quote!(#place));
                places.push(place);
                given.push((name.as_str(), own(ty, state)));
            }
            Parameter::Context => passed.push(quote!(__aigis::context()?)),
            Parameter::Logger => passed.push(quote!(__aigis::context()?.logger())),
        }
    }
    // Every parameter was checked when the function was read.
    let modes: Vec<TokenStream> = given
        .iter()
        .filter_map(|(_, ty)| types::mode(ty).ok())
        .collect();
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    let ok = own(&function.output.ok, state);
    let mut call = call(&function.ident, state, &passed);
    if function.asyncness.is_some() {
        call = quote!(#call.await);
    }
    let mut body = outcome(&function.output, &call);
    if let (true, Some(ty)) = (with_state, state) {
        body = match function.asyncness {
            None => quote!(__aigis::with_instance(&INSTANCE, |state| #body)),
            // Lent for the future's own lifetime, whatever the method asks for.
            Some(_) => quote! {{
                let state: &'future #ty = __aigis::instance_of(&INSTANCE)?;
                #body
            }},
        };
    }
    let output = Output {
        ok: ok.clone(),
        error: function.output.error.as_ref().map(|e| own(e, state)),
        ..function.output.clone()
    };
    let signature = signature(&given, &output, false);
    let logger = function
        .parameters
        .iter()
        .any(|parameter| matches!(parameter, Parameter::Logger));
    let kept: &[&str] = match function.asyncness {
        None => &["is_taken"],
        Some(_) => &["is_taken", "is_kept"],
    };
    let checks = checks(given.iter().map(|(_, ty)| ty), kept, &ok);
    code(
        exposed,
        &marker,
        &Parts {
            asyncness: function.asyncness.map(|_| function.ident.span()),
            streams: Streams::of(given.iter().map(|(_, ty)| ty), &ok),
            modes: &modes,
            places: &places,
            names: &names,
            ok: &ok,
            body: &body,
            signature: &signature,
            checks: &checks,
            logger,
        },
    )
}

fn of_constant(exposed: &Exposed<'_>, ident: &Ident, ty: &Type, state: Option<&Type>) -> SkillCode {
    let marker = format_ident!("Skill_{}", ident.unraw());
    let ok = own(ty, state);
    let value = match state {
        Some(state) => quote!(<#state>::#ident),
        None => quote!(#ident),
    };
    let output = Output {
        ok: ok.clone(),
        error: None,
        fallible: false,
        iterator: None,
    };
    code(
        exposed,
        &marker,
        &Parts {
            asyncness: None,
            streams: Streams::None,
            modes: &[],
            places: &[],
            names: &[],
            ok: &ok,
            body: &quote!(::std::result::Result::Ok(#value)),
            signature: &signature(&[], &output, true),
            checks: &checks(std::iter::empty(), &[], &ok),
            logger: false,
        },
    )
}

/// Where a skill has streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    None,
    /// Among the parameters alone.
    Given,
    /// The result is one.
    Returned,
}

impl Streams {
    pub(crate) fn of<'t>(mut given: impl Iterator<Item = &'t Type>, ok: &Type) -> Self {
        if types::stream_item(ok).is_some() {
            return Self::Returned;
        }
        if given.any(|ty| types::stream_item(ty).is_some()) {
            return Self::Given;
        }
        Self::None
    }
}

struct Parts<'a> {
    /// Where an async function has its name.
    asyncness: Option<Span>,
    streams: Streams,
    modes: &'a [TokenStream],
    places: &'a [Ident],
    names: &'a [&'a str],
    ok: &'a Type,
    body: &'a TokenStream,
    signature: &'a TokenStream,
    checks: &'a TokenStream,
    logger: bool,
}

fn code(exposed: &Exposed<'_>, marker: &Ident, parts: &Parts<'_>) -> SkillCode {
    let Exposed {
        name,
        doc,
        cfgs,
        idempotent,
        portable,
        ..
    } = exposed;
    let Parts {
        asyncness,
        streams,
        modes,
        places,
        names,
        ok,
        body,
        signature,
        checks,
        logger,
    } = parts;
    let (kind, run) = match asyncness {
        None => (
            quote!(SkillFn),
            quote! {
                fn run(
                    (#(#places,)*): <Self::Args as __aigis::Modes>::Values<'_>,
                ) -> ::std::result::Result<Self::Output, __aigis::Failure> {
                    #body
                }
            },
        ),
        Some(span) => {
            // On the author's own token, so that a future that is not `Send` is reported there.
            let future = quote_spanned!(types::at(*span)=> async move { #body });
            (
                quote!(AsyncSkillFn),
                quote! {
                    #[allow(clippy::manual_async_fn)]
                    fn run<'future>(
                        (#(#places,)*): <Self::Args as __aigis::Modes>::Values<'future>,
                    ) -> impl ::std::future::Future<
                        Output = ::std::result::Result<Self::Output, __aigis::Failure>,
                    > + ::std::marker::Send + 'future {
                        #future
                    }
                },
            )
        }
    };
    let items = quote! {
        #(#cfgs)*
        #[allow(non_camel_case_types)]
        struct #marker;

        #(#cfgs)*
        impl __aigis::#kind for #marker {
            type Args = (#(#modes,)*);
            type Output = #ok;
            const NAME: &'static str = #name;

            #run
        }

        #(#cfgs)*
        #checks
    };
    let open = match asyncness {
        None => format_ident!("open"),
        Some(_) => format_ident!("open_async"),
    };
    let open = match streams {
        Streams::None => quote!(open: ::std::option::Option::None,),
        Streams::Given | Streams::Returned => quote! {
            open: ::std::option::Option::Some(|names, arguments, streams| {
                (&__aigis::OpenedOf::<#marker>::NEW).#open(names, arguments, streams)
            }),
        },
    };
    let ways = match asyncness {
        _ if *streams == Streams::Returned => quote! {
            encoded: __aigis::only_opened,
            direct: __aigis::no_entry,
            begin: ::std::option::Option::None,
        },
        None if *streams == Streams::Given => quote! {
            encoded: |names, arguments| {
                (&__aigis::EncodedOf::<#marker>::NEW).run(names, arguments)
            },
            direct: __aigis::no_entry,
            begin: ::std::option::Option::None,
        },
        None => quote! {
            encoded: |names, arguments| {
                (&__aigis::EncodedOf::<#marker>::NEW).run(names, arguments)
            },
            direct: |signature| (&__aigis::EntryOf::<#marker>::NEW).entry(signature),
            begin: ::std::option::Option::None,
        },
        Some(_) => quote! {
            encoded: __aigis::not_called,
            direct: __aigis::no_entry,
            begin: ::std::option::Option::Some(|names, arguments| {
                (&__aigis::BegunOf::<#marker>::NEW).begin(names, arguments)
            }),
        },
    };
    let entry = quote! {
        #(#cfgs)*
        __aigis::Skill {
            name: #name,
            doc: #doc,
            parameters: &[#(#names),*],
            signature: || #signature,
            #ways
            #open
            logger: #logger,
            idempotent: #idempotent,
            portable: #portable,
        }
    };
    SkillCode { items, entry }
}

/// Makes the call of an author's function.
pub(crate) fn call(ident: &Ident, state: Option<&Type>, passed: &[TokenStream]) -> TokenStream {
    match state {
        Some(state) => quote!(<#state>::#ident(#(#passed),*)),
        None => quote!(#ident(#(#passed),*)),
    }
}

/// Turns what an author's function returns into a `Result` with a failure.
pub(crate) fn outcome(output: &Output, call: &TokenStream) -> TokenStream {
    let value = made(output, &quote!(value));
    if !output.fallible {
        let value = made(output, call);
        return quote!(::std::result::Result::Ok(#value));
    }
    // On the error's own token, so that a type without `Display` is reported there.
    let span = output
        .error
        .as_ref()
        .map_or_else(types::here, |error| types::at(error.span()));
    let failure = quote_spanned! {span=> {
        __aigis::is_shown(&error);
        (&&&&&__aigis::AuthorError(&error)).failure()
    }};
    quote! {
        match #call {
            ::std::result::Result::Ok(value) => ::std::result::Result::Ok(#value),
            ::std::result::Result::Err(error) => ::std::result::Result::Err(#failure),
        }
    }
}

/// Makes a stream of an iterator that is returned; anything else is left as it is.
fn made(output: &Output, value: &TokenStream) -> TokenStream {
    let Some(iterator) = &output.iterator else {
        return value.clone();
    };
    // On the author's own token, so that an iterator that borrows, or is not `Send`, is reported there.
    let span = types::at(output.ok.span());
    let stream = quote_spanned!(span=> ::aigis_plugin_api::Stream::of(#value));
    match iterator {
        Iterated::Items => stream,
        Iterated::UntilError(error) => {
            let span = types::at(error.span());
            quote_spanned! {span=> __aigis::ending(#stream, |error: &#error| {
                __aigis::is_shown(error);
                (&&&&&__aigis::AuthorError(error)).failure()
            })}
        }
    }
}

/// Makes the expression for a signature.
pub(crate) fn signature(given: &[(&str, Type)], output: &Output, constant: bool) -> TokenStream {
    let parameters = given.iter().map(|(name, ty)| {
        let shape = types::shape(ty);
        quote!(__aigis::Parameter { name: #name.into(), shape: #shape })
    });
    let result = types::shape(&output.ok);
    let error = match &output.error {
        Some(error) => {
            let name = types::display_name(error);
            quote!(::std::option::Option::Some(#name.into()))
        }
        None if output.fallible => quote!(::std::option::Option::Some("_".into())),
        None => quote!(::std::option::Option::None),
    };
    quote! {{
        #[allow(unused_variables)]
        let cx = &mut ::aigis_plugin_api::ShapeContext::default();
        __aigis::Signature {
            parameters: ::std::vec![#(#parameters),*],
            result: #result,
            error: #error,
            constant: #constant,
        }
    }}
}

/// Asks for what the types must be able to do, each on the author's own token.
fn checks<'t>(given: impl Iterator<Item = &'t Type>, questions: &[&str], ok: &Type) -> TokenStream {
    let given = given.flat_map(|ty| questions.iter().map(|question| check(ty, question)));
    let result = check(ok, "is_returned");
    quote! {
        const _: () = {
            #(#given)*
            #result
        };
    }
}

/// Asks one question of a type, or of what a reference refers to.
pub(crate) fn check(ty: &Type, question: &str) -> TokenStream {
    let (span, question) = (types::at(ty.span()), format_ident!("{question}"));
    let ty = match ty {
        Type::Reference(reference) => &*reference.elem,
        ty => types::stream_item(ty).unwrap_or(ty),
    };
    quote_spanned!(span=> __aigis::#question::<#ty>();)
}
