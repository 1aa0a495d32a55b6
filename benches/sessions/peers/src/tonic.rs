//! tonic over a unix socket, one connection for all callers.

use std::path::Path;
use std::time::Instant;

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::Failed;
use crate::orders::{obey, obey_end};
use crate::tokio::tasks;

mod service {
    #![allow(unreachable_pub, reason = "written by tonic-build")]
    include!(concat!(env!("OUT_DIR"), "/peer.Bytes.rs"));
}

/// What is sent, and what comes back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

struct Echo;

#[tonic::async_trait]
impl service::bytes_server::Bytes for Echo {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// Serves until there are no more orders.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(place: &Path) -> Result<(), Failed> {
    Runtime::new()?.block_on(async {
        let incoming = UnixListenerStream::new(UnixListener::bind(place)?);
        obey_end()?;
        let server = service::bytes_server::BytesServer::new(Echo);
        let server = Server::builder().add_service(server);
        Ok(server.serve_with_incoming(incoming).await?)
    })
}

/// Calls as each order says.
///
/// # Errors
/// What keeps it from calling at all.
pub fn call(place: &Path) -> Result<(), Failed> {
    let runtime = Runtime::new()?;
    let endpoint = Endpoint::try_from(format!("unix://{}", place.display()))?;
    let channel = runtime.block_on(endpoint.connect())?;
    let client = service::bytes_client::BytesClient::new(channel);
    obey(|order| {
        let order = order.parse()?;
        let tally = runtime.block_on(tasks(&order, |mut laps| {
            let mut client = client.clone();
            async move {
                while laps.another() {
                    let begun = Instant::now();
                    let data = laps.body().to_vec();
                    let answer = client.echo(Message { data }).await?.into_inner();
                    laps.count(begun, &answer.data)?;
                }
                Ok(laps)
            }
        }));
        Ok(tally?.to_string())
    })
}
