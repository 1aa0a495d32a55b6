//! Every mistake that the macros know, one a file, next to the message that it must give.

#[test]
fn mistakes_are_reported_on_the_authors_own_token() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*/*.rs");
}
