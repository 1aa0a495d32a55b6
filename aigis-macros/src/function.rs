//! Reads one function as a skill or as an imported declaration.

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Error, FnArg, Pat, ReceiverKind, Result, Safety, Signature, Type};

use crate::attributes::combine;
use crate::types::{self, Output};

/// What a function's first parameter says of the state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// There is none.
    None,
    /// `&self`.
    Shared,
    /// `self`.
    Owned,
}

/// One parameter of a function, in its order.
pub(crate) enum Parameter {
    /// Given by the caller.
    Given {
        /// The name in the signature.
        name: String,
        /// The type as the author wrote it.
        ty: Box<Type>,
    },
    /// `ctx: &Context`.
    Context,
    /// `logger: &Logger`.
    Logger,
}

/// A function that can be called across a boundary.
pub(crate) struct Function {
    pub(crate) ident: Ident,
    /// The `async` before it.
    pub(crate) asyncness: Option<Span>,
    pub(crate) receiver: Receiver,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) output: Output,
}

/// The most parameters that a skill can have.
const MOST_PARAMETERS: usize = 8;

impl Function {
    /// Reads a signature and reports everything that keeps it from being a skill.
    pub(crate) fn read(signature: &Signature) -> Result<Self> {
        let mut result = Ok(());
        let mut refuse = |span: Span, message: &str| {
            combine(&mut result, Error::new(span, message));
        };
        if let Safety::Unsafe(token) = &signature.safety {
            refuse(
                token.span,
                "a skill cannot be `unsafe`: its callers cannot check anything",
            );
        }
        if let Some(abi) = &signature.abi {
            refuse(
                abi.span(),
                "a skill is an ordinary function; its ABI is made for it",
            );
        }
        if let Some(variadic) = &signature.variadic {
            refuse(variadic.span(), "a skill has a fixed list of parameters");
        }
        if !signature.generics.params.is_empty() {
            refuse(
                signature.generics.params.span(),
                "a skill cannot be generic: a caller in another library or process needs one \
                 signature",
            );
        }
        if let Some(clause) = &signature.generics.where_clause {
            refuse(clause.span(), "a skill cannot have a `where` clause");
        }

        let mut receiver = Receiver::None;
        let mut parameters = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(given) => match &given.kind {
                    ReceiverKind::Value => receiver = Receiver::Owned,
                    ReceiverKind::Reference(_, Some(lifetime), None) => combine(
                        &mut result,
                        Error::new_spanned(
                            lifetime,
                            "the state is lent for the call alone: write `&self`; a thread that \
                             needs a part of it keeps that in an `Arc`",
                        ),
                    ),
                    ReceiverKind::Reference(_, None, None) => receiver = Receiver::Shared,
                    ReceiverKind::Reference(_, _, Some(mutability)) => combine(
                        &mut result,
                        Error::new(
                            mutability.span,
                            "skills run on several threads at once, so they share the state: take \
                             `&self`, and keep what changes in a `Mutex` or an atomic",
                        ),
                    ),
                    _ => combine(
                        &mut result,
                        Error::new_spanned(given, "a skill takes `&self`"),
                    ),
                },
                FnArg::Typed(typed) => match parameter(&typed.pat, &typed.ty) {
                    Ok(parameter) => parameters.push(parameter),
                    Err(error) => combine(&mut result, error),
                },
            }
        }
        let given = parameters
            .iter()
            .filter(|parameter| matches!(parameter, Parameter::Given { .. }));
        if given.count() > MOST_PARAMETERS {
            combine(
                &mut result,
                Error::new(
                    signature.inputs.span(),
                    format!(
                        "a skill has at most {MOST_PARAMETERS} parameters; put them into a struct \
                         with `#[skill_type]`"
                    ),
                ),
            );
        }
        let output = Output::of(&signature.output);
        if let Err(error) = types::check_result(&output.ok) {
            combine(&mut result, error);
        }
        result.map(|()| Self {
            ident: signature.ident.clone(),
            asyncness: signature.asyncness.as_ref().map(|token| token.span),
            receiver,
            parameters,
            output,
        })
    }

    /// Returns the parameters that a caller gives.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.parameters
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Given { name, ty } => Some((name.as_str(), &**ty)),
                Parameter::Context | Parameter::Logger => None,
            })
    }
}

fn parameter(pat: &Pat, ty: &Type) -> Result<Parameter> {
    if types::is_reference_to(ty, "Context") {
        return Ok(Parameter::Context);
    }
    if types::is_reference_to(ty, "Logger") {
        return Ok(Parameter::Logger);
    }
    let Pat::Ident(ident) = pat else {
        return Err(Error::new_spanned(
            pat,
            "a parameter of a skill needs a name: callers can give arguments by name",
        ));
    };
    types::mode(ty)?;
    let name = ident.ident.unraw().to_string();
    let trimmed = name.trim_start_matches('_');
    Ok(Parameter::Given {
        name: if trimmed.is_empty() { &name } else { trimmed }.to_owned(),
        ty: Box::new(ty.clone()),
    })
}
