use std::collections::HashSet;
use std::time::Duration;

use crate::supervisor::{Decision, Exit, RestartPolicy};

const SOON: Duration = Duration::from_secs(1);
const FAILURES: [Exit; 5] = [
    Exit::Code(1),
    Exit::Code(-1),
    Exit::Code(255),
    Exit::Signal(11),
    Exit::ShimLost,
];

fn without_jitter(restarts: u32) -> RestartPolicy {
    let mut policy = RestartPolicy::new(restarts, 0);
    policy.jitter = 0.0;
    policy
}

fn restart(milliseconds: u64, left: u32) -> Decision {
    Decision::Restart {
        after: Duration::from_millis(milliseconds),
        left,
    }
}

#[test]
fn success_is_never_restarted() {
    for restarts in [0, 1, u32::MAX] {
        let mut policy = without_jitter(restarts);
        let decision = policy.on_exit(&Exit::Code(0), SOON);
        assert_eq!(decision, Decision::Finished);
        assert_eq!(policy.left(), restarts);
    }
}

#[test]
fn without_restarts_a_failure_is_final() {
    for exit in FAILURES {
        for ran_for in [Duration::ZERO, SOON, Duration::MAX] {
            let decision = without_jitter(0).on_exit(&exit, ran_for);
            assert_eq!(decision, Decision::Failed, "{exit:?}");
        }
    }
}

#[test]
fn every_kind_of_failure_counts_and_then_it_is_a_crash_loop() {
    for exit in FAILURES {
        let mut policy = without_jitter(2);
        assert_eq!(policy.on_exit(&exit, SOON), restart(100, 1));
        assert_eq!(policy.on_exit(&exit, SOON), restart(200, 0));
        assert_eq!(policy.on_exit(&exit, SOON), Decision::CrashLoop);
        assert_eq!(policy.on_exit(&exit, SOON), Decision::CrashLoop);
    }
}

#[test]
fn waits_double_up_to_the_cap() {
    let mut policy = without_jitter(u32::MAX);
    let waits = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
    for (used, wait) in (1..).zip(waits) {
        let decision = policy.on_exit(&Exit::Code(1), SOON);
        assert_eq!(decision, restart(wait, u32::MAX - used));
    }
    for _ in 0..200 {
        let Decision::Restart { after, .. } = policy.on_exit(&Exit::Code(1), SOON) else {
            panic!("there are restarts left");
        };
        assert_eq!(after, policy.cap);
    }
}

#[test]
fn a_healthy_run_gives_everything_back() {
    let mut policy = without_jitter(2);
    let almost = policy.healthy - Duration::from_nanos(1);
    assert_eq!(policy.on_exit(&Exit::Code(1), almost), restart(100, 1));
    assert_eq!(policy.on_exit(&Exit::Code(1), almost), restart(200, 0));
    let healthy = policy.healthy;
    assert_eq!(policy.on_exit(&Exit::Code(1), healthy), restart(100, 1));
    assert_eq!(policy.on_exit(&Exit::Code(1), almost), restart(200, 0));
    assert_eq!(policy.on_exit(&Exit::Code(1), almost), Decision::CrashLoop);
}

#[test]
fn a_reload_gives_everything_back() {
    let mut policy = without_jitter(1);
    assert_eq!(policy.on_exit(&Exit::Code(1), SOON), restart(100, 0));
    policy.refill();
    assert_eq!(policy.on_exit(&Exit::Code(1), SOON), restart(100, 0));
    assert_eq!(policy.on_exit(&Exit::Code(1), SOON), Decision::CrashLoop);
}

#[test]
fn jitter_stays_within_its_bounds_and_depends_on_the_seed() {
    let first_wait = |seed| {
        let mut policy = RestartPolicy::new(u32::MAX, seed);
        match policy.on_exit(&Exit::Code(1), SOON) {
            Decision::Restart { after, .. } => after,
            other => panic!("expected a restart, found {other:?}"),
        }
    };
    let waits: Vec<Duration> = (0..1000).map(first_wait).collect();
    let (low, high) = (Duration::from_millis(80), Duration::from_millis(120));
    assert!(waits.iter().all(|wait| (low..=high).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < Duration::from_millis(85)));
    assert!(waits.iter().any(|wait| *wait > Duration::from_millis(115)));
    assert!(waits.iter().collect::<HashSet<_>>().len() > 900);
    assert_eq!(first_wait(7), first_wait(7));
}

#[test]
fn no_wait_exceeds_the_cap() {
    let mut policy = RestartPolicy::new(u32::MAX, 3);
    for _ in 0..100 {
        let Decision::Restart { after, .. } = policy.on_exit(&Exit::Code(1), SOON) else {
            panic!("there are restarts left");
        };
        assert!(after <= policy.cap);
    }
}

#[test]
fn exits_are_told_with_code_and_signal() {
    assert_eq!(Exit::Code(3).to_string(), "exited with code 3");
    assert_eq!(
        Exit::Signal(9).to_string(),
        "exited with code -9 (killed by SIGKILL)"
    );
    assert_eq!(
        Exit::Signal(40).to_string(),
        "exited with code -40 (killed by signal 40)"
    );
}
