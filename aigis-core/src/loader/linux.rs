//! What only Linux tells of threads.

use std::fs;

/// Counts the threads that bear the calling thread's name, itself left out: a thread that is given
/// no name takes that of the thread that starts it.
pub(super) fn threads_started_here() -> usize {
    let (Ok(own), Ok(threads)) = (
        fs::read("/proc/thread-self/comm"),
        fs::read_dir("/proc/self/task"),
    ) else {
        return 0;
    };
    let named_so = threads.flatten().filter(|thread| {
        // One that has just ended has no name any more.
        fs::read(thread.path().join("comm")).is_ok_and(|name| name == own)
    });
    named_so.count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn threads_without_a_name_are_counted_with_who_started_them() {
        let counted = thread::Builder::new()
            .name("starts-threads".to_owned())
            .spawn(|| {
                let (release, held) = mpsc::channel::<()>();
                let nameless = thread::spawn(move || held.recv());
                let named = thread::Builder::new()
                    .name("another".to_owned())
                    .spawn(|| ())
                    .expect("starts");
                let counted = threads_started_here();
                drop(release);
                assert!(nameless.join().expect("no panic").is_err());
                named.join().expect("no panic");
                counted
            })
            .expect("starts");
        // The named one may not have taken its name yet.
        assert!((1..=2).contains(&counted.join().expect("no panic")));
    }
}
