//! `import!`: the caller's side.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Ident, Result, Token, Type, Visibility, braced};

use crate::attributes::{SkillOptions, cfgs_of, combine, take_portable};
use crate::expand::{self, Streams};
use crate::function::{Function, Parameter, Receiver};
use crate::types::{self, Output};

struct Module {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    ident: Ident,
    declarations: Vec<Declaration>,
}

enum Declaration {
    Module(Module),
    Function {
        attributes: Vec<Attribute>,
        visibility: Visibility,
        signature: Box<syn::Signature>,
    },
    Constant {
        attributes: Vec<Attribute>,
        visibility: Visibility,
        ident: Ident,
        ty: Box<Type>,
    },
}

struct Declarations(Vec<Declaration>);

impl Parse for Declarations {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut declarations = Vec::new();
        while !input.is_empty() {
            declarations.push(input.parse()?);
        }
        Ok(Self(declarations))
    }
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility: Visibility = input.parse()?;
        if input.peek(Token![mod]) {
            input.parse::<Token![mod]>()?;
            let ident = input.parse()?;
            let content;
            braced!(content in input);
            return Ok(Self::Module(Module {
                attributes,
                visibility,
                ident,
                declarations: content.parse::<Declarations>()?.0,
            }));
        }
        if input.peek(Token![const]) && input.peek2(Ident::peek_any) && input.peek3(Token![:]) {
            input.parse::<Token![const]>()?;
            let ident = input.call(Ident::parse_any)?;
            input.parse::<Token![:]>()?;
            let ty = input.parse()?;
            if input.peek(Token![=]) {
                return Err(input.error("only the type is declared here: the plugin has the value"));
            }
            input.parse::<Token![;]>()?;
            return Ok(Self::Constant {
                attributes,
                visibility,
                ident,
                ty,
            });
        }
        if input.peek(Token![fn]) || input.peek(Token![async]) || input.peek(Token![unsafe]) {
            let signature = input.parse()?;
            if input.peek(syn::token::Brace) {
                return Err(input.error("only the signature is declared here: end it with `;`"));
            }
            input.parse::<Token![;]>()?;
            return Ok(Self::Function {
                attributes,
                visibility,
                signature: Box::new(signature),
            });
        }
        Err(input.error("expected `mod name { … }`, `fn name(…) -> …;` or `const NAME: Type;`"))
    }
}

pub(crate) fn import(input: TokenStream) -> TokenStream {
    let Declarations(declarations) = match syn::parse2(input) {
        Ok(declarations) => declarations,
        Err(error) => return error.into_compile_error(),
    };
    let mut result = Ok(());
    let code = scope(&declarations, "", &mut result);
    match result {
        Ok(()) => code,
        // The modules and functions are still made where they can be, so that only the real
        // mistakes are reported.
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#code #error)
        }
    }
}

/// Makes the items of one module, or of the place where the macro stands.
fn scope(declarations: &[Declaration], namespace: &str, result: &mut Result<()>) -> TokenStream {
    let mut here = TokenStream::new();
    let mut started = TokenStream::new();
    // What stands in a module is of no use unless it can be reached; elsewhere the author decides.
    let reach = |written: &Visibility| match written {
        Visibility::Inherited if !namespace.is_empty() => syn::parse_quote!(pub),
        written => written.clone(),
    };
    let mut start_reach = reach(&Visibility::Inherited);
    for declaration in declarations {
        match declaration {
            Declaration::Module(module) => here.extend(module_code(module, namespace, result)),
            Declaration::Function {
                attributes,
                visibility,
                signature,
            } => match function(attributes, &reach(visibility), signature, namespace) {
                Ok(code) => {
                    here.extend(code.blocking);
                    started.extend(code.start);
                    widen(&mut start_reach, visibility);
                }
                Err(error) => combine(result, error),
            },
            Declaration::Constant {
                attributes,
                visibility,
                ident,
                ty,
            } => match constant(attributes, &reach(visibility), ident, ty, namespace) {
                Ok(code) => {
                    here.extend(code.blocking);
                    started.extend(code.start);
                    widen(&mut start_reach, visibility);
                }
                Err(error) => combine(result, error),
            },
        }
    }
    if !started.is_empty() {
        here.extend(quote! {
            /// The same skills, started without waiting for them.
            #[allow(non_snake_case, unused_imports, dead_code, unreachable_pub)]
            #start_reach mod start {
                use super::*;
                #started
            }
        });
    }
    here
}

