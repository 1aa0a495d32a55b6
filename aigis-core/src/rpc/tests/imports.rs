//! What a client imports, and what it is told of it.

use super::*;

fn served(generation: u64) -> Served {
    Served {
        plugin: Some("t".to_owned()),
        generation,
        ..Served::default()
    }
}

#[test]
fn what_serves_an_import_is_told_once_and_again_when_it_changes() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&import(0, "t.expects", signature("a")));
    assert_eq!(raw.read_served(0), served(1));
    // Numbers are the client's affair.
    raw.send(&import(9, "x.unknown", signature("a")));
    assert_eq!(raw.read_served(9), Served::default());
    raw.send(&import(7, "t.again", signature("a")));
    let again = Served {
        idempotent: true,
        ..served(1)
    };
    assert_eq!(raw.read_served(7), again);
    // Nothing has changed.
    core.server().tell_swaps();
    raw.send(&call_of(1, 0, Target::Import(0), ()));
    let (header, _) = raw.read_any().expect("an answer");
    assert_eq!((header.kind, header.call), (Kind::Reply, 1));
    core.service.swaps.fetch_add(1, Ordering::Relaxed);
    core.server().tell_swaps();
    core.server().tell_swaps();
    let mut told: Vec<_> = (0..2)
        .map(|_| {
            let (header, body) = raw.read_any().expect("it is told");
            assert_eq!(header.kind, Kind::Served);
            let served: Served = frame::decode_body(&body).expect("what serves it");
            (header.call, served.generation)
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [(0, 2), (7, 2)], "and not of what nobody offers");
    raw.send(&call_of(2, 0, Target::Import(7), ("a",)));
    let (header, _) = raw.read_any().expect("an answer");
    assert_eq!((header.kind, header.call), (Kind::Reply, 2));
}

#[test]
fn what_serves_an_import_is_told_before_its_calls_are_answered() {
    let core = Core::start();
    let mut raw = core.raw();
    for number in 0..200 {
        let mut batch = import(number, "t.expects", signature("a"));
        let target = Target::Import(u32::try_from(number).expect("is small"));
        batch.extend(call_of(number + 1, 0, target, ()));
        raw.send(&batch);
        assert_eq!(raw.read_served(number), served(1));
        let (header, _) = raw.read_any().expect("an answer");
        assert_eq!((header.kind, header.call), (Kind::Reply, number + 1));
    }
}

#[test]
fn a_hello_may_import() {
    let core = Core::start();
    let mut raw = core.stranger();
    let imports = ["t.expects", "t.again", "t.expects"].map(|name| Import {
        name: name.to_owned(),
        signature: signature(name),
        portable: false,
    });
    raw.say_hello(&Hello {
        imports: imports.to_vec(),
        ..hello()
    });
    let (header, _) = raw.read_any().expect("a welcome");
    assert_eq!(header.kind, Kind::Welcome);
    for number in 0..3 {
        assert_eq!(raw.read_served(number).idempotent, number == 1);
    }
    raw.send(&call_of(1, 0, Target::Import(2), ()));
    assert_eq!(raw.read_text(), (1, signature("t.expects").to_string()));
}

/// A number means what it meant first.
#[test]
fn an_import_of_a_known_number_is_passed_over() {
    let core = Core::start();
    let mut raw = core.raw();
    raw.send(&import(3, "t.expects", signature("first")));
    raw.send(&import(3, "t.left", signature("second")));
    raw.send(&call_of(1, 0, Target::Import(3), ()));
    assert_eq!(raw.read_text(), (1, signature("first").to_string()));
    assert_eq!(raw.served.len(), 1);
}

#[test]
fn sessions_import_apart_from_one_another() {
    let core = Core::start();
    let (mut one, mut two) = (core.raw(), core.raw());
    one.send(&import(0, "t.expects", signature("one")));
    one.send(&call_of(1, 0, Target::Import(0), ()));
    assert_eq!(one.read_text(), (1, signature("one").to_string()));
    two.send(&call_of(1, 0, Target::Import(0), ()));
    two.assert_refused("names import 0");
    one.send(&call_of(2, 0, Target::Import(0), ()));
    assert_eq!(one.read_text().0, 2);
}
