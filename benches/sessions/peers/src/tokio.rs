//! tokio over a unix socket: as the raw socket, with a task for each thread.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

use crate::Failed;
use crate::laps::{self, Laps, Order, Tally};
use crate::orders::{obey, obey_end};

/// Serves until there are no more orders.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(place: &Path) -> Result<(), Failed> {
    Runtime::new()?.block_on(async {
        let listener = UnixListener::bind(place)?;
        obey_end()?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let (mut body, mut frame) = (Vec::new(), Vec::new());
                // It ends when the caller does.
                while receive(&mut stream, &mut body).await.is_ok() {
                    if send(&mut stream, &mut frame, &body).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}

/// Calls as each order says.
///
/// # Errors
/// What keeps it from calling at all.
pub fn call(place: &Path) -> Result<(), Failed> {
    let runtime = Runtime::new()?;
    obey(|order| {
        let order = order.parse()?;
        let place = place.to_owned();
        let tally = runtime.block_on(tasks(&order, move |mut laps| {
            let place = place.clone();
            async move {
                let mut stream = UnixStream::connect(place).await?;
                let (mut answer, mut frame) = (Vec::new(), Vec::new());
                while laps.another() {
                    let begun = Instant::now();
                    send(&mut stream, &mut frame, laps.body()).await?;
                    receive(&mut stream, &mut answer).await?;
                    laps.count(begun, &answer)?;
                }
                Ok(laps)
            }
        }));
        Ok(tally?.to_string())
    })
}

/// Runs a slice with a task for each caller; `run` makes the calls of one.
pub(crate) async fn tasks<F>(order: &Order, run: impl Fn(Laps) -> F) -> Result<Tally, Failed>
where
    F: Future<Output = Result<Laps, Failed>> + Send + 'static,
{
    if !order.rest.is_zero() {
        return Err("tasks do not rest between calls".into());
    }
    let callers = 0..order.callers;
    let tasks: Vec<_> = callers
        .map(|caller| tokio::spawn(run(Laps::new(order, caller))))
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await??);
    }
    laps::tally(order, &all)
}

/// Sends length and body in one go; `frame` is memory to do so.
async fn send(stream: &mut UnixStream, frame: &mut Vec<u8>, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    frame.clear();
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    stream.write_all(frame).await
}

async fn receive(stream: &mut UnixStream, body: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    body.resize(u32::from_le_bytes(length) as usize, 0);
    stream.read_exact(body).await?;
    Ok(())
}
