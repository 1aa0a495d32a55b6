//! Requests and responses of iceoryx2, both sides polling; bytes are copied in and out, as a caller of anything else would.

use std::hint;
use std::path::Path;
use std::thread;
use std::time::Instant;

use iceoryx2::port::client::Client;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;

use crate::Failed;
use crate::laps;
use crate::orders::obey;
use crate::polling;

type Service = ipc_threadsafe::Service;
type Requests = PortFactory<Service, [u8], (), [u8], ()>;

/// The longest body.
const LONGEST: usize = 1 << 20;

/// How often a side looks again before it lets others run, if there may be more threads than cores.
const LOOKS: u32 = 200;

/// Serves until there are no more orders.
///
/// # Errors
/// What keeps it from serving.
pub fn serve(place: &Path) -> Result<(), Failed> {
    let (node, requests) = open(place)?;
    let server = requests
        .server_builder()
        .initial_max_slice_len(LONGEST)
        .create()?;
    let mut looks = 0;
    polling::obey(move || {
        // What the server belongs to lives as long as it.
        let _ = &node;
        if let Some(request) = server.receive()? {
            let body = request.payload();
            let response = request.loan_slice_uninit(body.len())?;
            response.write_from_slice(body).send()?;
            looks = 0;
        } else {
            look_again(&mut looks);
        }
        Ok(())
    })
}

/// Calls as each order says.
///
/// # Errors
/// What keeps it from calling at all.
pub fn call(place: &Path) -> Result<(), Failed> {
    let (_node, requests) = open(place)?;
    obey(|order| {
        let order = order.parse()?;
        let tally = laps::blocking(&order, |laps| {
            let client = requests
                .client_builder()
                .initial_max_slice_len(LONGEST)
                .create()?;
            let mut answer = Vec::new();
            while laps.another() {
                let begun = Instant::now();
                echo(&client, laps.body(), &mut answer)?;
                laps.count(begun, &answer)?;
            }
            Ok(())
        });
        Ok(tally?.to_string())
    })
}

fn echo(
    client: &Client<Service, [u8], (), [u8], ()>,
    body: &[u8],
    answer: &mut Vec<u8>,
) -> Result<(), Failed> {
    let request = client.loan_slice_uninit(body.len())?;
    let pending = request.write_from_slice(body).send()?;
    let mut looks = 0;
    loop {
        if let Some(response) = pending.receive()? {
            answer.clear();
            answer.extend_from_slice(response.payload());
            return Ok(());
        }
        look_again(&mut looks);
    }
}

fn look_again(looks: &mut u32) {
    *looks += 1;
    if *looks > LOOKS {
        thread::yield_now();
    } else {
        hint::spin_loop();
    }
}

/// Opens the service whose name is the place.
fn open(place: &Path) -> Result<(Node<Service>, Requests), Failed> {
    set_log_level(LogLevel::Error);
    let name = place.display().to_string();
    let node = NodeBuilder::new().create::<Service>()?;
    let requests = node
        .service_builder(&ServiceName::new(&name)?)
        .request_response::<[u8], [u8]>()
        .max_clients(16)
        .open_or_create()?;
    Ok((node, requests))
}
