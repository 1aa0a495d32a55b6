//! Which types can cross, and how.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, GenericArgument, PathArguments, Result, ReturnType, Type, TypeParamBound};

use crate::attributes::combine;

/// What a function returns.
#[derive(Clone)]
pub(crate) struct Output {
    /// The result, without the author's error.
    pub(crate) ok: Type,
    /// The author's error, where it is written out.
    pub(crate) error: Option<Type>,
    /// Whether the function returns a `Result`.
    pub(crate) fallible: bool,
    /// What is made of an `impl Iterator`, whose place in `ok` a `Stream` takes.
    pub(crate) iterator: Option<Iterated>,
}

/// An `impl Iterator` that is returned as a stream.
#[derive(Clone)]
pub(crate) enum Iterated {
    /// Its items are the stream's.
    Items,
    /// Its items are results: the first error, of this type, ends the stream.
    UntilError(Box<Type>),
}

impl Output {
    /// Reads a return type. A type whose last name is `Result` is a result, aliases included.
    pub(crate) fn of(output: &ReturnType) -> Self {
        let ReturnType::Type(_, ty) = output else {
            return Self::made(&syn::parse_quote!(()), None, false);
        };
        match named(ty) {
            Some(("Result", arguments)) if matches!(arguments.len(), 1 | 2) => {
                let error = arguments.get(1).map(|error| (*error).clone());
                Self::made(arguments[0], error, true)
            }
            _ => Self::made(ty, None, false),
        }
    }

    fn made(ok: &Type, error: Option<Type>, fallible: bool) -> Self {
        let (ok, iterator) = match iterated(ok) {
            Some(item) => {
                let (item, iterator) = match named(&item) {
                    Some(("Result", arguments)) if arguments.len() == 2 => (
                        arguments[0].clone(),
                        Iterated::UntilError(Box::new(arguments[1].clone())),
                    ),
                    _ => (item, Iterated::Items),
                };
                let span = at(ok.span());
                let stream = quote_spanned!(span=> ::aigis_plugin_api::Stream<#item>);
                (Type::Verbatim(stream), Some(iterator))
            }
            None => (ok.clone(), None),
        };
        // What is verbatim would not be looked into.
        let ok = syn::parse2(ok.to_token_stream()).unwrap_or(ok);
        Self {
            ok,
            error,
            fallible,
            iterator,
        }
    }
}

/// Returns the item of an `impl Iterator<Item = T>`.
fn iterated(ty: &Type) -> Option<Type> {
    let Type::ImplTrait(bounds) = ty else {
        return None;
    };
    bounds.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else {
            return None;
        };
        let segment = bound.path.segments.last()?;
        let PathArguments::AngleBracketed(list) = &segment.arguments else {
            return None;
        };
        if segment.ident != "Iterator" {
            return None;
        }
        list.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(assigned) if assigned.ident == "Item" => {
                Some(assigned.ty.clone())
            }
            _ => None,
        })
    })
}

/// Returns the item of a type whose last name is `Stream`.
pub(crate) fn stream_item(ty: &Type) -> Option<&Type> {
    match named(ty) {
        Some(("Stream", arguments)) if arguments.len() == 1 => Some(arguments[0]),
        _ => None,
    }
}

/// Returns the last name of a path type and its type arguments.
fn named(ty: &Type) -> Option<(&str, Vec<&Type>)> {
    const KNOWN: [&str; 11] = [
        "Result", "Option", "Vec", "VecDeque", "HashSet", "BTreeSet", "Box", "HashMap", "BTreeMap",
        "Context", "Stream",
    ];
    let Type::Path(path) = ty else { return None };
    let segment = path.path.segments.last()?;
    let name = KNOWN.into_iter().find(|known| segment.ident == known)?;
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(list) => list
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    Some((name, arguments))
}

/// Tells whether a type is a reference to a type of this name.
pub(crate) fn is_reference_to(ty: &Type, name: &str) -> bool {
    let Type::Reference(reference) = ty else {
        return false;
    };
    let Type::Path(path) = &*reference.elem else {
        return false;
    };
    reference.mutability.is_none()
        && path
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == name && segment.arguments.is_none())
}

