use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Place, assert_gone, launch, own_program, read_log, run, wait_until};
use crate::logging::{CUT_MARKER, Format, MAX_LINE_BYTES, SecretValue};
use crate::supervisor::{Exit, Supervised};

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

#[test]
fn a_line_that_states_its_level_has_it_on_both_streams() {
    let place = Place::new();
    run(async {
        let script = r#"
            echo 'WARN disk'; echo '[error] no' >&2
            echo '{"level":"debug","msg":"x"}'; echo 'level=error a=b' >&2; echo plain"#;
        let plugin = place.launch(script).await;
        plugin.wait().await;
        assert_eq!(place.logged("WARNING"), ["disk"]);
        assert_eq!(place.logged("DEBUG"), [r#"{"level":"debug","msg":"x"}"#]);
        assert_eq!(place.logged("ERROR"), ["[error] no", "level=error a=b"]);
        assert_eq!(place.logged("INFO")[0], "plain");
    });
}

#[test]
fn the_pieces_of_a_long_line_have_one_level() {
    let place = Place::new();
    run(async {
        let script = "printf 'ERROR: '; head -c 100000 /dev/zero | tr '\\0' x; echo; echo next";
        let plugin = place.launch(script).await;
        plugin.wait().await;
        assert_eq!(place.logged("ERROR").len(), 3);
        assert_eq!(place.logged("INFO")[0], "next");
    });
}

#[test]
fn a_log_in_json_has_stream_and_invocation() {
    let place = Place::new();
    run(async {
        let mut spec = place.script(r#"echo '{"level":"warn","msg":"x","n":1}'; echo err >&2"#);
        spec.log_format = Format::Json;
        let invocation = spec.invocation.clone();
        let plugin = launch(spec).await.expect("it is launched");
        plugin.wait().await;
        let log = place.log();
        let records: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect();
        assert!(
            records
                .iter()
                .all(|record| record["invocation"] == *invocation)
        );
        let of = |stream: &str| {
            let found = records.iter().find(|record| record["stream"] == stream);
            found.expect("a record of that stream")
        };
        assert_eq!(
            (&of("stdout")["level"], &of("stdout")["message"]),
            (&"warning".into(), &"x".into())
        );
        assert_eq!(of("stdout")["fields"]["n"], 1);
        assert_eq!(
            (&of("stderr")["level"], &of("stderr")["message"]),
            (&"stderr".into(), &"err".into())
        );
        assert_eq!(records[0]["level"], "boot");
    });
}

#[test]
fn secrets_never_get_into_the_log_or_the_record() {
    const SECRET: &str = "hunter2hunter3";
    let place = Place::new();
    run(async {
        // Where a long line is cut, within the value.
        let at = MAX_LINE_BYTES - 5;
        let script = format!(
            "# {SECRET}\nprintf 'a hunter2hu'; touch half; while [ ! -e go ]; do sleep 0.01; done
             printf 'nter3 b\\n'; printf 'c {SECRET}' >&2
             head -c {at} /dev/zero | tr '\\0' x; printf '{SECRET}'; echo; cat run/p.json > copy"
        );
        let mut spec = place.script(&script);
        spec.secrets = vec![SecretValue {
            name: "key".to_owned(),
            value: format!("{SECRET}\n").into_bytes(),
        }];
        let plugin = launch(spec).await.expect("it is launched");
        wait_until("half of it", || place.path("half").exists()).await;
        std::fs::write(place.path("go"), "").expect("a file");
        plugin.wait().await;
        let log = place.log();
        assert!(!log.contains(SECRET), "{log}");
        assert!(log.contains("INFO : a [secret key] b\n"), "{log}");
        assert_eq!(place.logged("STDERR"), ["c [secret key]"]);
        // In the command line, of which this is a part, too.
        assert!(place.logged("BOOT")[0].contains("[secret key]"));
        let pieces = place.logged("INFO").join("").replace(CUT_MARKER, "");
        assert!(pieces.contains("xxx[secret key]"), "{pieces}");
        let record = std::fs::read_to_string(place.path("copy")).expect("the record");
        assert!(!record.contains(SECRET), "{record}");
    });
}

#[test]
fn a_full_disk_is_survived_and_counted() {
    const LINES: usize = 20_000;
    let place = Place::new();
    let small = SmallDisk::new(&place);
    run(async {
        let script = format!(
            "i=0; while [ $i -lt {LINES} ]; do echo \"line $i of many\"; i=$((i+1)); done
             touch flooded; while [ ! -e room ]; do sleep 0.01; done; echo after"
        );
        let mut spec = place.script(&script);
        let log = small.folder.join("p.log");
        spec.log = log.clone().into();
        let plugin = Supervised::launch(&small.shim, spec).await;
        let plugin = plugin.expect("it is launched");
        wait_until("the flood", || place.path("flooded").exists()).await;
        // Somebody makes room.
        let aside = small.folder.join("aside");
        std::fs::rename(&log, &aside).expect("the log is there");
        let first = read_log(&aside);
        std::fs::remove_file(&aside).expect("it is there");
        std::fs::write(place.path("room"), "").expect("a file");
        assert_eq!(plugin.wait().await, Exit::Code(0));
        let second = read_log(&log);
        // A short record may fit where a long one did not, so there may be several gaps.
        let missing: usize = first
            .lines()
            .chain(second.lines())
            .filter_map(|line| {
                let (_, rest) = line.split_once(" : WARNING : ")?;
                rest.split_once(" records (")?.0.parse::<usize>().ok()
            })
            .sum();
        assert!(missing > 0, "{second}");
        let kept = |text: &str| text.matches(" : INFO : line ").count();
        assert_eq!(kept(&first) + missing + kept(&second), LINES);
        assert!(first.ends_with('\n'), "no record is torn");
        assert!(second.contains(" : INFO : after\n"), "{second}");
    });
}

/// A folder in which there is room for a short log only.
struct SmallDisk {
    folder: PathBuf,
    /// What is started as the shim.
    shim: PathBuf,
    is_mounted: bool,
}

impl SmallDisk {
    /// A small disk where one may be mounted, else a limit of the shim.
    fn new(place: &Place) -> SmallDisk {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = place.path("small");
        std::fs::create_dir(&folder).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(&folder)
            .stderr(std::process::Stdio::null())
            .status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        let mut shim = own_program();
        if !is_mounted {
            let script = format!("#!/bin/sh\nulimit -f 256\nexec {shim:?} \"$@\"\n");
            shim = place.path("shim");
            std::fs::write(&shim, script).expect("a script");
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&shim, mode).expect("it is ours");
        }
        SmallDisk {
            folder,
            shim,
            is_mounted,
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: a shim that a failed test has left may still have its log open.
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}
