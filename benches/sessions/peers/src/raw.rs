//! Blocking threads over a unix socket: four bytes of length, then the bytes; one connection and two threads per caller.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use crate::Failed;
use crate::laps;
use crate::orders::{obey, obey_end};

/// Serves until there are no more orders.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(place: &Path) -> Result<(), Failed> {
    let listener = UnixListener::bind(place)?;
    obey_end()?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let (mut body, mut frame) = (Vec::new(), Vec::new());
            // It ends when the caller does.
            while receive(&mut stream, &mut body).is_ok() {
                if send(&mut stream, &mut frame, &body).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

/// Calls as each order says.
///
/// # Errors
/// What keeps it from calling at all.
pub fn call(place: &Path) -> Result<(), Failed> {
    obey(|order| {
        let order = order.parse()?;
        let tally = laps::blocking(&order, |laps| {
            let mut stream = UnixStream::connect(place)?;
            let (mut answer, mut frame) = (Vec::new(), Vec::new());
            while laps.another() {
                let begun = Instant::now();
                send(&mut stream, &mut frame, laps.body())?;
                receive(&mut stream, &mut answer)?;
                laps.count(begun, &answer)?;
            }
            Ok(())
        });
        Ok(tally?.to_string())
    })
}

/// Sends length and body in one go; `frame` is memory to do so.
fn send(stream: &mut UnixStream, frame: &mut Vec<u8>, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    frame.clear();
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    stream.write_all(frame)
}

fn receive(stream: &mut UnixStream, body: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    body.resize(u32::from_le_bytes(length) as usize, 0);
    stream.read_exact(body)
}
