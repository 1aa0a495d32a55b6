//! Libraries whose constructors do what they should not.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

use super::*;

#[test]
fn a_crash_names_its_signal() {
    let place = Place::new();
    let library = place
        .constructing("unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }");
    crashed(
        &library,
        LONG,
        &[
            "killed the process with SIGSEGV when it was opened",
            "constructors",
        ],
    );
}

#[test]
fn an_abort_names_its_signal() {
    let place = Place::new();
    let library = place.constructing("std::process::abort()");
    crashed(
        &library,
        LONG,
        &["killed the process with SIGABRT when it was opened"],
    );
    let library = place.constructing("panic!(\"in a constructor\")");
    crashed(
        &library,
        LONG,
        &["killed the process with SIGABRT when it was opened"],
    );
}

#[test]
fn an_exit_is_no_success() {
    let place = Place::new();
    let library = place.constructing("std::process::exit(0)");
    crashed(
        &library,
        LONG,
        &["ended the process with exit code 0 when it was opened"],
    );
}

#[test]
fn an_endless_loop_is_ended_with_the_deadline() {
    let place = Place::new();
    let library = place.constructing("loop { std::hint::spin_loop() }");
    crashed(
        &library,
        SHORT,
        &["did not come back within 3s when it was opened"],
    );
}

#[test]
fn what_a_hanging_constructor_has_started_is_ended_too() {
    let place = Place::new();
    let mark = place.path("mark");
    let library = place.constructing(&format!(
        "let child = std::process::Command::new(\"sleep\").arg(\"1000\").spawn().unwrap();\n\
         std::fs::write({mark:?}, child.id().to_string()).unwrap();\n\
         std::thread::spawn(|| loop {{ std::thread::park() }}).join().unwrap();"
    ));
    crashed(&library, SHORT, &["did not come back within"]);
    gone(&mark);
}

#[test]
fn what_a_constructor_has_started_does_not_outlive_the_probe() {
    let place = Place::new();
    let mark = place.path("mark");
    let library = place.constructing(&format!(
        "let child = std::process::Command::new(\"sleep\").arg(\"1000\").spawn().unwrap();\n\
         std::fs::write({mark:?}, child.id().to_string()).unwrap();"
    ));
    probed(&library, LONG).expect("passes");
    gone(&mark);
}

/// Waits for the end of the process whose number is in a file.
fn gone(mark: &Path) {
    let pid = fs::read_to_string(mark).expect("was written");
    let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
    // Whoever inherits it may not have waited for it yet; then this tells of its end too.
    let Ok(end) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    let deadline = Timespec::try_from(LONG).expect("is not that long");
    let ended = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&deadline));
    assert_eq!(ended, Ok(1), "{pid:?} goes on");
}

#[test]
fn a_constructor_that_leaves_its_group_is_ended() {
    let place = Place::new();
    let library = place.constructing(
        "unsafe extern \"C\" { safe fn setsid() -> i32; safe fn setpgid(pid: i32, group: i32) -> i32; \
         safe fn getppid() -> i32; safe fn getpgid(pid: i32) -> i32; }\n\
         setpgid(0, getpgid(getppid()));\n\
         loop { std::thread::park() }",
    );
    crashed(&library, SHORT, &["did not come back within"]);
}

#[test]
fn a_library_that_prints_much_passes() {
    let place = Place::new();
    let library = place.constructing(
        "use std::io::Write;\n\
         let line = [b'x'; 4096];\n\
         for _ in 0..2048 {\n\
             std::io::stdout().write_all(&line).unwrap();\n\
             std::io::stderr().write_all(&line).unwrap();\n\
         }",
    );
    probed(&library, LONG).expect("nobody hears it");
}

#[test]
fn a_library_that_closes_files_is_refused() {
    let place = Place::new();
    for range in ["0..64", "3..64", "1..2"] {
        let library = place.constructing(&format!(
            "unsafe extern \"C\" {{ safe fn close(file: i32) -> i32; }}\n\
             for file in {range} {{ close(file); }}"
        ));
        crashed(
            &library,
            LONG,
            &["closed files of the process that it had not opened"],
        );
    }
}

#[test]
fn a_report_that_the_library_writes_itself_proves_nothing() {
    // Every file that can be written to gets what a report looks like.
    let forge = |end: &str| {
        format!(
            "use std::os::unix::fs::FileExt;\n\
             for entry in std::fs::read_dir(\"/proc/self/fd\").unwrap().flatten() {{\n\
                 let forged = b\"0123456789abcdef\\x81\\xa2Ok\\x80\";\n\
                 let file = std::fs::OpenOptions::new().write(true).open(entry.path());\n\
                 if let Ok(file) = file {{ let _ = file.write_all_at(forged, 0); }}\n\
             }}\n\
             {end}"
        )
    };
    let place = Place::new();
    let done = child::DONE;
    for end in ["std::process::exit(0)", "std::process::abort()"] {
        let library = place.constructing(&forge(end));
        crashed(
            &library,
            LONG,
            &["wrote into files that it had not opened and"],
        );
    }
    let library = place.constructing(&forge(&format!("std::process::exit({done})")));
    crashed(
        &library,
        LONG,
        &["ended the process as if it had been tried out"],
    );
    // One that goes on is judged by what it is.
    let library = place.constructing(&forge(""));
    let probed = probed(&library, LONG).expect("the probe's own report counts");
    assert_eq!(probed.description.skills.len(), 3);
}

#[test]
fn keys_of_constructors_are_counted() {
    let place = Place::new();
    let library = place.constructing(
        "unsafe extern \"C\" { fn pthread_key_create(key: *mut u32, end: usize) -> i32; }\n\
         for _ in 0..3 { let mut key = 0; unsafe { pthread_key_create(&mut key, 0) }; }",
    );
    let probed = probed(&library, LONG).expect("passes");
    assert_eq!((probed.thread_keys, probed.threads), (3, 0));
    let notes = probed.notes().join("\n");
    assert!(
        notes.contains("keys for thread-local values (3)"),
        "{notes}"
    );
}

#[test]
fn threads_of_constructors_are_counted() {
    let place = Place::new();
    // Such a thread may create keys of its own, sooner or later.
    let library = place.constructing("std::thread::spawn(|| loop { std::thread::park() });");
    let probed = probed(&library, LONG).expect("passes");
    assert_eq!(probed.threads, 1);
    let notes = probed.notes().join("\n");
    assert!(notes.contains("threads running (1)"), "{notes}");
}