/// Makes what is reached through a module reachable where one of its items is.
fn widen(module: &mut Visibility, item: &Visibility) {
    if matches!(module, Visibility::Inherited) || matches!(item, Visibility::Public(_)) {
        *module = item.clone();
    }
}

fn module_code(module: &Module, namespace: &str, result: &mut Result<()>) -> TokenStream {
    let Module {
        visibility, ident, ..
    } = module;
    let mut attributes = module.attributes.clone();
    match take_portable(&mut attributes) {
        Ok(false) => {}
        Ok(true) => {
            let message = "`#[portable]` stands on single functions and constants";
            combine(result, Error::new_spanned(ident, message));
        }
        Err(error) => combine(result, error),
    }
    let path = name_of(&mut attributes, ident, namespace).unwrap_or_else(|error| {
        combine(result, error);
        String::new()
    });
    // A module inside another is of no use unless it can be reached.
    let visibility = match visibility {
        Visibility::Inherited if !namespace.is_empty() => quote!(pub),
        written => quote!(#written),
    };
    let content = scope(&module.declarations, &path, result);
    quote! {
        #(#attributes)*
        #[allow(non_snake_case, unused_imports, dead_code, unreachable_pub)]
        #visibility mod #ident {
            use super::*;
            #content
        }
    }
}

/// Makes the full name of a declaration; takes its `#[skill(rename = "…")]` away.
fn name_of(attributes: &mut Vec<Attribute>, ident: &Ident, namespace: &str) -> Result<String> {
    let options = SkillOptions::take(attributes)?;
    if let Some(span) = options.skip.or(options.idempotent) {
        return Err(Error::new(
            span,
            "a caller can only say `rename = \"…\"`: the rest is the plugin's to decide",
        ));
    }
    if let Some(span) = options.portable {
        return Err(Error::new(
            span,
            "a caller asks for the code itself with `#[portable]`",
        ));
    }
    let own = match options.rename {
        Some(text) => text.value(),
        None => ident.unraw().to_string(),
    };
    Ok(if namespace.is_empty() {
        own
    } else {
        format!("{namespace}.{own}")
    })
}

struct ImportCode {
    blocking: TokenStream,
    start: TokenStream,
}

fn function(
    attributes: &[Attribute],
    visibility: &Visibility,
    signature: &syn::Signature,
    namespace: &str,
) -> Result<ImportCode> {
    let function = Function::read(signature)?;
    if function.receiver != Receiver::None {
        return Err(Error::new_spanned(
            &signature.inputs,
            "a caller knows nothing of the state: leave `self` out",
        ));
    }
    let injected = function
        .parameters
        .iter()
        .any(|parameter| !matches!(parameter, Parameter::Given { .. }));
    if injected {
        return Err(Error::new_spanned(
            &signature.inputs,
            "`&Context` and `&Logger` are injected by the skill's own host: leave them out",
        ));
    }
    if function.output.fallible && function.output.error.is_none() {
        return Err(Error::new_spanned(
            &signature.output,
            "write both types of the result, `Result<T, E>`, so that the author's error can be read",
        ));
    }
    if function.output.iterator.is_some() {
        return Err(Error::new_spanned(
            &signature.output,
            "a caller gets a `Stream<T>`: write that for the skill's `impl Iterator<Item = T>`",
        ));
    }
    types::check_received(&function.output.ok)?;
    if let Some(error) = &function.output.error {
        types::check_received(error)?;
    }
    let given: Vec<(&str, Type)> = function
        .given()
        .map(|(name, ty)| (name, ty.clone()))
        .collect();
    let kind = match function.asyncness {
        None => Kind::Function,
        Some(_) => Kind::AsyncFunction,
    };
    code(
        attributes,
        visibility,
        &function.ident,
        &given,
        &function.output,
        kind,
        namespace,
    )
}

/// What is declared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Function,
    AsyncFunction,
    Constant,
}

fn constant(
    attributes: &[Attribute],
    visibility: &Visibility,
    ident: &Ident,
    ty: &Type,
    namespace: &str,
) -> Result<ImportCode> {
    if types::stream_item(ty).is_some() {
        return Err(Error::new_spanned(
            ty,
            "a constant is one value; a function can return a stream",
        ));
    }
    types::check_received(ty)?;
    let output = Output {
        ok: ty.clone(),
        error: None,
        fallible: false,
        iterator: None,
    };
    code(
        attributes,
        visibility,
        ident,
        &[],
        &output,
        Kind::Constant,
        namespace,
    )
}

