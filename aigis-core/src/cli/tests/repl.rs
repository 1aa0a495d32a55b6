//! The REPL with scripted input.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::error::Exit;
use super::super::repl::interact;
use super::commands::answer;
use super::fake_core::FakeCore;
use super::{Ended, context};

fn repl(home: &Path, input: &str, terminal: bool) -> Ended {
    let (mut ctx, out, err) = context(home, false);
    let exit = interact(&mut input.as_bytes(), terminal, &mut ctx)
        .unwrap_or_else(|error| error.report(ctx.stderr()));
    Ended {
        exit,
        out: out.text(),
        err: err.text(),
    }
}

fn with_core(input: &str, terminal: bool) -> Ended {
    let home = tempfile::tempdir().expect("a folder for the test");
    let _core = FakeCore::start(home.path(), std::process::id(), answer);
    repl(home.path(), input, terminal)
}

#[test]
fn calls_in_every_form_print_their_results() {
    let ended = with_core(
        "# a script\n\
         greeter.echo zaltu 3\n\
         \n\
         greeter.echo(\"zal tu\", 3)\n\
         greeter.echo times=3 value='a b'\n\
         greeter.echo(times=3, value=\"x\")\n\
         greeter.echo value=\"q\" times=1",
        false,
    );
    assert_eq!(
        ended.out,
        "[\"zaltu\",3]\n[\"zal tu\",3]\n[\"a b\",3]\n[\"x\",3]\n[\"q\",1]\n"
    );
    assert_eq!((ended.exit, ended.err.as_str()), (Exit::Ok, ""));
}

#[test]
fn a_failed_line_is_reported_and_the_next_one_read() {
    let ended = with_core(
        "greeter.fail\ngreeter.ecco\ngreeter.echo(\ngreeter.echo a 1\nquit\ngreeter.panic\n",
        false,
    );
    // The last line that failed decides; what stands behind `quit` is not read.
    assert_eq!(ended.exit, Exit::Usage, "{ended:?}");
    assert_eq!(ended.out, "[\"a\",1]\n");
    let errors: Vec<&str> = ended
        .err
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 3, "{ended:?}");
}

#[test]
fn on_a_terminal_there_is_a_prompt_and_no_exit_code_of_a_line() {
    let ended = with_core("greeter.fail\n", true);
    assert_eq!(ended.exit, Exit::Ok);
    assert!(
        ended.err.starts_with("aigis> error: greeter.fail failed"),
        "{ended:?}"
    );
    assert!(ended.err.ends_with("aigis> \n"), "{ended:?}");
}

#[test]
fn lists_reload_and_help() {
    let ended = with_core(
        "status\nskills greeter.e\nreload greeter\nreload nobody\nhelp\n",
        false,
    );
    assert!(ended.out.contains("NAME     KIND  STATE"), "{ended:?}");
    assert!(ended.out.contains("greeter.echo"), "{ended:?}");
    assert!(!ended.out.contains("greeter.fail"), "{ended:?}");
    assert!(
        ended.err.contains("greeter: ready (generation 1)"),
        "{ended:?}"
    );
    assert!(
        ended.err.contains("there is no plugin `nobody`"),
        "{ended:?}"
    );
    assert!(ended.err.contains("skills [PREFIX]"), "{ended:?}");
    assert_eq!(ended.exit, Exit::UnknownName);
}

#[test]
fn bytes_that_are_no_text_are_no_reason_to_end() {
    let home = tempfile::tempdir().expect("a folder for the test");
    let _core = FakeCore::start(home.path(), std::process::id(), answer);
    let (mut ctx, out, _) = context(home.path(), false);
    let exit = interact(&mut &b"\xff\xfe\ngreeter.echo a 1"[..], false, &mut ctx);
    assert_eq!(exit.expect("it goes on"), Exit::UnknownName);
    assert_eq!(out.text(), "[\"a\",1]\n");
}

#[test]
fn it_connects_again_when_the_core_has_been_restarted() {
    let home = tempfile::tempdir().expect("a folder for the test");
    // Once, the question of the second line finds the connection closed.
    let questions = AtomicU32::new(0);
    let _core = FakeCore::start(home.path(), 4711, move |name, arguments| match name {
        "aigis.skills" if questions.fetch_add(1, Ordering::SeqCst) == 1 => None,
        _ => answer(name, arguments),
    });
    let ended = repl(
        home.path(),
        "greeter.echo a 1\ngreeter.echo b 2\ngreeter.vanish\ngreeter.echo c 3\n",
        false,
    );
    assert_eq!(ended.out, "[\"a\",1]\n[\"b\",2]\n[\"c\",3]\n");
    let told = "connected again, to the core with process id 4711\n";
    assert_eq!(ended.err.matches(told).count(), 2, "{ended:?}");
    assert!(
        ended.err.contains("whether greeter.vanish ran is unknown"),
        "{ended:?}"
    );
    assert_eq!(ended.exit, Exit::NoCore);
}
