//! tarpc with bincode over a unix socket, one connection for all callers.

use std::path::Path;
use std::time::Instant;

use serde_bytes::ByteBuf;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;

use crate::Failed;
use crate::orders::{obey, obey_end};
use crate::tokio::tasks;

#[tarpc::service]
trait Echo {
    async fn echo(data: ByteBuf) -> ByteBuf;
}

#[derive(Clone)]
struct Server;

impl Echo for Server {
    async fn echo(self, _: context::Context, data: ByteBuf) -> ByteBuf {
        data
    }
}

/// Serves until there are no more orders.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(place: &Path) -> Result<(), Failed> {
    Runtime::new()?.block_on(async {
        let mut listener = unix::listen(place, Bincode::default).await?;
        obey_end()?;
        while let Some(transport) = listener.next().await {
            let channel = BaseChannel::with_defaults(transport?);
            tokio::spawn(async move {
                let mut calls = Box::pin(channel.execute(Server.serve()));
                while let Some(call) = calls.next().await {
                    tokio::spawn(call);
                }
            });
        }
        Ok(())
    })
}

/// Calls as each order says.
///
/// # Errors
/// What keeps it from calling at all.
pub fn call(place: &Path) -> Result<(), Failed> {
    let runtime = Runtime::new()?;
    let echo = runtime.block_on(async {
        let transport = unix::connect(place, Bincode::default).await?;
        Ok::<_, Failed>(EchoClient::new(client::Config::default(), transport).spawn())
    })?;
    obey(|order| {
        let order = order.parse()?;
        let tally = runtime.block_on(tasks(&order, |mut laps| {
            let echo = echo.clone();
            async move {
                while laps.another() {
                    let begun = Instant::now();
                    let data = ByteBuf::from(laps.body());
                    let answer = echo.echo(context::current(), data).await?;
                    laps.count(begun, &answer)?;
                }
                Ok(laps)
            }
        }));
        Ok(tally?.to_string())
    })
}
