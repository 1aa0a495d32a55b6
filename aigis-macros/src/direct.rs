//! The direct form of a `#[skill_type]`: its fields as a balanced tree of pairs, its variants as one
//! of choices. Everything here is safe code; the plugin API checks the outcome against the signature.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::{Fields, Index, Item, Member, Type};

use crate::types;

/// A struct, or one variant of an enum.
struct Part<'a> {
    path: TokenStream,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    member: Member,
    ty: &'a Type,
    /// The variable that holds it, and the type parameter that says how it crosses.
    name: Ident,
    crossing: Ident,
}

/// Makes the code for a type whose shape is known field by field; nothing where a part of it may be
/// configured away.
pub(crate) fn direct(item: &Item) -> TokenStream {
    let (ident, parts) = match item {
        Item::Struct(item) => (&item.ident, vec![(quote!(), &item.fields)]),
        Item::Enum(item) => {
            if item.variants.iter().any(|v| has_cfg(&v.attrs)) {
                return TokenStream::new();
            }
            let variants = item.variants.iter().map(|variant| {
                let name = &variant.ident;
                (quote!(::#name), &variant.fields)
            });
            (&item.ident, variants.collect())
        }
        _ => return TokenStream::new(),
    };
    let configured = |fields: &Fields| fields.iter().any(|field| has_cfg(&field.attrs));
    if parts.is_empty() || parts.iter().any(|(_, fields)| configured(fields)) {
        return TokenStream::new();
    }
    let own: Type = syn::parse_quote!(#ident);
    let all: Vec<Vec<(Member, Type)>> = parts
        .iter()
        .map(|(_, fields)| members(fields, &own))
        .collect();
    let mut count = 0..;
    let parts: Vec<Part<'_>> = parts
        .iter()
        .zip(&all)
        .map(|((path, _), members)| Part {
            path: quote!(#ident #path),
            fields: (members.iter().zip(&mut count))
                .map(|((member, ty), number)| Field {
                    member: member.clone(),
                    ty,
                    name: format_ident!("field_{number}"),
                    crossing: format_ident!("__Crossing{number}"),
                })
                .collect(),
        })
        .collect();
    code(ident, &parts)
}

fn has_cfg(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr"))
}

fn members(fields: &Fields, own: &Type) -> Vec<(Member, Type)> {
    let members = fields.iter().enumerate().map(|(index, field)| {
        let member = match &field.ident {
            Some(ident) => Member::Named(ident.clone()),
            None => Member::Unnamed(Index::from(index)),
        };
        (member, types::without_self(&field.ty, own))
    });
    members.collect()
}

fn code(ident: &Ident, parts: &[Part<'_>]) -> TokenStream {
    let fields: Vec<&Field<'_>> = parts.iter().flat_map(|part| &part.fields).collect();
    let crossings: Vec<&Ident> = fields.iter().map(|field| &field.crossing).collect();
    let types: Vec<&Type> = fields.iter().map(|field| field.ty).collect();
    let owned = choices(parts, &|crossing| quote!(#crossing::Abi));
    let lent = choices(parts, &|crossing| quote!(#crossing::Lent<'a>));
    let into_abi = arms(parts, &quote!(into_abi));
    let lend = arms(parts, &quote!(lend));
    let from_abi = chosen(parts, &quote!(from_abi));
    let take = chosen(parts, &quote!(take));
    quote! {
        #[allow(dead_code)]
        struct __AigisCrossing<#(#crossings),*>(#(#crossings),*);

        impl<#(#crossings: __aigis::Crossing<#types>),*> __aigis::Crossing<#ident>
            for __AigisCrossing<#(#crossings),*>
        {
            type Abi = #owned;
            type Lent<'a> = #lent;

            #[inline]
            fn into_abi(value: #ident) -> Self::Abi {
                match value { #into_abi }
            }

            #[inline]
            fn from_abi(abi: Self::Abi) -> #ident {
                #from_abi
            }

            #[inline]
            fn lend(value: &#ident) -> Self::Lent<'_> {
                match value { #lend }
            }

            #[inline]
            fn take(abi: Self::Lent<'_>) -> #ident {
                #take
            }
        }

        impl<__Depth: 'static> __aigis::Direct<__aigis::Nested<__Depth>> for #ident
        where
            #(#types: __aigis::Direct<__Depth>,)*
        {
            #[inline]
            fn crossing() -> impl __aigis::Crossing<Self> {
                __AigisCrossing(#(<#types as __aigis::Direct<__Depth>>::crossing()),*)
            }
        }
    }
}

/// Nests items as a balanced tree.
fn tree<T>(
    items: &[T],
    one: &impl Fn(&T) -> TokenStream,
    two: &impl Fn(TokenStream, TokenStream) -> TokenStream,
    none: &TokenStream,
) -> TokenStream {
    match items {
        [] => none.clone(),
        [item] => one(item),
        items => {
            let (first, second) = items.split_at(items.len() / 2);
            two(tree(first, one, two, none), tree(second, one, two, none))
        }
    }
}

/// The type of a whole form; `of` makes that of one field.
fn choices(parts: &[Part<'_>], of: &impl Fn(&Ident) -> TokenStream) -> TokenStream {
    let fields = |part: &Part<'_>| {
        tree(
            &part.fields,
            &|field| of(&field.crossing),
            &|first, second| quote!(__aigis::Both<#first, #second>),
            &quote!(u8),
        )
    };
    let either = |left, right| quote!(__aigis::Choice<#left, #right>);
    tree(parts, &fields, &either, &TokenStream::new())
}

/// Takes a value apart: the pattern, also for putting it together.
fn pattern(part: &Part<'_>) -> TokenStream {
    let path = &part.path;
    let members = part.fields.iter().map(|field| &field.member);
    let names = part.fields.iter().map(|field| &field.name);
    quote!(#path { #(#members: #names),* })
}

/// The arms of a `match` on a value; `each` turns a field into its form.
fn arms(parts: &[Part<'_>], each: &TokenStream) -> TokenStream {
    let arms = parts.iter().enumerate().map(|(place, part)| {
        let pattern = pattern(part);
        let value = tree(
            &part.fields,
            &|field| {
                let (crossing, name) = (&field.crossing, &field.name);
                quote!(#crossing::#each(#name))
            },
            &|first, second| quote!(__aigis::Both { first: #first, second: #second }),
            &quote!(0),
        );
        let value = choose(place, parts.len(), value);
        quote!(#pattern => #value,)
    });
    arms.collect()
}

/// Wraps the form of part `place` of `count` into the choices that lead to it.
fn choose(place: usize, count: usize, value: TokenStream) -> TokenStream {
    if count <= 1 {
        return value;
    }
    let half = count / 2;
    if place < half {
        let inner = choose(place, half, value);
        quote!(__aigis::Choice::left(#inner))
    } else {
        let inner = choose(place - half, count - half, value);
        quote!(__aigis::Choice::right(#inner))
    }
}

/// Makes a value of `abi`, through the choices; `each` turns a form into a field.
fn chosen(parts: &[Part<'_>], each: &TokenStream) -> TokenStream {
    let one = |part: &Part<'_>| {
        let forms = tree(
            &part.fields,
            &|field| field.name.clone().into_token_stream(),
            &|first, second| quote!(__aigis::Both { first: #first, second: #second }),
            &quote!(_),
        );
        let path = &part.path;
        let fields = part.fields.iter().map(|field| {
            let (member, crossing, name) = (&field.member, &field.crossing, &field.name);
            quote!(#member: #crossing::#each(#name))
        });
        quote!({
            let #forms = abi;
            #path { #(#fields),* }
        })
    };
    let two = |left, right| {
        quote!(match abi.either() {
            __aigis::Either::Left(abi) => #left,
            __aigis::Either::Right(abi) => #right,
        })
    };
    tree(parts, &one, &two, &TokenStream::new())
}
