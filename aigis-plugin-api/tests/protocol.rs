//! The frozen bytes of the protocol: `docs/protocol-vectors.json`, against this crate's own code.
//!
//! Whatever fails here would be another protocol to every client that exists. The file only grows.

use std::path::Path;
use std::time::Duration;

use aigis_plugin_api::codec::{self, Value};
use aigis_plugin_api::session::frame::{
    self, Call, Credit, HEADER, Header, Hello, Import, Kind, Library, MAX_BODY, Offer, Open,
    PROTOCOL, Served, Target, Welcome,
};
use aigis_plugin_api::{Failure, FailureKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file, where this crate stands in its repository.
fn vectors() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol-vectors.json");
    let text = std::fs::read_to_string(&path).expect("the vectors are there");
    Value::from_json(&text).expect("the vectors are JSON")
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    let found = of.get(key).and_then(Value::as_list);
    found.unwrap_or_else(|| panic!("`{key}` is a list in {of}"))
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    let found = of.get(key).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("`{key}` is a text in {of}"))
}

fn number(of: &Value, key: &str) -> u64 {
    let found = of.get(key).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("`{key}` is a number in {of}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("is hex"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The other bytes that mean the same; they are read, and never written by us.
fn also(vector: &Value) -> Vec<&str> {
    let others = vector.get("also").and_then(Value::as_list);
    let others = others.unwrap_or_default().iter();
    others.map(|hex| hex.as_str().expect("is hex")).collect()
}

fn kind(name: &str) -> Kind {
    let kinds = (1..=17).filter_map(|number| Kind::try_from(number).ok());
    kinds
        .into_iter()
        .find(|kind| format!("{kind:?}").eq_ignore_ascii_case(name))
        .unwrap_or_else(|| panic!("`{name}` is no kind"))
}

/// The frame of a body that has the type `T`, from its meaning.
fn typed<T: Serialize + DeserializeOwned>(
    kind: Kind,
    number: u64,
    timeout_ms: u32,
    body: &Value,
) -> Vec<u8> {
    let typed: T = codec::from_value(body.clone()).unwrap_or_else(|e| panic!("{body}: {e}"));
    frame::encode_frame(kind, number, timeout_ms, &typed).expect("encodes")
}

/// The frame of a call, from its meaning: target and arguments.
fn call(number: u64, timeout_ms: u32, body: &Value) -> Vec<u8> {
    let target = body.at(0).expect("has a target");
    let target = match target.as_str() {
        Some(name) => Target::Name(name),
        None => Target::Import(target.as_u64().expect("a number").try_into().expect("u32")),
    };
    let arguments = codec::to_vec(body.at(1).expect("has arguments")).expect("encodes");
    let call = Call {
        target,
        arguments: &arguments,
    };
    call.frame(number, timeout_ms).expect("encodes")
}

/// The frame of a call that is opened, from its meaning: how many streams, target and arguments.
fn open(number: u64, timeout_ms: u32, body: &Value) -> Vec<u8> {
    let name = body.at(1).and_then(Value::as_str).expect("a name");
    let arguments = codec::to_vec(body.at(2).expect("has arguments")).expect("encodes");
    let streams = body.at(0).and_then(Value::as_u64).expect("a number");
    let open = Open {
        call: Call {
            target: Target::Name(name),
            arguments: &arguments,
        },
        streams: streams.try_into().expect("fits"),
    };
    let time = Duration::from_millis(timeout_ms.into());
    open.head(number, Some(time), 0).expect("encodes")
}

/// The frame that our encoder makes of a vector's meaning.
fn encode(vector: &Value) -> Vec<u8> {
    let (kind, number) = (kind(text(vector, "kind")), number(vector, "number"));
    let timeout_ms = vector.get("timeout_ms").and_then(Value::as_u64);
    let timeout_ms = u32::try_from(timeout_ms.unwrap_or(0)).expect("fits");
    let Some(body) = vector.get("body") else {
        return frame::frame(kind, number, timeout_ms, &[]).expect("encodes");
    };
    match kind {
        Kind::Hello => typed::<Hello>(kind, number, timeout_ms, body),
        Kind::Welcome => typed::<Welcome>(kind, number, timeout_ms, body),
        Kind::Import => typed::<Import>(kind, number, timeout_ms, body),
        Kind::Served => typed::<Served>(kind, number, timeout_ms, body),
        Kind::Call => call(number, timeout_ms, body),
        Kind::Reply => typed::<Value>(kind, number, timeout_ms, body),
        Kind::Error => typed::<Failure>(kind, number, timeout_ms, body),
        Kind::Offer => typed::<Offer>(kind, number, timeout_ms, body),
        Kind::Open => open(number, timeout_ms, body),
        Kind::Item => typed::<Value>(kind, number, timeout_ms, body),
        Kind::More => typed::<Credit>(kind, number, timeout_ms, body),
        Kind::End => typed::<Failure>(kind, number, timeout_ms, body),
        Kind::Library => typed::<Library>(kind, number, timeout_ms, body),
        Kind::Cancel | Kind::Goodbye | Kind::Ring | Kind::Look | Kind::Page => {
            panic!("a frame of kind {kind:?} has no MessagePack in it")
        }
    }
}

/// Reads a body as its kind demands, and encodes what was found.
fn reencode(header: Header, body: &[u8]) -> Result<Vec<u8>, Failure> {
    fn via<T: Serialize + DeserializeOwned>(h: Header, body: &[u8]) -> Result<Vec<u8>, Failure> {
        frame::encode_frame(
            h.kind,
            h.call,
            h.timeout_ms,
            &frame::decode_body::<T>(body)?,
        )
    }
    match header.kind {
        Kind::Hello => via::<Hello>(header, body),
        Kind::Welcome => via::<Welcome>(header, body),
        Kind::Import => via::<Import>(header, body),
        Kind::Served => via::<Served>(header, body),
        Kind::Call => Call::read(body)?.frame(header.call, header.timeout_ms),
        Kind::Reply => via::<Value>(header, body),
        Kind::Error => via::<Failure>(header, body),
        Kind::Offer => via::<Offer>(header, body),
        Kind::Open => {
            let open = Open::read(body)?;
            let time = Duration::from_millis(header.timeout_ms.into());
            open.head(header.call, Some(time), 0)
        }
        Kind::Item | Kind::End if body.is_empty() => {
            frame::frame(header.kind, header.call, header.timeout_ms, body)
        }
        Kind::Item => via::<Value>(header, body),
        Kind::More => via::<Credit>(header, body),
        Kind::End => via::<Failure>(header, body),
        Kind::Library => via::<Library>(header, body),
        Kind::Cancel | Kind::Goodbye | Kind::Ring | Kind::Look | Kind::Page => {
            frame::frame(header.kind, header.call, header.timeout_ms, body)
        }
    }
}

fn read(hex: &str) -> std::io::Result<Option<(Header, Vec<u8>)>> {
    frame::read_frame(&mut bytes(hex).as_slice())
}

#[test]
fn frames_are_written_and_read_as_they_always_were() {
    let vectors = vectors();
    let protocol = list(&vectors, "protocol");
    let protocol: Vec<u64> = protocol.iter().filter_map(Value::as_u64).collect();
    assert_eq!(protocol, [PROTOCOL.0, PROTOCOL.1].map(u64::from));
    let frames = list(&vectors, "frames");
    for vector in frames {
        let (name, written) = (text(vector, "name"), text(vector, "hex"));
        if let Some(len) = vector.get("attached") {
            // The body is elsewhere: there is nothing but the header.
            let header = bytes(written);
            let header: [u8; HEADER] = header.try_into().expect("a header alone");
            let parsed = Header::parse(&header).unwrap_or_else(|e| panic!("{name}: {e}"));
            let expected = Header {
                len: usize::try_from(len.as_u64().expect("a length")).expect("fits"),
                kind: kind(text(vector, "kind")),
                attached: true,
                call: number(vector, "number"),
                timeout_ms: 0,
            };
            assert_eq!(parsed, expected, "{name}");
            assert_eq!(parsed.bytes(), header, "{name}");
            continue;
        }
        assert_eq!(hex(&encode(vector)), written, "{name}");
        for hex_of in [vec![written], also(vector)].concat() {
            let (header, body) = read(hex_of)
                .unwrap_or_else(|e| panic!("{name}: {e}"))
                .expect("there is a frame");
            let again = reencode(header, &body).unwrap_or_else(|e| panic!("{name}: {e}"));
            if header.kind == Kind::Call {
                // The arguments stay as they came.
                let call = Call::read(&body).expect("was read above");
                let expected = bytes(written);
                let expected = Call::read(&expected[HEADER..]).expect("was read above");
                let value = |bytes| codec::from_slice::<Value>(bytes).expect("decodes");
                assert_eq!(call.target, expected.target, "{name}");
                assert_eq!(
                    value(call.arguments),
                    value(expected.arguments),
                    "{name}: {hex_of}"
                );
            } else {
                assert_eq!(hex(&again), written, "{name}: {hex_of}");
            }
        }
    }
    // Kinds 11, 18 and 19 come with memory, of which a file of bytes cannot tell.
    let kinds = (1..=17).filter_map(|number| Kind::try_from(number).ok());
    for wanted in kinds.filter(|wanted| *wanted != Kind::Ring) {
        let shown = |vector| kind(text(vector, "kind")) == wanted;
        assert!(frames.iter().any(shown), "no vector of kind {wanted:?}");
    }
}

#[test]
fn malformed_frames_are_refused_for_the_reason_they_always_were() {
    let vectors = vectors();
    for vector in list(&vectors, "malformed_frames") {
        let (name, reason) = (text(vector, "name"), text(vector, "reason"));
        let read = read(text(vector, "hex"));
        let found = match &read {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => "truncated",
            Err(error) if error.to_string().contains("of kind") => "kind",
            Err(error) if error.to_string().contains(&MAX_BODY.to_string()) => "length",
            Err(error) => panic!("{name}: {error}"),
            Ok(None) => panic!("{name}: there is a frame"),
            Ok(Some((header, body))) => match reencode(*header, body) {
                Err(failure) => {
                    assert_eq!(failure.kind, FailureKind::Refused, "{name}: {failure}");
                    assert!(failure.message.starts_with("malformed frame"), "{failure}");
                    "body"
                }
                Ok(_) => panic!("{name}: nothing is wrong with it"),
            },
        };
        assert_eq!(found, reason, "{name}");
    }
}

#[test]
fn a_session_that_breaks_a_rule_is_made_of_well_formed_frames() {
    // What the core makes of them is tested with a core; here, that nothing else is wrong with them.
    let vectors = vectors();
    for vector in list(&vectors, "broken_rules") {
        let mut sent = bytes(text(vector, "hex"));
        while !sent.is_empty() {
            let mut rest = sent.as_slice();
            let frame = frame::read_frame(&mut rest);
            let (header, body) = frame.expect("is well formed").expect("is there");
            reencode(header, &body).unwrap_or_else(|e| panic!("{vector}: {e}"));
            sent = rest.to_vec();
        }
    }
}

#[test]
fn values_are_written_and_read_as_they_always_were() {
    let vectors = vectors();
    for vector in list(&vectors, "values") {
        let written = text(vector, "hex");
        let value = vector.get("value").expect("has a value");
        let encoded = codec::to_vec(value).unwrap_or_else(|e| panic!("{value}: {e}"));
        assert_eq!(hex(&encoded), written, "{value}");
        for hex_of in [vec![written], also(vector)].concat() {
            let decoded: Value =
                codec::from_slice(&bytes(hex_of)).unwrap_or_else(|e| panic!("{hex_of}: {e}"));
            // As text: a NaN is not equal to itself, and the text has all its bits.
            assert_eq!(decoded.to_json(), value.to_json(), "{hex_of}");
        }
    }
}

#[test]
fn many_numbers_of_one_type_are_written_as_an_array() {
    fn of<T: Serialize + DeserializeOwned>(items: &Value) -> Vec<u8> {
        let items: Vec<T> = codec::from_value(items.clone()).expect("are numbers of this type");
        codec::to_vec(&items).expect("encodes")
    }
    let vectors = vectors();
    for vector in list(&vectors, "written_number_arrays") {
        let items = vector.get("items").expect("has items");
        let encoded = match text(vector, "of") {
            "u16" => of::<u16>(items),
            "f64" => of::<f64>(items),
            other => panic!("no vector is of {other}"),
        };
        assert_eq!(hex(&encoded), text(vector, "hex"));
        let list: Value = codec::from_slice(&encoded).expect("is a list without a type");
        assert_eq!(list.to_json(), items.to_json());
    }
}

#[test]
fn arrays_of_numbers_are_read_as_sequences() {
    fn of<T: DeserializeOwned + Into<Value>>(bytes: &[u8]) -> Value {
        let items: Vec<T> = codec::from_slice(bytes).expect("is a sequence");
        items.into_iter().map(Into::into).collect()
    }
    let vectors = vectors();
    for vector in list(&vectors, "number_arrays") {
        let bytes = bytes(text(vector, "hex"));
        let read = match text(vector, "of") {
            "i16" => of::<i16>(&bytes),
            "u16" => of::<u16>(&bytes),
            "i32" => of::<i32>(&bytes),
            "u32" => of::<u32>(&bytes),
            "i64" => of::<i64>(&bytes),
            "u64" => of::<u64>(&bytes),
            "f32" => of::<f32>(&bytes),
            "f64" => of::<f64>(&bytes),
            other => panic!("`{other}` is no kind of number"),
        };
        assert_eq!(Some(&read), vector.get("items"), "{vector}");
    }
}

#[test]
fn malformed_values_are_refused_for_the_reason_they_always_were() {
    let vectors = vectors();
    for vector in list(&vectors, "malformed_values") {
        let (name, reason) = (text(vector, "name"), text(vector, "reason"));
        let error = codec::from_slice::<Value>(&bytes(text(vector, "hex")))
            .expect_err(&format!("{name}: nothing is wrong with it"));
        let found = match error.kind() {
            codec::ErrorKind::Truncated { .. } => "truncated",
            codec::ErrorKind::Trailing { .. } => "trailing",
            codec::ErrorKind::Depth => "depth",
            codec::ErrorKind::Utf8 { .. } => "utf8",
            codec::ErrorKind::Malformed { .. } => "malformed",
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(found, reason, "{name}");
    }
}
