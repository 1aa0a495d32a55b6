use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use crate::logging::SecretValue;
use crate::supervisor::protocol::{
    Command, Grant, LaunchSpec, OsText, decode, encode, take_message,
};

fn spec() -> LaunchSpec {
    LaunchSpec::new(
        "p".parse().expect("a name"),
        "program",
        "/folder",
        "/log",
        "/record",
    )
}

#[test]
fn texts_that_are_not_utf8_arrive_as_they_are() {
    let odd = OsString::from_vec(vec![b'a', 0xff, b'"', b'\n', 0x80]);
    let sent = spec()
        .args([odd.clone(), "é\u{1f980}".into()])
        .env("X", odd);
    let frame = encode(&sent).expect("it can be written");
    let received: LaunchSpec = decode(&frame[4..]).expect("it can be read");
    assert_eq!(received.args, sent.args);
    assert_eq!(received.env, sent.env);
    assert_eq!(received.invocation, sent.invocation);
}

#[test]
fn no_secret_is_shown() {
    let mut spec = spec().env("PASSWORD", "hunter2");
    spec.session = Some(Grant(b"hunter2".to_vec()));
    spec.secrets.push(SecretValue {
        name: "key".to_owned(),
        value: b"hunter2".to_vec(),
    });
    let shown = format!("{spec:?} {:?} {:?}", spec.session, spec.secrets);
    assert!(shown.contains("PASSWORD"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains("104, 117"), "{shown}");
}

#[test]
fn every_launch_has_a_name_of_its_own() {
    assert_ne!(spec().invocation, spec().invocation);
}

#[test]
fn messages_are_taken_one_by_one_and_only_when_whole() {
    let sent = [Command::Kill, Command::Stop { grace_ms: 5 }];
    let bytes: Vec<u8> = sent
        .iter()
        .flat_map(|command| encode(command).expect("it can be written"))
        .collect();
    let mut received = Vec::new();
    let mut taken = Vec::new();
    for byte in bytes {
        received.push(byte);
        while let Some(command) = take_message::<Command>(&mut received).expect("it is valid") {
            taken.push(command);
        }
    }
    assert_eq!(taken, sent);
    assert!(received.is_empty());
}

#[test]
fn what_is_no_message_is_an_error() {
    let mut too_long = vec![0xff; 8];
    assert!(take_message::<Command>(&mut too_long).is_err());
    let mut no_json = vec![2, 0, 0, 0, b'{', b'{'];
    assert!(take_message::<Command>(&mut no_json).is_err());
    let mut unknown = encode(&serde_json::json!({"command": "dance"})).expect("JSON");
    assert!(take_message::<Command>(&mut unknown).is_err());
}

#[test]
fn paths_are_texts() {
    assert_eq!(OsText::from("/a/b").as_path().parent(), Some("/a".as_ref()));
}
