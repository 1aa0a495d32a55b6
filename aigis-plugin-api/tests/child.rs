//! Children are started, watched, ended and collected as promised, in a program.
//!
//! What concerns the whole process is tested in one of its own: this test again, with one role.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _, pipe};
use std::net::ToSocketAddrs as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::pin::pin;
use std::process::{self, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use aigis_plugin_api::child::{self, Child, Command, Exit};
use rustix::io::{FdFlags, fcntl_setfd};

const DEADLINE: Duration = Duration::from_secs(60);
/// What this process is to do, if it is not the one that tests.
const ROLE: &str = "AIGIS_CHILD_TEST_ROLE";

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

fn exit_of(child: &Child) -> Exit {
    child.join(DEADLINE).expect("it ends")
}

/// Has this very program play a role, in the test that is called so.
fn play(test: &str, role: &str) -> process::Command {
    let mut command = process::Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, role);
    command
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn passes(mut command: process::Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// Reads a line that says how a process is: `SigIgn` of `/proc/<pid>/status`.
fn status_of(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// Tells whether a process, or what is left of one, has that number.
fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

#[test]
fn gip_01_it_runs_at_once_under_its_name() {
    let mut child = Command::new("cat")
        .name("feeder")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"are you there?\n").unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "are you there?\n");
    assert_eq!(child.name(), "feeder");
    drop(stdin);
    assert_eq!(exit_of(&child), Exit::Code(0));
}

#[test]
fn gip_01_what_cannot_start_says_so() {
    for daemon in [false, true] {
        let missing = Command::new("/no/such/program").daemon(daemon).spawn();
        let error = missing.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().contains("`/no/such/program`"), "{error}");
        let nowhere = Command::new("true").current_dir("/no/such/folder");
        let error = nowhere.daemon(daemon).spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
}

/// Tells a channel that somebody was woken.
struct Tells(Mutex<Sender<()>>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().send(()).unwrap();
    }
}

#[test]
fn gip_03_waiting_for_it_blocks_no_other_task() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    let (tells, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Tells(Mutex::new(tells))));
    let mut context = Context::from_waker(&waker);
    let mut exited = pin!(child.exited());
    assert_eq!(exited.as_mut().poll(&mut context), Poll::Pending);
    // Given up, it does not keep the others from being told.
    drop(child.exited());
    // The other task of this thread has its turn, and it is what ends the child.
    drop(stdin);
    told.recv_timeout(DEADLINE).unwrap();
    let ended = exited.as_mut().poll(&mut context);
    assert_eq!(ended, Poll::Ready(Exit::Code(0)));
}

#[test]
fn gip_04_gip_05_its_end_is_noticed_without_join() {
    let (tells, told) = mpsc::channel();
    let ends_with = |child: &Child| {
        let tells = tells.clone();
        child.on_exit(move |exit| tells.send(exit).unwrap());
        told.recv_timeout(DEADLINE).unwrap()
    };
    for code in [0, 1, 20, 255] {
        let child = sh(&format!("exit {code}")).spawn().unwrap();
        let exit = ends_with(&child);
        assert_eq!((exit, exit.as_i32()), (Exit::Code(code), code));
        assert_eq!(child.exit(), Some(exit));
        // Told again at once.
        assert_eq!(ends_with(&child), exit);
    }
    for signal in [1, 2, 9, 15, 34] {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(child.exit(), None);
        assert!(child.signal(signal).unwrap());
        assert_eq!(ends_with(&child).as_i32(), -signal);
    }
}

#[test]
fn gip_06_gip_07_a_join_that_is_over_too_early_changes_nothing() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let late = child.join(Duration::from_millis(10)).unwrap_err();
    assert_eq!(late.after(), Duration::from_millis(10));
    assert!(child.is_alive());
    drop(child.stdin.take());
    assert_eq!(exit_of(&child), Exit::Code(0));
    assert!(!child.is_alive());
    // As often as one likes.
    assert_eq!(child.join(Duration::ZERO), Ok(Exit::Code(0)));
    assert_eq!(child.join(Duration::MAX), Ok(Exit::Code(0)));
}

