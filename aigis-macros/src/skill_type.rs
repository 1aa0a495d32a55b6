//! `#[skill_type]`: a struct or an enum as part of signatures, field by field.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Fields, Ident, Item, LitStr, Meta, Result, Type};

use crate::direct;
use crate::expand;
use crate::types;

pub(crate) fn skill_type(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match expand_type(&arguments, item.clone()) {
        Ok(code) => code,
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#item #error)
        }
    }
}

fn expand_type(arguments: &TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(
            arguments,
            "`#[skill_type]` takes no options",
        ));
    }
    let parsed: Item = syn::parse2(item)?;
    let (ident, generics, attributes, shape) = match &parsed {
        Item::Struct(item) => (
            &item.ident,
            &item.generics,
            &item.attrs,
            struct_shape(&item.ident, &item.attrs, &item.fields),
        ),
        Item::Enum(item) => (&item.ident, &item.generics, &item.attrs, enum_shape(item)),
        other => {
            let first: TokenStream = other.to_token_stream().into_iter().take(1).collect();
            return Err(Error::new_spanned(
                first,
                "`#[skill_type]` stands on a struct or an enum",
            ));
        }
    };
    if !generics.params.is_empty() {
        return Err(Error::new_spanned(
            generics,
            "a skill type cannot be generic: signatures name concrete types",
        ));
    }
    let derives = missing_derives(attributes);
    let prelude = expand::prelude();
    // An attribute that changes the encoded form in a way that is not followed here leaves the type
    // as what it is known by for certain: its path.
    let direct = match &shape {
        Some(_) => direct::direct(&parsed),
        None => TokenStream::new(),
    };
    let shape = shape.unwrap_or_else(
        || quote!(__aigis::Shape::Opaque(::std::any::type_name::<#ident>().into())),
    );
    Ok(quote! {
        #derives
        #parsed

        const _: () = {
            #prelude

            impl ::aigis_plugin_api::SkillType for #ident {
                fn shape(cx: &mut ::aigis_plugin_api::ShapeContext) -> __aigis::Shape {
                    cx.named(
                        ::std::concat!(::std::module_path!(), "::", ::std::stringify!(#ident)),
                        |cx| #shape,
                    )
                }
            }

            #direct
        };
    })
}

/// Adds serde's derives that the author has not written.
fn missing_derives(attributes: &[Attribute]) -> TokenStream {
    let mut written = Vec::new();
    for attribute in attributes {
        if attribute.path().is_ident("derive") {
            // What cannot be read here is reported by the derive itself.
            let _ = attribute.parse_nested_meta(|meta| {
                written.extend(meta.path.segments.last().map(|last| last.ident.to_string()));
                Ok(())
            });
        }
    }
    let missing: Vec<Ident> = ["Serialize", "Deserialize"]
        .into_iter()
        .filter(|name| !written.iter().any(|w| w == name))
        .map(|name| Ident::new(name, types::here()))
        .collect();
    if missing.is_empty() {
        return TokenStream::new();
    }
    let names_serde = attributes.iter().any(|attribute| {
        attribute.path().is_ident("serde")
            && attribute.to_token_stream().to_string().contains("crate")
    });
    let place = (missing.len() == 2 && !names_serde)
        .then(|| quote!(#[serde(crate = "::aigis_plugin_api::serde")]));
    quote! {
        #[derive(#(::aigis_plugin_api::serde::#missing),*)]
        #place
    }
}

/// What serde's attributes on a type, a variant or a field change, if it is followed here.
#[derive(Default)]
struct SerdeOptions {
    rename: Option<String>,
    default: bool,
}

fn serde_options(attributes: &[Attribute]) -> Option<SerdeOptions> {
    let mut options = SerdeOptions::default();
    let mut followed = true;
    for attribute in attributes {
        if !attribute.path().is_ident("serde") || !matches!(attribute.meta, Meta::List(_)) {
            continue;
        }
        let read = attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") && meta.input.peek(syn::Token![=]) {
                options.rename = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.path.is_ident("default") {
                options.default = true;
                if meta.input.peek(syn::Token![=]) {
                    meta.value()?.parse::<LitStr>()?;
                }
            } else if meta.path.is_ident("crate") || meta.path.is_ident("deny_unknown_fields") {
                if meta.input.peek(syn::Token![=]) {
                    meta.value()?.parse::<LitStr>()?;
                }
            } else {
                followed = false;
                if meta.input.peek(syn::Token![=]) {
                    meta.value()?.parse::<syn::Expr>()?;
                } else if meta.input.peek(syn::token::Paren) {
                    let content;
                    syn::parenthesized!(content in meta.input);
                    content.parse::<TokenStream>()?;
                }
            }
            Ok(())
        });
        // What cannot be read here is reported by serde itself.
        followed &= read.is_ok();
    }
    followed.then_some(options)
}

fn struct_shape(ident: &Ident, attributes: &[Attribute], fields: &Fields) -> Option<TokenStream> {
    let options = serde_options(attributes)?;
    // A newtype is encoded as what it holds.
    if let Fields::Unnamed(unnamed) = fields
        && unnamed.unnamed.len() == 1
    {
        serde_options(&unnamed.unnamed[0].attrs)?;
        return Some(types::shape(&unnamed.unnamed[0].ty));
    }
    if matches!(fields, Fields::Unit) {
        return Some(quote!(__aigis::Shape::Unit));
    }
    let name = ident.unraw().to_string();
    let fields = field_shapes(fields, options.default)?;
    Some(quote! {
        __aigis::Shape::Struct(__aigis::StructShape { name: #name.into(), fields: #fields })
    })
}

fn field_shapes(fields: &Fields, all_default: bool) -> Option<TokenStream> {
    let mut shapes = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let options = serde_options(&field.attrs)?;
        let own = match &field.ident {
            Some(ident) => ident.unraw().to_string(),
            None => index.to_string(),
        };
        let name = options.rename.unwrap_or(own);
        let optional = all_default || options.default || is_option(&field.ty);
        let shape = types::shape(&field.ty);
        let shape = quote::quote_spanned!(field.ty.span()=> #shape);
        shapes.push(quote! {
            __aigis::FieldShape { name: #name.into(), shape: #shape, optional: #optional }
        });
    }
    Some(quote!(::std::vec![#(#shapes),*]))
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|s| s.ident == "Option"))
}

fn enum_shape(item: &syn::ItemEnum) -> Option<TokenStream> {
    serde_options(&item.attrs)?;
    let name = item.ident.unraw().to_string();
    let mut variants = Vec::new();
    for variant in &item.variants {
        let options = serde_options(&variant.attrs)?;
        let own = variant.ident.unraw().to_string();
        let name = options.rename.unwrap_or(own);
        let fields = field_shapes(&variant.fields, false)?;
        variants.push(quote! {
            __aigis::VariantShape { name: #name.into(), fields: #fields }
        });
    }
    Some(quote! {
        __aigis::Shape::Enum(__aigis::EnumShape {
            name: #name.into(),
            variants: ::std::vec![#(#variants),*],
        })
    })
}