/// Makes the mode of a parameter: how it is passed, without lifetimes.
pub(crate) fn mode(ty: &Type) -> Result<TokenStream> {
    let span = ty.span();
    match ty {
        Type::Reference(reference) => {
            if let Some(mutability) = &reference.mutability {
                return Err(Error::new(
                    mutability.span,
                    "a skill gets copies, so it cannot change its caller's value; \
                     return the new value instead",
                ));
            }
            if let Some(lifetime) = &reference.lifetime {
                return Err(Error::new_spanned(
                    lifetime,
                    "a parameter is borrowed for the call alone: leave the lifetime out",
                ));
            }
            check_owned(&reference.elem)?;
            let referent = &reference.elem;
            Ok(quote_spanned!(span=> __aigis::Ref<#referent>))
        }
        _ => {
            if let Some(item) = stream_item(ty) {
                check_owned(item)?;
                return Ok(quote_spanned!(span=> __aigis::Streamed<#item>));
            }
            check_owned(ty)?;
            Ok(quote_spanned!(span=> __aigis::Own<#ty>))
        }
    }
}

/// Refuses types that cannot be made anew on the other side.
pub(crate) fn check_owned(ty: &Type) -> Result<()> {
    let mut result = Ok(());
    inspect(ty, false, &mut result);
    result
}

/// Refuses what a caller cannot be given: the other side's constants are not this side's.
pub(crate) fn check_received(ty: &Type) -> Result<()> {
    if let Type::Reference(_) = ty {
        return Err(Error::new_spanned(
            ty,
            "a caller gets a value of its own: write `String` for `&str`, `Vec<T>` for `&[T]`",
        ));
    }
    check_owned(stream_item(ty).unwrap_or(ty))
}

/// Refuses results that borrow; what is `'static` need not be owned.
pub(crate) fn check_result(ty: &Type) -> Result<()> {
    if let Type::Reference(reference) = ty
        && !is_static(reference)
    {
        return Err(Error::new_spanned(
            ty,
            "the result leaves the plugin, so it cannot borrow; return an owned value, \
             such as `String` or `Vec<T>`",
        ));
    }
    let mut result = Ok(());
    inspect(stream_item(ty).unwrap_or(ty), true, &mut result);
    result
}

fn is_static(reference: &syn::TypeReference) -> bool {
    reference.mutability.is_none()
        && matches!(&reference.lifetime, Some(lifetime) if lifetime.ident == "static")
}

/// Looks into a type; `statics` lets references pass that are `'static`.
fn inspect(ty: &Type, statics: bool, result: &mut Result<()>) {
    match ty {
        Type::Reference(reference) if statics && is_static(reference) => {
            inspect(&reference.elem, statics, result);
        }
        Type::Reference(_) => combine(
            result,
            Error::new_spanned(
                ty,
                "a reference inside another type cannot cross; take or return an owned value, \
                 such as `String` for `&str`",
            ),
        ),
        Type::Path(_) if stream_item(ty).is_some() => combine(
            result,
            Error::new_spanned(
                ty,
                "a stream is a whole parameter, by value, or the whole result of a skill: it cannot be \
                 inside another type; take or return several values, or a `Vec<T>`",
            ),
        ),
        Type::Path(path) => {
            for segment in &path.path.segments {
                let PathArguments::AngleBracketed(list) = &segment.arguments else {
                    continue;
                };
                for argument in &list.args {
                    match argument {
                        GenericArgument::Type(inner) => inspect(inner, statics, result),
                        GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" => {
                            combine(
                                result,
                                Error::new_spanned(
                                    lifetime,
                                    "a type that borrows cannot cross; use its owned form",
                                ),
                            );
                        }
                        _ => {}
                    }
                }
            }
        }
        Type::Tuple(tuple) => {
            for inner in &tuple.elems {
                inspect(inner, statics, result);
            }
        }
        Type::Array(array) => inspect(&array.elem, statics, result),
        Type::Slice(slice) => inspect(&slice.elem, statics, result),
        Type::Paren(paren) => inspect(&paren.elem, statics, result),
        Type::Group(group) => inspect(&group.elem, statics, result),
        Type::ImplTrait(_) | Type::TraitObject(_) => combine(
            result,
            Error::new_spanned(ty, "a trait cannot cross, only data; name a concrete type"),
        ),
        Type::FnPtr(_) | Type::Ptr(_) => combine(
            result,
            Error::new_spanned(ty, "a function or a pointer cannot cross, only data"),
        ),
        Type::Never(_) => combine(
            result,
            Error::new_spanned(ty, "a caller waits for a result: the function must return"),
        ),
        Type::Infer(_) => combine(
            result,
            Error::new_spanned(
                ty,
                "the type must be written out: it is part of the signature",
            ),
        ),
        _ => {}
    }
}

/// Makes an expression for the shape of a type, in a place where `cx` is a `&mut ShapeContext`.
///
/// Containers are taken apart here, so that what they hold is seen even if it is opaque.
pub(crate) fn shape(ty: &Type) -> TokenStream {
    match ty {
        Type::Reference(reference) => shape(&reference.elem),
        Type::Paren(paren) => shape(&paren.elem),
        Type::Group(group) => shape(&group.elem),
        Type::Slice(slice) => {
            let item = shape(&slice.elem);
            quote!(__aigis::Shape::list(#item))
        }
        Type::Array(array) => {
            let (item, len) = (shape(&array.elem), &array.len);
            quote!(__aigis::Shape::Array(::std::boxed::Box::new(#item), #len))
        }
        Type::Tuple(tuple) if !tuple.elems.is_empty() => {
            let items = tuple.elems.iter().map(shape);
            quote!(__aigis::Shape::Tuple(::std::vec![#(#items),*]))
        }
        _ => match named(ty) {
            Some(("Option", inner)) if inner.len() == 1 => {
                let inner = shape(inner[0]);
                quote!(__aigis::Shape::Option(::std::boxed::Box::new(#inner)))
            }
            Some(("Box", inner)) if inner.len() == 1 => shape(inner[0]),
            Some(("Stream", inner)) if inner.len() == 1 => {
                let item = shape(inner[0]);
                quote!(__aigis::Shape::Stream(::std::boxed::Box::new(#item)))
            }
            Some(("Vec" | "VecDeque" | "HashSet" | "BTreeSet", inner)) if !inner.is_empty() => {
                let item = shape(inner[0]);
                quote!(__aigis::Shape::list(#item))
            }
            Some(("HashMap" | "BTreeMap", inner)) if inner.len() >= 2 => {
                let (key, value) = (shape(inner[0]), shape(inner[1]));
                quote!(__aigis::Shape::Map(
                    ::std::boxed::Box::new(#key),
                    ::std::boxed::Box::new(#value),
                ))
            }
            Some(("Result", inner)) if inner.len() == 2 => {
                let (ok, error) = (shape(inner[0]), shape(inner[1]));
                quote!(__aigis::Shape::Result(
                    ::std::boxed::Box::new(#ok),
                    ::std::boxed::Box::new(#error),
                ))
            }
            _ => quote!((&__aigis::ShapeOf::<#ty>::NEW).shape(cx)),
        },
    }
}

/// Returns the name that people know a type by.
pub(crate) fn display_name(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    text.replace(" :: ", "::")
        .replace(" < ", "<")
        .replace(" >", ">")
        .replace(" , ", ", ")
        .replace("& ", "&")
}

/// Puts `with` in the place of every `Self`: what is generated has a `Self` of its own.
pub(crate) fn without_self(ty: &Type, with: &Type) -> Type {
    fn replace(tokens: TokenStream, with: &TokenStream) -> TokenStream {
        tokens
            .into_iter()
            .map(|tree| match tree {
                TokenTree::Ident(ident) if ident == "Self" => with.clone(),
                TokenTree::Group(group) => {
                    let inner = replace(group.stream(), with);
                    let mut new = proc_macro2::Group::new(group.delimiter(), inner);
                    new.set_span(group.span());
                    TokenTree::Group(new).into()
                }
                other => other.into(),
            })
            .collect()
    }

    let replaced = replace(ty.to_token_stream(), &with.to_token_stream());
    syn::parse2(replaced).unwrap_or_else(|_| ty.clone())
}

/// Writes out the lifetime that every reference in the type of a constant has.
pub(crate) fn with_static(ty: &Type) -> Type {
    fn complete(tokens: TokenStream) -> TokenStream {
        let mut out = TokenStream::new();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(tree) = tokens.next() {
            match tree {
                TokenTree::Group(group) => {
                    let mut new =
                        proc_macro2::Group::new(group.delimiter(), complete(group.stream()));
                    new.set_span(group.span());
                    out.extend([TokenTree::Group(new)]);
                }
                TokenTree::Punct(punct) if punct.as_char() == '&' => {
                    let span = punct.span();
                    let written = matches!(
                        tokens.peek(),
                        Some(TokenTree::Punct(next)) if next.as_char() == '\''
                    );
                    out.extend([TokenTree::Punct(punct)]);
                    if !written {
                        out.extend(quote_spanned!(span=> 'static));
                    }
                }
                other => out.extend([other]),
            }
        }
        out
    }

    syn::parse2(complete(ty.to_token_stream())).unwrap_or_else(|_| ty.clone())
}

/// Places generated code on the author's token, where the compiler reports what is wrong with it.
/// It stays the macro's: lints do not look into it.
pub(crate) fn at(span: Span) -> Span {
    here().located_at(span)
}

/// The span of the whole macro call.
pub(crate) fn here() -> Span {
    Span::call_site()
}