#[test]
fn gip_09_once_it_has_ended_nothing_is_sent_to_anybody() {
    let child = Command::new("true").spawn().unwrap();
    exit_of(&child);
    assert!(!child.terminate().unwrap() && !child.kill().unwrap());
    assert!(!child.signal(2).unwrap());
}

#[test]
fn signals_that_there_are_not() {
    let child = Command::new("sleep")
        .arg("1000")
        .daemon(true)
        .spawn()
        .unwrap();
    for number in [i32::MIN, -15, 0, 32, 33, 65, i32::MAX] {
        let error = child.signal(number).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&number.to_string()), "{error}");
    }
    assert!(child.is_alive());
}

#[test]
fn gip_10_dropped_it_goes_on_and_is_still_collected() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let (pid, stdin) = (child.pid(), child.stdin.take());
    let (tells, told) = mpsc::channel();
    child.on_exit(move |exit| tells.send(exit).unwrap());
    drop(child);
    assert!(exists(pid));
    drop(stdin);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Exit::Code(0));
    assert!(!exists(pid), "it is a zombie");
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// The children of every thread, zombies too.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let texts = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")));
    let texts: Vec<String> = texts.filter_map(Result::ok).collect();
    texts
        .iter()
        .flat_map(|text| text.split_ascii_whitespace().map(str::to_owned))
        .collect()
}

#[test]
fn gip_10_gip_51_two_hundred_leave_nothing_behind() {
    if role().is_none() {
        return passes(play(
            "gip_10_gip_51_two_hundred_leave_nothing_behind",
            "many",
        ));
    }
    let descriptors = || count("/proc/self/fd");
    // Whoever joins a thread hears of its end a moment before the system has taken it off this list.
    let has_threads = |number: usize| {
        let begun = Instant::now();
        while count("/proc/self/task") != number {
            assert!(begun.elapsed() < DEADLINE, "there are not {number} threads");
            thread::yield_now();
        }
    };
    let before = (descriptors(), count("/proc/self/task"));
    // In quick succession, from ten threads, every second one joined.
    let (tells, told) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..10 {
            let tells = tells.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    let command = Command::new("true").stdin(Stdio::null());
                    let child = command.daemon(number % 3 == 0).spawn().unwrap();
                    if number % 2 == 0 || number % 3 == 0 {
                        assert_eq!(exit_of(&child), Exit::Code(0));
                    }
                    let tells = tells.clone();
                    child.on_exit(move |exit| tells.send(exit).unwrap());
                }
            });
        }
    });
    for _ in 0..200 {
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Exit::Code(0));
    }
    child::at_rest();
    assert_eq!(descriptors(), before.0);
    has_threads(before.1);
    assert_eq!(children(), [""; 0]);
    // All at once: one thread for all of them, and one descriptor each, but for the thread's own two.
    let sleepers: Vec<Child> = (0..200)
        .map(|_| Command::new("sleep").arg("1000").daemon(true))
        .map(|command| command.spawn().unwrap())
        .collect();
    assert_eq!(children().len(), 200);
    assert_eq!(descriptors(), before.0 + 202);
    has_threads(before.1 + 1);
    for sleeper in &sleepers {
        let tells = tells.clone();
        sleeper.on_exit(move |exit| tells.send(exit).unwrap());
    }
    drop(sleepers);
    for _ in 0..200 {
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Exit::Signal(15));
    }
    child::at_rest();
    assert_eq!(descriptors(), before.0);
    has_threads(before.1);
    assert_eq!(children(), [""; 0]);
}

