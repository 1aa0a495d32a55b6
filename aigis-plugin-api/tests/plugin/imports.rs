//! Where an import stands, what it can name, and what happens when it expects something else.

use aigis_plugin_api::{CallError, import};

use crate::FakeHost;

mod skills {
    use aigis_plugin_api::skills;

    #[skills(namespace = "")]
    pub mod bare {
        pub fn bare_function(number: u8) -> u8 {
            number + 1
        }

        pub fn other_bare_function() -> u8 {
            3
        }

        pub const BARE_CONSTANT: u8 = 9;
    }

    #[skills]
    pub mod offered {
        use std::time::Duration;

        pub fn count(text: &str) -> usize {
            text.len()
        }

        pub fn pause(length: Duration) -> Duration {
            length * 2
        }

        pub fn r#match(r#type: &str) -> String {
            r#type.to_owned()
        }

        pub mod deep {
            pub const LEVEL: u8 = 2;

            pub mod deeper {
                pub fn level() -> u8 {
                    3
                }
            }
        }
    }
}

import! {
    /// Documented by the caller.
    fn bare_function(number: u8) -> u8;

    const BARE_CONSTANT: u8;

    mod offered {
        fn count(text: &str) -> usize;
        #[skill(rename = "count")]
        fn counted_otherwise(text: &str) -> usize;
        #[cfg(any())]
        fn compiled_out(nothing: DoesNotExist);
        fn r#match(r#type: &str) -> String;
        pub(crate) mod deep {
            const LEVEL: u8;
            mod deeper {
                fn level() -> u8;
            }
        }
        #[skill(rename = "deep")]
        mod renamed {
            const LEVEL: u8;
        }
    }

    mod absent {
        fn nothing() -> u8;
    }
}

mod scope {
    use std::time::Duration as Length;

    aigis_plugin_api::import! {
        pub mod offered {
            fn pause(length: Length) -> Length;
        }
    }

    pub mod reexported {
        aigis_plugin_api::import! {
            pub fn other_bare_function() -> u8;
        }
    }
}

mod mistaken {
    aigis_plugin_api::import! {
        pub mod offered {
            fn count(number: u64) -> usize;
            #[skill(rename = "count")]
            fn count_of_two(text: &str, other: &str) -> usize;
            #[skill(rename = "count")]
            fn count_as_text(text: &str) -> String;
        }
    }
}

#[test]
fn bare_names_and_nested_modules() {
    FakeHost::shared();
    assert_eq!(bare_function(1), Ok(2));
    assert_eq!(BARE_CONSTANT(), Ok(9));
    assert_eq!(scope::reexported::other_bare_function(), Ok(3));
    assert_eq!(offered::count("abc"), Ok(3));
    assert_eq!(offered::deep::LEVEL(), Ok(2));
    assert_eq!(offered::deep::deeper::level(), Ok(3));
}

#[test]
fn names_can_be_other_ones() {
    FakeHost::shared();
    assert_eq!(offered::counted_otherwise("ab"), Ok(2));
    assert_eq!(offered::renamed::LEVEL(), Ok(2));
    assert_eq!(offered::r#match("a"), Ok("a".to_owned()));
}

#[test]
fn types_come_from_the_scope_of_the_import() {
    use std::time::Duration;
    FakeHost::shared();
    assert_eq!(
        scope::offered::pause(Duration::from_secs(1)),
        Ok(Duration::from_secs(2))
    );
}

#[test]
fn an_import_can_stand_in_a_function() {
    import! {
        fn bare_function(number: u8) -> u8;

        mod offered {
            fn count(text: &str) -> usize;
        }
    }
    FakeHost::shared();
    assert_eq!(bare_function(7), Ok(8));
    assert_eq!(offered::count("a"), Ok(1));
    let mut call = start::bare_function(8);
    assert_eq!(call.wait(std::time::Duration::from_secs(30)), Ok(9));
}

#[test]
fn a_name_that_nobody_offers_is_an_error_with_the_nearest() {
    FakeHost::shared();
    let error = absent::nothing().expect_err("nobody offers it");
    assert_eq!(
        error,
        CallError::NotFound {
            skill: "absent.nothing".to_owned(),
            nearest: vec!["kitchen.cook".to_owned()],
        }
    );
    assert_eq!(
        error.to_string(),
        "no plugin offers `absent.nothing`; did you mean `kitchen.cook`?"
    );
}

#[test]
fn another_signature_is_an_error_with_the_differences() {
    let host = FakeHost::shared();
    let before = host.entered("offered.count");
    let differences = |error: CallError| match error {
        CallError::Mismatch {
            skill,
            message,
            differences,
        } => {
            assert_eq!(skill, "offered.count");
            assert!(message.contains("fn(text: &str) -> usize"), "{message}");
            differences
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        differences(mistaken::offered::count(1).expect_err("differs")),
        ["parameter 1 `text`: `u64` -> `&str`"]
    );
    assert_eq!(
        differences(mistaken::offered::count_of_two("", "").expect_err("differs")),
        ["2 parameters expected, 1 offered"]
    );
    assert_eq!(
        differences(mistaken::offered::count_as_text("").expect_err("differs")),
        ["result: `String` -> `usize`"]
    );
    assert_eq!(host.entered("offered.count"), before, "nothing was entered");
}
