use std::collections::HashSet;
use std::time::Duration;

use crate::config::{RestartOptions, RestartWhen};
use crate::supervisor::{Decision, Exit, RestartPolicy};

const SOON: Duration = Duration::from_secs(1);
const FAILURES: [Exit; 5] = [
    Exit::Code(1),
    Exit::Code(-1),
    Exit::Code(255),
    Exit::Signal(11),
    Exit::ShimLost,
];

/// Options without jitter, so that waits are known.
fn steady(restarts: u32) -> RestartOptions {
    RestartOptions {
        jitter: 0.0,
        ..RestartOptions::times(restarts)
    }
}

fn without_jitter(restarts: u32) -> RestartPolicy {
    RestartPolicy::new(&steady(restarts), 0)
}

fn restart(milliseconds: u64, left: u32) -> Decision {
    Decision::Restart {
        after: Duration::from_millis(milliseconds),
        left: Some(left),
    }
}

#[test]
fn success_is_never_restarted() {
    for restarts in [0, 1, u32::MAX] {
        let mut policy = without_jitter(restarts);
        let decision = policy.on_exit(&Exit::Code(0), SOON);
        assert_eq!(decision, Decision::Finished);
        assert_eq!(policy.left(), Some(restarts));
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
        assert_eq!(after, policy.options.cap);
    }
}

#[test]
fn a_healthy_run_gives_everything_back() {
    let mut policy = without_jitter(2);
    let almost = policy.options.healthy - Duration::from_nanos(1);
    assert_eq!(policy.on_exit(&Exit::Code(1), almost), restart(100, 1));
    assert_eq!(policy.on_exit(&Exit::Code(1), almost), restart(200, 0));
    let healthy = policy.options.healthy;
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
        let mut policy = RestartPolicy::new(&RestartOptions::times(u32::MAX), seed);
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
    let mut policy = RestartPolicy::new(&RestartOptions::times(u32::MAX), 3);
    for _ in 0..100 {
        let Decision::Restart { after, .. } = policy.on_exit(&Exit::Code(1), SOON) else {
            panic!("there are restarts left");
        };
        assert!(after <= policy.options.cap);
    }
}

#[test]
fn backoff_and_cap_are_as_asked_for() {
    let options = RestartOptions {
        backoff: Duration::from_millis(30),
        cap: Duration::from_millis(100),
        ..steady(9)
    };
    let mut policy = RestartPolicy::new(&options, 0);
    for (wait, left) in [(30, 8), (60, 7), (100, 6), (100, 5)] {
        assert_eq!(policy.on_exit(&Exit::Code(1), SOON), restart(wait, left));
    }
}

#[test]
fn without_a_count_there_is_always_one_more() {
    let options = RestartOptions {
        count: None,
        ..steady(0)
    };
    let mut policy = RestartPolicy::new(&options, 0);
    for _ in 0..10_000 {
        let decision = policy.on_exit(&Exit::Signal(9), SOON);
        assert!(matches!(decision, Decision::Restart { left: None, .. }));
    }
    assert_eq!((policy.left(), policy.used()), (None, 10_000));
    policy.set_used(u32::MAX);
    let Decision::Restart { after, left: None } = policy.on_exit(&Exit::Code(1), SOON) else {
        panic!("there is always one more");
    };
    assert_eq!(after, options.cap);
    let healthy = policy.on_exit(&Exit::Code(1), options.healthy);
    let first = Duration::from_millis(100);
    let expected = Decision::Restart {
        after: first,
        left: None,
    };
    assert_eq!(healthy, expected);
}

#[test]
fn success_is_what_was_named_so() {
    let options = RestartOptions {
        success: vec![0, 3, -15],
        ..steady(1)
    };
    for exit in [Exit::Code(0), Exit::Code(3), Exit::Signal(15)] {
        let mut policy = RestartPolicy::new(&options, 0);
        assert_eq!(policy.on_exit(&exit, SOON), Decision::Finished, "{exit:?}");
    }
    for exit in [
        Exit::Code(15),
        Exit::Signal(3),
        Exit::Code(1),
        Exit::ShimLost,
    ] {
        let mut policy = RestartPolicy::new(&options, 0);
        assert_eq!(policy.on_exit(&exit, SOON), restart(100, 0), "{exit:?}");
    }
    let options = RestartOptions {
        success: vec![3],
        ..steady(1)
    };
    let mut policy = RestartPolicy::new(&options, 0);
    assert_eq!(policy.on_exit(&Exit::Code(0), SOON), restart(100, 0));
}

#[test]
fn always_counts_success_too() {
    let options = RestartOptions {
        when: RestartWhen::Always,
        ..steady(2)
    };
    let mut policy = RestartPolicy::new(&options, 0);
    assert_eq!(policy.on_exit(&Exit::Code(0), SOON), restart(100, 1));
    assert_eq!(policy.on_exit(&Exit::Code(1), SOON), restart(200, 0));
    assert_eq!(policy.on_exit(&Exit::Code(0), SOON), Decision::CrashLoop);
    let healthy = policy.on_exit(&Exit::Code(0), options.healthy);
    assert_eq!(healthy, restart(100, 1));

    let none = RestartOptions {
        count: Some(0),
        ..options
    };
    let mut policy = RestartPolicy::new(&none, 0);
    assert_eq!(policy.on_exit(&Exit::Code(0), SOON), Decision::Finished);
    assert_eq!(policy.on_exit(&Exit::Code(1), SOON), Decision::Failed);
}

#[test]
fn never_is_never() {
    let options = RestartOptions {
        when: RestartWhen::Never,
        ..steady(5)
    };
    let mut policy = RestartPolicy::new(&options, 0);
    assert_eq!(policy.on_exit(&Exit::Code(0), SOON), Decision::Finished);
    for exit in FAILURES {
        assert_eq!(policy.on_exit(&exit, SOON), Decision::Failed);
    }
    assert_eq!(policy.on_failure(SOON), Decision::Failed);
    assert_eq!(policy.left(), Some(5));
}

#[test]
fn a_policy_goes_on_where_another_was() {
    let mut first = without_jitter(3);
    assert_eq!(first.on_exit(&Exit::Code(1), SOON), restart(100, 2));
    let mut second = without_jitter(3);
    second.set_used(first.used());
    assert_eq!(second.on_exit(&Exit::Code(1), SOON), restart(200, 1));
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

#[test]
fn another_core_goes_on_counting() {
    let mut first = without_jitter(5);
    first.on_exit(&Exit::Code(1), SOON);
    first.on_exit(&Exit::Code(1), SOON);
    let mut second = without_jitter(5);
    second.set_used(first.used());
    assert_eq!(second.left(), Some(3));
    let decision = second.on_exit(&Exit::Code(1), SOON);
    assert_eq!(decision, first.on_exit(&Exit::Code(1), SOON));
    assert_eq!(decision, restart(400, 2));
    // More than there are is as good as all.
    second.set_used(9);
    assert_eq!(second.on_exit(&Exit::Code(1), SOON), Decision::CrashLoop);
}
