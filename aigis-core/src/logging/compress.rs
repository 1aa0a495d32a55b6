//! Compresses backups of logs, in the background of a core.
//!
//! A writer must not wait for that, and a shim has neither a second thread nor memory for it. So the
//! core does it for all of them, on one thread of the least priority, which sleeps until a file in the
//! folder of a log gets another name. While no core runs, backups stay as they are.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify;

use super::rotation::{COMPRESSED, split_name, with_suffix};

/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Compresses backups for as long as it lives.
#[derive(Debug)]
pub(crate) struct Compressor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The logs whose backups are compressed, by their folders.
    logs: Mutex<HashMap<PathBuf, Vec<String>>>,
    stop: AtomicBool,
    /// Tells the thread that one of the above has changed.
    changed: OwnedFd,
    renamed: OwnedFd,
}

impl Compressor {
    /// Starts the thread; there is nothing for it to do yet.
    pub(crate) fn start() -> io::Result<Compressor> {
        let shared = Arc::new(Shared {
            logs: Mutex::default(),
            stop: AtomicBool::new(false),
            changed: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            renamed: inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?,
        });
        let thread = thread::Builder::new().name("aigis-log-backups".to_owned());
        let thread = thread.spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        })?;
        Ok(Compressor {
            shared,
            thread: Some(thread),
        })
    }

    /// Compresses the backups of this log from now on, also those that are there already; or does not.
    pub(crate) fn set(&self, log: &Path, compress: bool) {
        let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|n| n.to_str()))
        else {
            return;
        };
        let mut logs = self
            .shared
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let names = logs.entry(folder.to_owned()).or_default();
        let known = names.iter().position(|known| known == name);
        match (known, compress) {
            (Some(at), false) => {
                names.remove(at);
                return;
            }
            (None, true) => names.push(name.to_owned()),
            _ => return,
        }
        // Where it fails, backups are only compressed later: with the next log, or by the next core.
        let _ = inotify::add_watch(
            &self.shared.renamed,
            folder,
            inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::ONLYDIR,
        );
        drop(logs);
        self.shared.wake();
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It looks at `stop` after each piece.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // It can only be full, and is readable then.
        let _ = rustix::io::write(&self.changed, &1_u64.to_ne_bytes());
    }

    fn run(&self) {
        // The system knows threads by the same numbers: this is about this thread alone.
        let _ = rustix::process::setpriority_process(None, 19);
        let mut buffer = [0; 4096];
        loop {
            let mut waiting = [
                PollFd::new(&self.changed, PollFlags::IN),
                PollFd::new(&self.renamed, PollFlags::IN),
            ];
            // An error is an interruption: look, and wait again.
            let _ = poll(&mut waiting, None);
            for descriptor in [&self.changed, &self.renamed] {
                while rustix::io::read(descriptor, &mut buffer).is_ok_and(|count| count > 0) {}
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            for backup in self.found() {
                // What cannot be compressed stays as it is, and is tried again with the next.
                let _ = compress(&backup, &self.stop);
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }

    /// Returns all backups that are to be compressed, the oldest of each log first.
    fn found(&self) -> Vec<PathBuf> {
        let logs = self
            .logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut found = Vec::new();
        for (folder, names) in logs {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let file_name = entry.file_name();
                let Some((name, (date, number, false))) = file_name.to_str().and_then(split_name)
                else {
                    continue;
                };
                if names.iter().any(|known| known == name) {
                    found.push(((date, number.wrapping_sub(1)), entry.path()));
                }
            }
        }
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }
}

/// Puts a compressed file in the place of a backup.
fn compress(backup: &Path, stop: &AtomicBool) -> io::Result<()> {
    let mut from = File::open(backup)?;
    let unfinished = with_suffix(backup, "gz.new");
    let to = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(from.metadata()?.permissions().mode())
        .open(&unfinished)?;
    if to.try_lock().is_err() {
        // Another core, which takes over or hands over, is at it.
        return Ok(());
    }
    to.set_len(0)?;
    let done = write_compressed(&mut from, &to, 0, stop).and_then(|done| {
        to.set_modified(from.metadata()?.modified()?)?;
        Ok(done)
    });
    let done = match done {
        Ok(done) if !stop.load(Ordering::Relaxed) => done,
        stopped => {
            let _ = fs::remove_file(&unfinished);
            return stopped.map(drop);
        }
    };
    let mut name = backup.as_os_str().to_owned();
    name.push(COMPRESSED);
    fs::rename(&unfinished, PathBuf::from(name))?;
    fs::remove_file(backup)?;
    // A writer that was just about to write when the file was set aside may have come late.
    write_compressed(&mut from, &to, done, &AtomicBool::new(false)).map(drop)
}

/// Appends what `from` has behind `done`, as a member of its own; returns where it ended.
fn write_compressed(from: &mut File, to: &File, done: u64, stop: &AtomicBool) -> io::Result<u64> {
    let mut position = from.seek(SeekFrom::Start(done))?;
    if done > 0 && from.metadata()?.len() <= done {
        return Ok(done);
    }
    let mut encoder = GzEncoder::new(to, Compression::default());
    let mut buffer = vec![0; READ_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        encoder.write_all(&buffer[..count])?;
        position += count as u64;
    }
    encoder.finish()?.flush()?;
    Ok(position)
}
