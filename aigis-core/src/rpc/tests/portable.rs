//! The code of portable skills: when it is sent, and what a client makes of code that is none.

use aigis_plugin_api::portable::{Page, write_library};
use aigis_plugin_api::session::frame::Portable;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};

use super::*;

aigis_plugin_api::import! {
    mod t {
        #[portable]
        #[skill(rename = "count")]
        fn count_here(key: &str) -> String;
    }
}

/// What the service sends.
#[derive(Default)]
pub(super) struct Code {
    page: Option<Page>,
    libraries: Vec<(Library, OwnedFd)>,
}

impl Code {
    /// Has the latest version of the plugin in a library of this content.
    fn add(&mut self, name: &str, content: &[u8]) {
        let page = self
            .page
            .get_or_insert_with(|| Page::new().expect("a page"));
        let (memory, size) = write_library(content, |_| {}).expect("there is memory");
        let library = Library {
            name: name.to_owned(),
            plugin: "t".to_owned(),
            size,
        };
        self.libraries.push((library, memory));
        page.set(3, self.libraries.len() as u64);
    }
}

impl Answers {
    pub(super) fn code_of(&self, import: &Import) -> Option<Portable> {
        let code = self.code.lock().expect("not poisoned");
        let (library, _) = code.libraries.last().filter(|_| import.portable)?;
        Some(Portable {
            library: library.name.clone(),
            index: 0,
            cell: 3,
            ticket: code.libraries.len() as u64,
        })
    }

    pub(super) fn library_of(&self, name: &str) -> Option<(Library, OwnedFd)> {
        let code = self.code.lock().expect("not poisoned");
        let found = code
            .libraries
            .iter()
            .find(|(library, _)| library.name == name);
        // One that is gone by the time it is to be sent.
        found
            .filter(|(library, _)| library.size > 0)
            .map(|(library, memory)| (library.clone(), memory.try_clone().expect("duplicates")))
    }

    pub(super) fn page_of(&self) -> Option<OwnedFd> {
        let code = self.code.lock().expect("not poisoned");
        let page = code.page.as_ref()?;
        Some(page.memory().try_clone_to_owned().expect("duplicates"))
    }

    fn add_code(&self, name: &str, content: &[u8]) {
        self.code.lock().expect("not poisoned").add(name, content);
    }
}

fn feature() -> &'static str {
    feature::PORTABLE.expect("is known of this machine")
}

fn wanting_code(number: u64) -> Vec<u8> {
    let import = Import {
        name: "t.expects".to_owned(),
        signature: signature("a"),
        portable: true,
    };
    frame::encode_frame(Kind::Import, number, 0, &import).expect("a frame")
}

/// The next frame is of this kind and comes with a descriptor; returns its body, and what is sealed of the
/// memory and how long it is.
fn read_memory(raw: &mut Raw, kind: Kind) -> (Vec<u8>, SealFlags, i64) {
    let (header, body) = raw.read_any().expect("comes");
    assert_eq!((header.kind, header.call), (kind, 0));
    let memory = raw.descriptor();
    let seals = fcntl_get_seals(&memory).expect("can be sealed");
    (body, seals, fstat(&memory).expect("is there").st_size)
}

#[test]
fn code_is_sent_once_and_before_it_is_named() {
    let core = Core::start();
    core.service.add_code("t-1.so", b"one");
    let mut raw = core.raw_with(&[feature()]);
    raw.send(&import(0, "t.expects", signature("a")));
    assert_eq!(raw.read_served(0).portable, None, "nobody has asked for it");
    raw.send(&wanting_code(1));
    let (_, seals, size) = read_memory(&mut raw, Kind::Page);
    assert!(seals.contains(SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::SEAL));
    assert_eq!(size, 4096);
    let (body, seals, size) = read_memory(&mut raw, Kind::Library);
    assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::SEAL));
    let library: Library = frame::decode_body(&body).expect("is well-formed");
    assert_eq!((&*library.name, library.size, size), ("t-1.so", 3, 3));
    let served = raw.read_served(1);
    assert_eq!(served.portable.expect("is named").ticket, 1);
    // A second import of it needs neither again.
    raw.send(&wanting_code(2));
    assert!(raw.read_served(2).portable.is_some());

    // The next version has another library; the page is the same.
    core.service.add_code("t-2.so", b"other");
    core.server().tell_swaps();
    read_memory(&mut raw, Kind::Library);
    for _ in 0..2 {
        let (header, body) = raw.read_any().expect("is told");
        let served: Served = frame::decode_body(&body).expect("is well-formed");
        let portable = served.portable.expect("is named");
        assert_eq!(
            (&*portable.library, portable.ticket),
            ("t-2.so", 2),
            "{header:?}"
        );
    }
    // One that is gone before it can be sent is not named, nor what a client without the feature wants.
    core.service.add_code("t-3.so", b"");
    raw.send(&wanting_code(3));
    assert_eq!(raw.read_served(3).portable, None);
    let mut plain = core.raw();
    plain.send(&wanting_code(0));
    assert_eq!(plain.read_served(0).portable, None);
}

#[test]
fn a_client_with_code_that_is_none_calls_as_ever() {
    let core = Core::start();
    core.service.add_code("t-garbage.so", b"no library at all");
    let session = core.connect();
    session.scope(|| {
        // More than it takes for the code to come and to be refused.
        for number in 1..=200_u32 {
            assert_eq!(t::count_here("brought"), Ok("brought".to_owned()));
            assert_eq!(core.service.runs("brought"), number);
        }
    });
}
