use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use super::{NOTIFY_ARGUMENT, Place, launch, own_program, run};
use crate::supervisor::linux::Process;
use crate::supervisor::protocol::{LaunchSpec, NOTIFY_VARIABLE, READY_FD_VARIABLE};
use crate::supervisor::{Exit, ReadySign, Supervised};

/// Says to the socket that its environment names what it is told to say, and stays.
pub(super) fn notify_main(messages: &[String]) -> ! {
    let name = std::env::var(NOTIFY_VARIABLE).expect("it is invited");
    for message in messages {
        send(&name, message);
    }
    loop {
        std::thread::park();
    }
}

/// Closes the descriptor that its environment names, and stays.
pub(super) fn close_main() -> ! {
    let number = std::env::var(READY_FD_VARIABLE).expect("it is invited");
    let number: i32 = number.parse().expect("is a number");
    nix::unistd::close(number).expect("it was open");
    loop {
        std::thread::park();
    }
}

fn send(name: &str, message: &str) {
    let name = name.strip_prefix('@').expect("is abstract");
    let address = SocketAddr::from_abstract_name(name).expect("is an address");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket
        .send_to_addr(message.as_bytes(), &address)
        .expect("is sent");
}

fn asked(place: &Place, script: &str, sign: ReadySign) -> LaunchSpec {
    let mut spec = place.script(script);
    spec.ready = Some(sign);
    spec
}

async fn end(plugin: &Supervised) {
    plugin.kill().await;
}

#[test]
fn a_tree_is_ready_when_one_of_it_says_so() {
    let place = Place::new();
    run(async {
        let notify = format!("'{}' {NOTIFY_ARGUMENT}", own_program().display());
        let script = format!(
            "echo socket $NOTIFY_SOCKET; (setsid {notify} 'STATUS=warming up' 'WATCHDOG=1' &); \
             while ! test -e go; do sleep 0.01; done; (setsid {notify} 'MAINPID=1\nREADY=1\nSTATUS=serving' &); \
             sleep 1000"
        );
        let spec = asked(&place, &script, ReadySign::Notify);
        let name = format!("@aigis/{}", spec.invocation);
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for(&format!("INFO : socket {name}")).await;
        // A stranger's word counts for nothing, and is told of.
        send(&name, "READY=1");
        place.wait_for("is none of this plugin's").await;
        let mut remarks = plugin.remarks();
        while remarks.status.as_deref() != Some("warming up") {
            remarks = plugin.more_remarks(&remarks).await;
        }
        assert_eq!(remarks.ready, None);
        std::fs::write(place.path("go"), "").expect("writes");
        assert_eq!(plugin.ready().await, Ok(()));
        let mut remarks = plugin.remarks();
        while remarks.status.as_deref() != Some("serving") {
            remarks = plugin.more_remarks(&remarks).await;
        }
        assert_eq!(place.logged("WARNING").len(), 1);
        end(&plugin).await;
    });
}

#[test]
fn a_line_on_the_descriptor_makes_ready() {
    let place = Place::new();
    run(async {
        let script = format!(
            "exec 9>/proc/self/fd/${READY_FD_VARIABLE}; printf up >&9; echo asked; \
             while ! test -e go; do sleep 0.01; done; echo >&9; sleep 1000"
        );
        let spec = asked(&place, &script, ReadySign::Line);
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : asked").await;
        // Half a line is none.
        assert_eq!(plugin.remarks().ready, None);
        std::fs::write(place.path("go"), "").expect("writes");
        assert_eq!(plugin.ready().await, Ok(()));
        end(&plugin).await;
    });
}

#[test]
fn a_descriptor_that_is_closed_without_a_line_never_makes_ready() {
    let place = Place::new();
    run(async {
        // Two digits are no redirection to some shells, so the program that closes it is another.
        let script = format!(
            "printf half > /proc/self/fd/${READY_FD_VARIABLE}; exec \"$0\" {}",
            super::CLOSE_ARGUMENT
        );
        let mut spec = place.spec("/bin/sh").args([
            "-c".into(),
            script.into(),
            own_program().into_os_string(),
        ]);
        spec.ready = Some(ReadySign::Line);
        let plugin = launch(spec).await.expect("it is launched");
        let reason = plugin.ready().await.expect_err("it cannot be");
        assert!(reason.contains(READY_FD_VARIABLE), "{reason}");
        end(&plugin).await;
    });
}

