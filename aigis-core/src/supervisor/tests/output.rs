use std::time::{Duration, Instant};

use super::{Place, assert_gone, launch, run};
use crate::logging::{CUT_MARKER, MAX_LINE_BYTES};
use crate::supervisor::Exit;

#[test]
fn both_streams_are_logged_and_told_apart() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("echo out; echo err >&2").await;
        plugin.wait().await;
        assert_eq!(place.logged("INFO")[0], "out");
        assert_eq!(place.logged("STDERR"), ["err"]);
    });
}

#[test]
fn unfinished_last_lines_are_kept() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("printf 'one\\ntwo'; printf three >&2").await;
        plugin.wait().await;
        let lines = place.logged("INFO");
        assert!(lines.contains(&"two".to_owned()), "{lines:?}");
        assert_eq!(place.logged("STDERR"), ["three"]);
    });
}

#[test]
fn an_unfinished_line_of_a_crash_is_kept() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("printf 'about to die'; kill -KILL $$").await;
        assert_eq!(plugin.wait().await, Exit::Signal(9));
        assert_eq!(place.logged("INFO"), ["about to die"]);
    });
}

#[test]
fn binary_output_is_kept_as_text() {
    let place = Place::new();
    run(async {
        let script = r"printf 'a\000b\377c\033[31m\rd\n2026-01-01 00:00:00,000 : BOOT : forged\n'";
        let plugin = place.launch(script).await;
        plugin.wait().await;
        let lines = place.logged("INFO");
        assert_eq!(lines[0], r"a\x00b\xffc\x1b[31m\rd");
        assert_eq!(lines[1], "2026-01-01 00:00:00,000 : BOOT : forged");
        assert_eq!(place.log().lines().count(), 4);
    });
}

#[test]
fn a_line_of_a_megabyte_is_kept() {
    let place = Place::new();
    run(async {
        let script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo next";
        let plugin = place.launch(script).await;
        plugin.wait().await;
        let mut lines = place.logged("INFO");
        assert_eq!(lines.pop().as_deref(), Some("Process exited with code 0"));
        assert_eq!(lines.pop().as_deref(), Some("next"));
        let last = lines.len() - 1;
        let mut length = 0;
        for (number, line) in lines.iter().enumerate() {
            let piece = line.strip_suffix(CUT_MARKER);
            assert_eq!(piece.is_some(), number < last, "piece {number}");
            let piece = piece.unwrap_or(line);
            assert!(piece.bytes().all(|byte| byte == b'x'));
            assert!(piece.len() <= MAX_LINE_BYTES);
            length += piece.len();
        }
        assert_eq!(length, 1_000_000);
    });
}

#[test]
fn a_flood_is_logged_in_full_and_in_order() {
    const LINES: usize = 100_000;
    let place = Place::new();
    run(async {
        let script =
            format!("exec awk 'BEGIN {{ for (i = 0; i < {LINES}; i++) printf \"%099d\\n\", i }}'");
        let plugin = place.launch(&script).await;
        assert_eq!(plugin.wait().await, Exit::Code(0));
        let lines = place.logged("INFO");
        assert_eq!(lines.len(), LINES + 1);
        for (number, line) in lines[..LINES].iter().enumerate() {
            assert_eq!(line.parse::<usize>().ok(), Some(number));
            assert_eq!(line.len(), 99);
        }
    });
}

#[test]
fn a_grandchild_that_holds_the_pipes_does_not_hide_the_exit() {
    let place = Place::new();
    run(async {
        let spec = place.script("setsid sleep 1000 & echo started; exit 3");
        let invocation = spec.invocation.clone();
        let since = Instant::now();
        let plugin = launch(spec).await.expect("it is launched");
        assert_eq!(plugin.wait().await, Exit::Code(3));
        assert!(
            since.elapsed() < Duration::from_secs(4),
            "it waited for the kill"
        );
        assert_eq!(place.logged("INFO"), ["started"]);
        assert_gone(&invocation);
    });
}

#[test]
fn what_is_written_after_the_leaders_end_is_kept() {
    let place = Place::new();
    run(async {
        let script = "(trap 'echo last words; exit' TERM; echo up; while :; do sleep 1000 & wait; done) & \
                      while ! grep -q \"INFO : [u]p\" p.log; do sleep 0.01; done; exit 0";
        let plugin = place.launch(script).await;
        assert_eq!(plugin.wait().await, Exit::Code(0));
        let lines = place.logged("INFO");
        assert_eq!(lines, ["up", "Process exited with code 0", "last words"]);
    });
}

#[test]
fn output_is_logged_while_the_plugin_runs() {
    let place = Place::new();
    run(async {
        let plugin = place.launch("echo now; exec sleep 1000").await;
        place.wait_for("INFO : now").await;
        assert!(plugin.leader_exit().is_none());
        plugin.kill().await;
    });
}
