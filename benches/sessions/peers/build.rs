//! Writes the service of tonic, which needs no protoc so.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let message = "crate::tonic::Message";
    let echo = Method::builder()
        .name("echo")
        .route_name("Echo")
        .input_type(message)
        .output_type(message)
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = Service::builder()
        .name("Bytes")
        .package("peer")
        .method(echo)
        .build();
    Builder::new().compile(&[service]);
}
