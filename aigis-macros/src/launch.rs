//! `#[launch]`: the `main` of an internal plugin.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemFn};

use crate::attributes::combine;
use crate::types;

pub(crate) fn launch(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let first: TokenStream = item.clone().into_iter().take(1).collect();
            let error = Error::new_spanned(first, "`#[launch]` stands on the function `launch`")
                .into_compile_error();
            return quote!(#item #error);
        }
    };
    let mut result = Ok(());
    if !arguments.is_empty() {
        let error = Error::new_spanned(&arguments, "`#[launch]` takes no options");
        combine(&mut result, error);
    }
    let signature = &function.sig;
    if signature.ident != "launch" {
        let message = "the function is named `launch`: `fn launch()` or `fn launch(ctx: &Context)`";
        combine(&mut result, Error::new_spanned(&signature.ident, message));
    }
    if let Some(asyncness) = &signature.asyncness {
        let message = "`launch` is a plain function; start your runtime inside it";
        combine(&mut result, Error::new_spanned(asyncness, message));
    }
    if !signature.generics.params.is_empty() {
        let message = "`launch` cannot be generic";
        combine(
            &mut result,
            Error::new_spanned(&signature.generics, message),
        );
    }
    let mut inputs = signature.inputs.iter();
    let passed = match (inputs.next(), inputs.next()) {
        (None, _) => quote!(),
        (Some(syn::FnArg::Typed(typed)), None) if types::is_reference_to(&typed.ty, "Context") => {
            quote!(context)
        }
        _ => {
            let message = "`launch` takes nothing, or a `&Context`";
            combine(&mut result, Error::new_spanned(&signature.inputs, message));
            quote!()
        }
    };
    if let Err(error) = result {
        let error = error.into_compile_error();
        return quote!(#function fn main() {} #error);
    }
    // On the author's own token, so that a wrong result is reported there.
    let span = match &signature.output {
        syn::ReturnType::Type(_, ty) => types::at(ty.span()),
        syn::ReturnType::Default => types::here(),
    };
    let run = quote_spanned! {span=>
        ::aigis_plugin_api::__private::launch(
            #[allow(unused_variables)]
            |context| launch(#passed)
        )
    };
    quote! {
        #function

        fn main() -> ::std::process::ExitCode {
            #run
        }
    }
}
