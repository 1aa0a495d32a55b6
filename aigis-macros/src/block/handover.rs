//! `save` and `restore` of an `impl` block: how one version hands its state to the next.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ImplItemFn, Pat, Result, Signature, Type};

use super::state::open_with;
use super::{Condition, absent, hook, injected};
use crate::attributes::combine;
use crate::expand;
use crate::function::{Function, Parameter, Receiver};
use crate::types;

/// What a block has of `save` and `restore`.
#[derive(Default)]
pub(super) struct Handover {
    save: Option<Half>,
    restore: Option<Half>,
    /// Whether one of them was refused: then the other is not asked for.
    refused: bool,
}

/// One of the two functions.
struct Half {
    function: Function,
    condition: Condition,
    /// The type of what is handed over, as the author wrote it.
    saved: Type,
}

impl Handover {
    /// Reads a method if it is one of the two, and tells whether it is.
    pub(super) fn takes(&mut self, method: &ImplItemFn, result: &mut Result<()>) -> bool {
        let ident = &method.sig.ident;
        let (place, read) = if ident == "save" {
            (&mut self.save, read_save(&method.sig))
        } else if ident == "restore" {
            (&mut self.restore, read_restore(&method.sig))
        } else {
            return false;
        };
        let read = match read {
            Ok(_) if place.is_some() => {
                let message = format!(
                    "`{ident}` stands here twice: write it once, and choose with `#[cfg]` inside it"
                );
                Err(Error::new_spanned(ident, message))
            }
            read => read,
        };
        match read {
            Ok((function, saved)) => {
                *place = Some(Half {
                    function,
                    condition: Condition::of(&method.attrs),
                    saved,
                });
            }
            Err(error) => {
                self.refused = true;
                combine(result, error);
            }
        }
        true
    }

    /// Refuses a `save` whose state nobody would ever take.
    pub(super) fn check(&self, result: &mut Result<()>) {
        if let (Some(save), None, false) = (&self.save, &self.restore, self.refused) {
            let message = format!(
                "`save` hands the state to the `restore` of the next version, and there is none \
                 here: add `pub fn restore(saved: {}, ctx: &Context) -> Self`",
                types::display_name(&save.saved)
            );
            combine(result, Error::new_spanned(&save.function.ident, message));
        }
    }

    /// Asks the same of what is left of both after `#[cfg]`.
    pub(super) fn pairing(&self) -> TokenStream {
        let (Some(save), Some(restore)) = (&self.save, &self.restore) else {
            return TokenStream::new();
        };
        let (Condition(saved), Condition(restored)) = (&save.condition, &restore.condition);
        if restored.is_empty() {
            return TokenStream::new();
        }
        let span = types::at(save.function.ident.span());
        quote_spanned! {span=>
            #[cfg(all(#(#saved,)* not(all(#(#restored),*))))]
            ::std::compile_error!(
                "`save` hands the state to the `restore` of the next version, and `restore` is \
                 compiled out here: give both the same `#[cfg]`"
            );
        }
    }

    /// Makes the function that runs `save` and encodes what it returns.
    pub(super) fn save(&self, namespace: &str, state: &Type) -> TokenStream {
        let Some(Half {
            function,
            condition,
            saved,
        }) = &self.save
        else {
            return absent();
        };
        let passed: Vec<_> = std::iter::once(quote!(state))
            .chain(injected(function))
            .collect();
        let call = expand::call(&function.ident, Some(state), &passed);
        let body = expand::outcome(&function.output, &call);
        let saved = types::without_self(saved, state);
        let check = expand::check(&saved, "is_saved");
        let body = quote! {
            #check
            __aigis::with_instance(&INSTANCE, |state| {
                let saved: ::std::result::Result<#saved, __aigis::Failure> = #body;
                (&__aigis::SavedOf::<#saved>::NEW).encode(#namespace, &saved?)
            })
        };
        let there = hook(None, &quote!(::std::vec::Vec<u8>), &body);
        condition.choose(&there, &absent())
    }

    /// Makes the function that decodes what was saved and runs `restore`.
    pub(super) fn restore(&self, namespace: &str, state: &Type) -> TokenStream {
        let Some(Half {
            function,
            condition,
            saved,
        }) = &self.restore
        else {
            return absent();
        };
        let mut injected = injected(function).into_iter();
        let passed: Vec<_> = function
            .parameters
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Given { .. } => Some(quote!(saved)),
                Parameter::Context | Parameter::Logger => injected.next(),
            })
            .collect();
        let saved = types::without_self(saved, state);
        let check = expand::check(&saved, "is_restored");
        let open = open_with(state, function, &passed);
        let body = quote! {
            #check
            let saved = (&__aigis::SavedOf::<#saved>::NEW).decode(#namespace, saved)?;
            #open
        };
        let there = hook(Some((quote!(saved), quote!(&[u8]))), &quote!(()), &body);
        condition.choose(&there, &absent())
    }
}