#[test]
fn gip_12_signals_have_their_default_effect() {
    if role().is_none() {
        // This process, and with it what it starts, would ignore all of these.
        let test = std::env::current_exe().unwrap();
        let mut command = process::Command::new("sh");
        command
            .args([
                "-c",
                r#"trap "" TERM INT HUP USR1 CHLD PIPE; exec "$0" "$@""#,
            ])
            .arg(test)
            .args(["--exact", "gip_12_signals_have_their_default_effect"])
            .env(ROLE, "deaf");
        return passes(command);
    }
    let own = status_of(process::id(), "SigIgn");
    assert_ne!(
        u64::from_str_radix(&own, 16).unwrap() & (1 << 14),
        0,
        "{own}"
    );
    for daemon in [false, true] {
        // Nothing of it is held open if this fails.
        let command = Command::new("sleep").arg("1000").daemon(daemon);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        for key in ["SigIgn", "SigBlk", "SigCgt"] {
            let set = status_of(child.pid(), key);
            assert_eq!(u64::from_str_radix(&set, 16), Ok(0), "{key}");
        }
        // An ignored SIGCHLD takes the status away: said as it is.
        child.terminate().unwrap();
        assert!(matches!(exit_of(&child), Exit::Unknown | Exit::Signal(15)));
    }
}

#[test]
fn gip_13_children_of_children_of_children_answer() {
    const TEST: &str = "gip_13_children_of_children_of_children_answer";
    let below = |level: u32| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture", "--quiet"])
            .env(ROLE, level.to_string())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        write!(stdin, "{level} ").unwrap();
        drop(stdin);
        let mut answer = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut answer)
            .unwrap();
        assert_eq!(exit_of(&child), Exit::Code(0));
        answer
    };
    let Some(level) = role() else {
        assert_eq!(below(3), "3 2 1 ");
        return;
    };
    let mut said = String::new();
    std::io::stdin().read_to_string(&mut said).unwrap();
    let level: u32 = level.parse().unwrap();
    let more = if level > 1 {
        below(level - 1)
    } else {
        String::new()
    };
    write!(std::io::stderr(), "{said}{more}").unwrap();
}

#[test]
fn gip_14_it_starts_while_other_threads_look_up_names() {
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                // Which answer there is does not matter.
                let _ = ("localhost", 80).to_socket_addrs().map(Iterator::count);
                exit_of(&Command::new("true").spawn().unwrap())
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Exit::Code(0));
    }
}

#[test]
fn gip_15_it_shows_its_name_and_state() {
    let child = Command::new("sleep")
        .arg("1000")
        .name("feeder")
        .spawn()
        .unwrap();
    let pid = child.pid();
    assert_eq!(
        child.to_string(),
        format!("child feeder running[pid {pid}]")
    );
    child.terminate().unwrap();
    exit_of(&child);
    assert_eq!(child.to_string(), "child feeder stopped[SIGTERM]");
    let child = sh("exit 3").spawn().unwrap();
    exit_of(&child);
    assert_eq!(child.to_string(), "child sh stopped[code 3]");
    assert_eq!(Exit::Signal(40).to_string(), "signal 40");
}

#[test]
fn gip_16_ten_pairs_at_once() {
    let pairs: Vec<_> = (0..10)
        .map(|pair| {
            thread::spawn(move || {
                let command = Command::new("cat").stdin(Stdio::piped());
                let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
                for number in 0..100 {
                    writeln!(stdin, "{pair}: {number}").unwrap();
                    let line = lines.next().unwrap().unwrap();
                    assert_eq!(line, format!("{pair}: {number}"));
                }
                drop(stdin);
                assert!(lines.next().is_none());
                exit_of(&child)
            })
        })
        .collect();
    for pair in pairs {
        assert_eq!(pair.join().unwrap(), Exit::Code(0));
    }
}

#[test]
fn gip_41_it_has_the_descriptors_that_were_passed_and_no_others() {
    let open = || -> OwnedFd { File::open("/dev/null").unwrap().into() };
    // As code of another language leaves it.
    let leaked = open();
    fcntl_setfd(&leaked, FdFlags::empty()).unwrap();
    let (one, other) = (open(), open());
    let numbers = [one.as_raw_fd(), other.as_raw_fd()];
    let child = Command::new("sleep")
        .arg("1000")
        .daemon(true)
        .pass("ONE", one)
        .pass("OTHER", other)
        .spawn()
        .unwrap();
    let entries = fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let found: BTreeSet<i32> = names
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect();
    let expected: BTreeSet<i32> = [0, 1, 2].into_iter().chain(numbers).collect();
    assert_eq!(found, expected);
    let environment = fs::read(format!("/proc/{}/environ", child.pid())).unwrap();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let named = [("ONE", numbers[0]), ("OTHER", numbers[1])];
    for (name, number) in named {
        let entry = format!("{name}={number}");
        assert!(environment.split('\0').any(|one| one == entry), "{entry}");
    }
    drop(leaked);
}

