//! Lists for people.

use aigis_plugin_api::signature::{Shape, Signature};

use super::super::table;
use super::status;
use crate::config::PluginKind;
use crate::host::{SkillInfo, State};

#[test]
fn plugins_are_aligned_and_errors_stand_below() {
    let greeter = status("greeter", State::Ready);
    let mut web = status("a-long-plugin-name", State::CrashLoop);
    web.kind = PluginKind::Internal;
    web.pid = None;
    web.restarts = 12;
    web.generation = 0;
    web.source = "https://git.example.org/web.git".to_owned();
    web.error = Some("exited with code 3\nits last line\x1b[2J".to_owned());
    assert_eq!(
        table::plugins(&[greeter, web]),
        "\
NAME                KIND      STATE       PID   RESTARTS  GEN  SOURCE
greeter             core      ready       4711  0         1    ../greeter
a-long-plugin-name  internal  crash-loop  -     12        0    https://git.example.org/web.git
  error: exited with code 3
         its last line\\u{1b}[2J
"
    );
}

#[test]
fn no_plugins_is_the_titles_alone() {
    assert_eq!(
        table::plugins(&[]),
        "NAME  KIND  STATE  PID  RESTARTS  GEN  SOURCE\n"
    );
}

#[test]
fn skills_stand_under_their_plugin_with_the_first_line_of_their_doc() {
    let skill = |name: &str, plugin: &str, signature: &str, doc: &str| SkillInfo {
        name: name.to_owned(),
        plugin: plugin.to_owned(),
        signature: signature.to_owned(),
        doc: doc.to_owned(),
        types: Signature {
            parameters: vec![],
            result: Shape::Unit,
            error: None,
            constant: false,
        },
    };
    assert_eq!(
        table::skills(&[
            skill(
                "greeter.greet",
                "greeter",
                "fn(name: &str) -> String",
                "Greets.\n\nMore."
            ),
            skill("counter.next", "counter", "fn() -> u64", ""),
            skill("greeter.MAX", "greeter", "const usize", " The longest."),
        ]),
        "\
greeter
  greeter.greet  fn(name: &str) -> String
      Greets.
  greeter.MAX    const usize
      The longest.

counter
  counter.next  fn() -> u64
"
    );
    assert_eq!(table::skills(&[]), "");
}
