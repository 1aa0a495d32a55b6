//! Two processes: the other one is this program again, with one test chosen.

use std::env;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{self, Child, Command, Stdio};

use super::*;

/// What the other process shall do: the path of the memory, and how many messages (0: without end).
const TASK: &str = "AIGIS_RING_TEST_TASK";

/// The other process; killed when the test is over, however that ends.
struct Peer(Child);

impl Peer {
    fn start(memory: &OwnedFd, count: u64) -> Self {
        let (_, here) = module_path!().split_once("::").unwrap();
        let descriptor = memory.as_raw_fd();
        let task = format!("{count} /proc/{}/fd/{descriptor}", process::id());
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("{here}::peer"), "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .env(TASK, task)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "the other process of the tests beside it, which start it"]
fn peer() {
    let task = env::var(TASK).expect("started by the tests beside it");
    let (count, path) = task.split_once(' ').unwrap();
    let memory = File::options().read(true).write(true).open(path).unwrap();
    let ring = Ring::adopt(memory.into()).unwrap();
    let count = match count.parse().unwrap() {
        0 => u64::MAX,
        count => count,
    };
    exchange(&ring, count);
}

#[test]
fn both_ways_at_once_between_two_processes() {
    let (ring, memory) = Ring::create(SMALLEST).unwrap();
    let mut peer = Peer::start(&memory, 30_000);
    exchange(&ring, 30_000);
    assert!(peer.0.wait().unwrap().success());
}

/// It is killed between any two of its instructions, while it writes and reads as fast as it can: what
/// it has put before comes out whole, then there is nothing more.
#[test]
fn a_process_that_is_killed_leaves_whole_messages() {
    let mut random = Random(7);
    let mut found = Vec::new();
    for round in 0..200 {
        let (ring, memory) = Ring::create(SMALLEST).unwrap();
        let mut peer = Peer::start(&memory, 0);
        let (mut sent, mut taken) = (0, 0);
        let mut positions = Vec::new();
        let enough = random.below(300) as u64;
        // Then it goes on for a little while, of which nobody knows what it does in it.
        let mut more = random.below(20_000);
        wait_until(|| {
            if let Some(position) = push(&ring, &message(sent, ring.longest())) {
                sent += 1;
                positions.push(position);
            }
            if ring.pop(&mut found).unwrap() {
                assert_eq!(found, message(taken, ring.longest()), "round {round}");
                taken += 1;
            }
            taken >= enough
        });
        while more > 0 {
            more -= 1;
            std::hint::spin_loop();
        }
        peer.0.kill().unwrap();
        peer.0.wait().unwrap();
        let mut rest = 0;
        while ring.pop(&mut found).unwrap() {
            assert_eq!(found, message(taken, ring.longest()), "round {round}");
            taken += 1;
            rest += 1;
            assert!(rest <= SMALLEST / 8, "more than there is room for");
        }
        assert!(!ring.has_message());
        // Those that it took came first.
        assert!(positions.is_sorted_by_key(|at| !ring.is_taken(*at)));
        let mut room = 0;
        while push(&ring, &message(sent, ring.longest())).is_some() {
            sent += 1;
            room += 1;
            assert!(room <= SMALLEST / 8, "more than there is room for");
        }
    }
}