#[test]
fn gip_41_what_was_passed_is_closed_here() {
    let (mut reads, writes) = pipe().unwrap();
    let command = sh("echo hello > /dev/fd/$ANSWER").pass("ANSWER", writes);
    let child = command.spawn().unwrap();
    let mut answer = String::new();
    // It ends only if nobody has the other end any more.
    reads.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello\n");
    assert_eq!(exit_of(&child), Exit::Code(0));
}

#[test]
fn gip_64_in_a_group_of_its_own_the_terminal_does_not_reach_it() {
    let group = |own| {
        let command = Command::new("sleep").arg("1000").daemon(true);
        let child = command.own_group(own).spawn().unwrap();
        let pid = rustix::process::Pid::from_raw(child.pid() as i32);
        (rustix::process::getpgid(pid).unwrap(), pid.unwrap())
    };
    let (leads, pid) = group(true);
    assert_eq!(leads, pid);
    let (shared, _) = group(false);
    assert_eq!(shared, rustix::process::getpgrp());
}

#[test]
fn a_daemon_that_does_not_listen_is_killed_after_its_grace() {
    let mut child = sh("trap '' TERM; echo ready; read forever")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .daemon(true)
        .grace(Duration::from_millis(100))
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    let _stdin = child.stdin.take();
    let (tells, told) = mpsc::channel();
    child.on_exit(move |exit| tells.send(exit).unwrap());
    let begun = Instant::now();
    drop(child);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Exit::Signal(9));
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_daemon_outlives_the_thread_that_starts_it() {
    let start = || {
        let command = Command::new("cat").stdin(Stdio::piped());
        command.stdout(Stdio::piped()).daemon(true).spawn().unwrap()
    };
    let mut child = thread::spawn(start).join().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"alive\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "alive\n");
}

#[test]
fn a_daemon_dies_with_its_process_and_others_do_not() {
    const TEST: &str = "a_daemon_dies_with_its_process_and_others_do_not";
    if role().is_some() {
        let daemon = Command::new("sleep").arg("1000").daemon(true).spawn();
        let other = Command::new("sleep")
            .arg("1000")
            .stdout(Stdio::null())
            .spawn();
        let (daemon, other) = (daemon.unwrap(), other.unwrap());
        println!("pids {} {}", daemon.pid(), other.pid());
        daemon.wait();
        unreachable!("the daemon has ended before its process");
    }
    let mut parent = play(TEST, "parent").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let line = lines
        .by_ref()
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("pids ")?.1.to_owned()))
        .unwrap();
    let pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    parent.kill().unwrap();
    // The daemon has its standard output, so this ends with it.
    assert!(lines.next().is_none());
    parent.wait().unwrap();
    assert!(exists(pids[1]));
    let other = rustix::process::Pid::from_raw(pids[1] as i32).unwrap();
    rustix::process::kill_process(other, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_callback_that_panics_keeps_nobody_from_being_told() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let (tells, told) = mpsc::channel();
    child.on_exit(|_| panic!("on purpose"));
    child.on_exit(move |exit| {
        // From the thread that waits for all children: a daemon can be started there as well.
        let next = Command::new("true").daemon(true).spawn().unwrap();
        next.on_exit(move |next| tells.send((exit, next)).unwrap());
        std::mem::forget(next);
    });
    drop(child.stdin.take());
    let ends = told.recv_timeout(DEADLINE).unwrap();
    assert_eq!(ends, (Exit::Code(0), Exit::Code(0)));
}
