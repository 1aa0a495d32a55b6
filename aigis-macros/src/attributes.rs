//! The options that authors write in `#[skills(…)]` and `#[skill(…)]`.

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Result};

/// `#[skills(…)]`.
#[derive(Default)]
pub(crate) struct SkillsOptions {
    /// The namespace, instead of the item's own name.
    pub(crate) namespace: Option<LitStr>,
}

impl SkillsOptions {
    pub(crate) fn parse(arguments: TokenStream) -> Result<Self> {
        let mut options = Self::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("namespace") {
                let text: LitStr = meta.value()?.parse()?;
                check_namespace(&text)?;
                options.namespace = Some(text);
                Ok(())
            } else {
                Err(meta.error("unknown option; there is only `namespace = \"…\"`"))
            }
        });
        parser.parse2(arguments)?;
        Ok(options)
    }
}

fn check_namespace(text: &LitStr) -> Result<()> {
    let value = text.value();
    if value.is_empty() || value.split('.').all(is_name) {
        return Ok(());
    }
    Err(Error::new(
        text.span(),
        "a namespace is names of letters, digits and `_`, joined by dots; or empty for none",
    ))
}

fn is_name(text: &str) -> bool {
    syn::parse_str::<syn::Ident>(text).is_ok()
}

/// `#[skill(…)]`.
#[derive(Default)]
pub(crate) struct SkillOptions {
    pub(crate) skip: Option<Span>,
    pub(crate) rename: Option<LitStr>,
    pub(crate) idempotent: Option<Span>,
    pub(crate) portable: Option<Span>,
}

impl SkillOptions {
    /// Takes the `#[skill(…)]` attributes away from an item and reads them.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut options = Self::default();
        let mut result = Ok(());
        attributes.retain(|attribute| {
            let is_skill = is_skill(attribute);
            if is_skill && let Err(error) = attribute.parse_nested_meta(|meta| options.read(&meta))
            {
                combine(&mut result, error);
            }
            !is_skill
        });
        result.map(|()| options)
    }

    fn read(&mut self, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("skip") {
            self.skip = Some(syn::spanned::Spanned::span(&meta.path));
        } else if meta.path.is_ident("idempotent") {
            self.idempotent = Some(syn::spanned::Spanned::span(&meta.path));
        } else if meta.path.is_ident("portable") {
            self.portable = Some(syn::spanned::Spanned::span(&meta.path));
        } else if meta.path.is_ident("rename") {
            let text: LitStr = meta.value()?.parse()?;
            if !is_name(&text.value()) {
                return Err(Error::new(
                    text.span(),
                    "a skill's name is letters, digits and `_`, not starting with a digit",
                ));
            }
            self.rename = Some(text);
        } else {
            return Err(meta.error(
                "unknown option; there are `skip`, `rename = \"…\"`, `idempotent` and `portable`",
            ));
        }
        Ok(())
    }
}

fn is_skill(attribute: &Attribute) -> bool {
    attribute
        .path()
        .segments
        .last()
        .is_some_and(|segment| segment.ident == "skill")
}

/// Adds `error` to what has been found already, so that all mistakes are shown at once.
pub(crate) fn combine(result: &mut Result<()>, error: Error) {
    match result {
        Ok(()) => *result = Err(error),
        Err(first) => first.combine(error),
    }
}

/// Takes `#[portable]` away from an item of `import!`, and tells whether it was there.
pub(crate) fn take_portable(attributes: &mut Vec<Attribute>) -> Result<bool> {
    let mut found = Ok(false);
    attributes.retain(|attribute| {
        if !attribute.path().is_ident("portable") {
            return true;
        }
        let read = attribute.meta.require_path_only().map(|_| true);
        if found.is_ok() {
            found = read;
        }
        false
    });
    found
}

/// Joins the documentation of an item.
pub(crate) fn doc_of(attributes: &[Attribute]) -> String {
    let lines = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) => {
                    let text = text.value();
                    Some(text.strip_prefix(' ').unwrap_or(&text).to_owned())
                }
                _ => None,
            },
            _ => None,
        });
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Returns the `#[cfg(…)]` attributes, which what is generated for an item repeats.
pub(crate) fn cfgs_of(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .collect()
}