/// Refuses what neither of the two can be, in their own words: they are no skills.
fn check_plain(signature: &Signature) -> Result<()> {
    let ident = &signature.ident;
    let mut result = Ok(());
    if let Some(asyncness) = &signature.asyncness {
        let message = format!(
            "`{ident}` cannot be `async`: calls are held while it runs; write it as a plain function"
        );
        combine(&mut result, Error::new(asyncness.span, message));
    }
    let generics = &signature.generics.params;
    if !generics.is_empty() {
        let message = format!(
            "`{ident}` cannot be generic: the host calls it, and knows no types; name the type \
             that is handed over"
        );
        combine(&mut result, Error::new(generics.span(), message));
    }
    result
}

/// Says how else the name can be used.
fn other_uses(ident: &Ident) -> String {
    format!(
        "for another use of the name mark the method with `#[skill(skip)]`, or give it another \
         name and `#[skill(rename = \"{ident}\")]`"
    )
}

/// Places a mistake on the parameters, or on the name where there are none.
fn misfit(signature: &Signature, message: String) -> Error {
    if signature.inputs.is_empty() {
        Error::new_spanned(&signature.ident, message)
    } else {
        Error::new_spanned(&signature.inputs, message)
    }
}

fn read_save(signature: &Signature) -> Result<(Function, Type)> {
    check_plain(signature)?;
    let function = Function::read(signature)?;
    if function.receiver == Receiver::Owned {
        let message = "`save` leaves the state where it is, for this version goes on with it if \
                       the next one cannot take over: take `&self`";
        return Err(Error::new_spanned(signature.inputs.first(), message));
    }
    if function.receiver == Receiver::None || function.given().next().is_some() {
        let message = format!(
            "`save` is called by the host, so it takes `&self`, and nothing but `ctx` and `logger` \
             besides; {}",
            other_uses(&signature.ident)
        );
        return Err(misfit(signature, message));
    }
    let saved = function.output.ok.clone();
    Ok((function, saved))
}

fn read_restore(signature: &Signature) -> Result<(Function, Type)> {
    check_plain(signature)?;
    let mut named = signature.clone();
    for input in &mut named.inputs {
        // No caller names the parameter, so any pattern will do.
        if let FnArg::Typed(typed) = input
            && !matches!(*typed.pat, Pat::Ident(_))
        {
            *typed.pat = syn::parse_quote!(saved);
        }
    }
    let function = Function::read(&named)?;
    let given: Vec<&Type> = function.given().map(|(_, ty)| ty).collect();
    let (&[saved], Receiver::None) = (&*given, function.receiver) else {
        let message = format!(
            "`restore` is called by the host in place of `new`: it takes what the version before \
             saved, and nothing but `ctx` and `logger` besides; {}",
            other_uses(&signature.ident)
        );
        return Err(misfit(signature, message));
    };
    if let Type::Reference(_) = saved {
        let message = "`restore` gets the value for its own: write `String` for `&str`, `Vec<T>` \
                       for `&[T]`, `T` for `&T`";
        return Err(Error::new_spanned(saved, message));
    }
    let saved = saved.clone();
    Ok((function, saved))
}
