//! What a library says about its skills.

use aigis_plugin_api::skills;

use crate::fake_host::describe;

/// The module's own documentation is not a skill's.
#[skills]
pub mod described {
    use aigis_plugin_api::{Context, Logger};

    /// Greets `name`.
    ///
    /// At length.
    pub fn greet(name: &str, _times: Option<u8>) -> Result<String, std::fmt::Error> {
        Ok(name.to_owned())
    }

    /// The most that can be said.
    pub const MOST: usize = 64;

    /// A constant that borrows, as constants do.
    pub const MOTTO: &str = "hello";

    pub const NAMES: &[&str] = &["a", "b"];

    pub const MOTTOS: Option<(&str, u8)> = Some(("hello", 1));

    pub static NOT_A_SKILL: u8 = 1;

    const PRIVATE: u8 = 1;

    pub(crate) fn visible_in_the_crate() -> u8 {
        private() + PRIVATE + NOT_A_SKILL
    }

    fn private() -> u8 {
        1
    }

    #[skill(skip)]
    pub fn skipped<T>(_: T) -> u8 {
        visible_in_the_crate()
    }

    #[skill(rename = "renamed", idempotent)]
    pub fn named_otherwise() {}

    pub fn r#type(r#match: u8) -> u8 {
        r#match
    }

    #[cfg(any())]
    pub fn compiled_out(nothing: DoesNotExist) {}

    #[cfg(not(any()))]
    pub fn compiled_in() {}

    #[cfg(any())]
    pub const COMPILED_OUT: DoesNotExist = DoesNotExist;

    #[cfg(any())]
    pub mod compiled_out {
        pub fn never() {}
    }

    #[cfg(any())]
    pub fn cleanup() {
        does_not_exist();
    }

    pub fn takes_a_logger(logger: &Logger, count: u8, ctx: &Context) -> u8 {
        let _ = (logger, ctx);
        count
    }

    pub mod inner {
        /// Two levels down.
        pub fn deep() {}

        pub mod innermost {
            pub fn deeper() {}
        }

        mod hidden {
            pub fn unseen() {}
        }

        pub fn uses_hidden() {
            hidden::unseen();
        }
    }

    #[skill(rename = "chosen")]
    pub mod renamed_module {
        pub fn here() {}
    }

    #[skill(skip)]
    pub mod skipped_module {
        pub fn not_here() {}
    }

    mod private_module {
        pub fn not_here_either() {}
    }

    pub fn uses_the_rest() {
        skipped_module::not_here();
        private_module::not_here_either();
        skipped(1);
    }
}

#[skills(namespace = "other.place")]
pub mod elsewhere {
    pub fn found() {}
}

#[skills(namespace = "")]
pub mod nowhere {
    pub fn bare_description() {}

    pub mod within {
        pub fn found() {}
    }
}

#[skills]
pub mod r#loop {
    pub fn once() {}
}

// A block without any skill is allowed.
#[skills]
pub mod empty {}

fn signature(name: &str) -> String {
    let description = describe();
    let skill = description.skills.iter().find(|skill| skill.name == name);
    skill.map_or_else(
        || panic!("no skill `{name}`"),
        |skill| skill.signature.to_string(),
    )
}

fn names(prefix: &str) -> Vec<String> {
    let description = describe();
    let names = description.skills.into_iter().map(|skill| skill.name);
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn exactly_the_public_items_are_skills() {
    let mut found = names("described.");
    found.sort();
    assert_eq!(
        found,
        [
            "described.MOST",
            "described.MOTTO",
            "described.MOTTOS",
            "described.NAMES",
            "described.chosen.here",
            "described.compiled_in",
            "described.greet",
            "described.inner.deep",
            "described.inner.innermost.deeper",
            "described.inner.uses_hidden",
            "described.renamed",
            "described.takes_a_logger",
            "described.type",
            "described.uses_the_rest",
        ]
    );
}

#[test]
fn namespaces_can_be_named_or_left_out() {
    assert_eq!(names("other."), ["other.place.found"]);
    assert_eq!(names("bare_description"), ["bare_description"]);
    assert_eq!(names("within."), ["within.found"]);
    assert_eq!(names("loop."), ["loop.once"]);
    assert!(names("elsewhere").is_empty() && names("nowhere").is_empty());
}

#[test]
fn names_occur_once() {
    let mut all = names("");
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn signatures_leave_out_what_is_injected() {
    assert_eq!(
        signature("described.greet"),
        "fn(name: &str, times: Option<u8>) -> Result<String, std::fmt::Error>"
    );
    assert_eq!(signature("described.takes_a_logger"), "fn(count: u8) -> u8");
    assert_eq!(signature("described.type"), "fn(match: u8) -> u8");
    assert_eq!(signature("described.MOST"), "const usize");
    assert_eq!(signature("described.MOTTO"), "const String");
    assert_eq!(signature("described.NAMES"), "const Vec<String>");
}

#[test]
fn documentation_and_marks_are_carried_along() {
    let description = describe();
    let skill = |name: &str| {
        let mut skills = description.skills.iter();
        skills.find(|skill| skill.name == name).expect("a skill")
    };
    assert_eq!(skill("described.greet").doc, "Greets `name`.\n\nAt length.");
    assert_eq!(skill("described.MOST").doc, "The most that can be said.");
    assert_eq!(skill("described.inner.deep").doc, "Two levels down.");
    assert_eq!(skill("described.inner.innermost.deeper").doc, "");
    assert!(skill("described.renamed").idempotent);
    assert!(skill("described.MOST").idempotent);
    assert!(!skill("described.greet").idempotent);
    assert!(skill("described.takes_a_logger").logger);
    assert!(!skill("described.greet").logger);
}

#[test]
fn constants_have_their_value() {
    let host = crate::FakeHost::shared();
    assert_eq!(host.ask("described.MOST", ()), Ok(64));
    assert_eq!(host.ask("described.MOTTO", ()), Ok("hello".to_owned()));
    assert_eq!(
        host.ask("described.NAMES", ()),
        Ok(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(
        host.ask("described.MOTTOS", ()),
        Ok(Some(("hello".to_owned(), 1_u8)))
    );
}