fn code(
    attributes: &[Attribute],
    visibility: &Visibility,
    ident: &Ident,
    given: &[(&str, Type)],
    output: &Output,
    kind: Kind,
    namespace: &str,
) -> Result<ImportCode> {
    let mut attributes = attributes.to_vec();
    let portable = take_portable(&mut attributes)?;
    if portable && kind == Kind::AsyncFunction {
        return Err(Error::new_spanned(
            ident,
            "a portable skill is called where it stands, not started: leave `async` out",
        ));
    }
    let make = if portable {
        quote!(portable)
    } else {
        quote!(new)
    };
    let name = name_of(&mut attributes, ident, namespace)?;
    let cfgs = cfgs_of(&attributes);
    let prelude = expand::prelude();
    let place = format_ident!("__AIGIS_IMPORT_{}", ident.unraw());
    let places: Vec<Ident> = (0..given.len())
        .map(|index| match syn::parse_str::<Ident>(given[index].0) {
            Ok(ident) => ident,
            Err(_) => format_ident!("argument_{index}"),
        })
        .collect();
    let types: Vec<&Type> = given.iter().map(|(_, ty)| ty).collect();
    let modes = types
        .iter()
        .map(|ty| types::mode(ty))
        .collect::<Result<Vec<_>>>()?;
    let signature = expand::signature(given, output, kind == Kind::Constant);
    let checks = (types.iter().map(|ty| expand::check(ty, "is_given")))
        .chain([expand::check(&output.ok, "is_received")])
        .chain((output.error.as_ref()).map(|error| expand::check(error, "is_received")));
    let ok = &output.ok;
    let (error, convert) = match &output.error {
        Some(error) => (
            quote!(#error),
            quote!(|failure| (&__aigis::ErrorOf::<#error>::NEW).read(failure)),
        ),
        None => (quote!(::std::convert::Infallible), quote!(__aigis::untyped)),
    };
    let opened = Streams::of(types.iter().copied(), ok) != Streams::None;
    let (call, start) = if opened {
        let open = quote!((&__aigis::OpenOf::<(#(#modes,)*), #ok>::NEW));
        (
            quote!(#open.call(&start::#place, (#(#places,)*))),
            quote!(#open.start::<#error>(&#place, (#(#places,)*), #convert)),
        )
    } else {
        let call = quote!(__aigis::CallOf::<(#(#modes,)*), #ok>::NEW);
        (
            quote!((&&&#call).call(&start::#place, (#(#places,)*))),
            quote!((&&#call).start::<#error>(&#place, &(#(#places,)*), #convert)),
        )
    };
    let started = format!("Starts a call of `{name}`.");
    let blocking = if kind == Kind::AsyncFunction {
        let docs = format!("Starts a call of `{name}` and returns the future of its result.");
        quote! {
            #[doc = #docs]
            #(#attributes)*
            #[allow(non_snake_case)]
            #visibility fn #ident(
                #(#places: #types),*
            ) -> ::aigis_plugin_api::CallFuture<#ok, #error> {
                ::aigis_plugin_api::__private::future_of(start::#ident(#(#places),*))
            }
        }
    } else {
        let docs = format!("Calls `{name}` and waits for its result.");
        quote! {
            #[doc = #docs]
            #(#attributes)*
            #[allow(non_snake_case)]
            #visibility fn #ident(
                #(#places: #types),*
            ) -> ::std::result::Result<#ok, ::aigis_plugin_api::CallError<#error>> {
                #prelude
                #call.map_err(#convert)
            }
        }
    };
    Ok(ImportCode {
        blocking,
        start: quote! {
            #[doc(hidden)]
            #(#cfgs)*
            #[allow(non_upper_case_globals)]
            pub(super) static #place: ::aigis_plugin_api::__private::Import = {
                #prelude
                #(#checks)*
                __aigis::Import::#make(#name, || #signature)
            };

            #[doc = #started]
            #(#attributes)*
            #[allow(non_snake_case)]
            pub fn #ident(
                #(#places: #types),*
            ) -> ::aigis_plugin_api::Call<#ok, #error> {
                #prelude
                #start
            }
        },
    })
}