/// What has ended has closed its descriptors, too: it is the end that counts.
#[test]
fn an_end_without_a_line_is_an_end() {
    let place = Place::new();
    run(async {
        for _ in 0..20 {
            let spec = asked(&place, "exit 7", ReadySign::Line);
            let plugin = launch(spec).await.expect("it is launched");
            assert_eq!(plugin.wait().await, Exit::Code(7));
            assert_eq!(plugin.remarks().ready, None);
        }
    });
}

#[test]
fn a_printed_line_makes_ready_when_all_of_it_matches() {
    let place = Place::new();
    run(async {
        let script = "echo not ready yet; printf 'ready on ' >&2; echo half; while ! test -e go; do sleep 0.01; \
            done; printf 'port 80\\r\\n' >&2; sleep 1000";
        let sign = ReadySign::Log("^ready on port [0-9]+$".to_owned());
        let spec = asked(&place, script, sign);
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : half").await;
        assert_eq!(plugin.remarks().ready, None);
        std::fs::write(place.path("go"), "").expect("writes");
        assert_eq!(plugin.ready().await, Ok(()));
        end(&plugin).await;
    });
}

/// What an earlier launch has said, in the same place and into the same log, is nothing to a later one.
#[test]
fn readiness_is_not_matched_against_the_previous_run() {
    let place = Place::new();
    run(async {
        let sign = || ReadySign::Log("up and running".to_owned());
        let spec = asked(&place, "echo up and running; exit 1", sign());
        let plugin = launch(spec).await.expect("it is launched");
        assert_eq!(plugin.ready().await, Ok(()));
        assert_eq!(plugin.wait().await, Exit::Code(1));
        let spec = asked(&place, "echo second; sleep 1000", sign());
        let plugin = launch(spec).await.expect("it is launched");
        place.wait_for("INFO : second").await;
        // Whatever the shim has to say of that line it has said when it answers this.
        plugin.stop(Duration::from_secs(5)).await;
        assert_eq!(plugin.remarks().ready, None);
    });
}

#[test]
fn a_stop_begins_with_the_signal_that_was_asked_for() {
    // The second one has no name, only a number.
    for (signal, name) in [(2, "INT"), (40, "40")] {
        let place = Place::new();
        run(async {
            let script = format!(
                "trap 'echo term; exit 1' TERM; trap 'echo asked; exit 0' {name}; echo ready; \
                 while :; do sleep 0.01; done"
            );
            let mut spec = place.script(&script);
            spec.stop_signal = signal;
            let plugin = launch(spec).await.expect("it is launched");
            place.wait_for("INFO : ready").await;
            let report = plugin.stop(Duration::from_secs(20)).await;
            assert_eq!(report.exit, Some(Exit::Code(0)), "{}", place.log());
            assert_eq!(report.killed, []);
            assert!(place.log().contains("INFO : asked"), "{}", place.log());
        });
    }
}

#[test]
fn who_holds_a_stop_up_is_told() {
    let place = Place::new();
    run(async {
        let script = "trap '' TERM; echo ready; sleep 1000";
        let plugin = launch(place.script(script)).await.expect("it is launched");
        place.wait_for("INFO : ready").await;
        let begun = Instant::now();
        let stopping = plugin.stop(Duration::from_secs(20));
        tokio::pin!(stopping);
        let mut remarks = plugin.remarks();
        assert_eq!(remarks.waiting, []);
        while remarks.waiting.is_empty() {
            tokio::select! {
                report = &mut stopping => panic!("it has ended: {report:?}"),
                more = plugin.more_remarks(&remarks) => remarks = more,
            }
        }
        assert!(begun.elapsed() >= Duration::from_secs(1));
        let mut names: Vec<&str> = remarks
            .waiting
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["sh", "sleep"]);
        assert!(
            remarks
                .waiting
                .iter()
                .all(|one| Process::read(one.pid as i32).is_some())
        );
        let killed = plugin.kill().await;
        assert_eq!(killed.killed.len(), 2);
    });
}
