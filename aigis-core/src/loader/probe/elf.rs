//! Looks at a library's file before the system's loader does, which says little and reads beyond the
//! end of a file that is cut off.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// How long the header of a 64-bit file is.
const HEADER: usize = 64;

/// How long one entry of its program table is.
const SEGMENT: usize = 56;

const SHARED: u16 = 3;
const LOADED: u32 = 1;

/// The processors that files name, by the name that Rust has for them.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "mips64"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// Checks that `library` is a whole shared library for this kind of machine.
pub(super) fn check(library: &Path) -> Result<(), String> {
    let cannot = |error: io::Error| format!("the library cannot be read: {error}");
    let found = fs::metadata(library).map_err(cannot)?;
    if !found.is_file() {
        let what = if found.is_dir() {
            "a folder"
        } else {
            "a device or a pipe"
        };
        return Err(format!(
            "`{}` is {what}, expected a library",
            library.display()
        ));
    }
    let file = File::open(library).map_err(cannot)?;
    let mut header = [0; HEADER];
    let len = usize::try_from(found.len()).unwrap_or(usize::MAX);
    let have = len.min(HEADER);
    file.read_exact_at(&mut header[..have], 0).map_err(cannot)?;
    let table = check_header(&header[..have], len)?;
    let mut segments = vec![0; table.len];
    file.read_exact_at(&mut segments, table.offset)
        .map_err(cannot)?;
    check_segments(&segments, found.len())
}

/// Where the program table stands.
struct Table {
    offset: u64,
    len: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    // What is short has been refused by then.
    found.unwrap_or([0; N])
}

/// Checks the first bytes of a file that is `len` bytes long.
fn check_header(header: &[u8], len: usize) -> Result<Table, String> {
    let again = "build the plugin again (`aigis reload --fresh` and its name)";
    if len == 0 {
        return Err(format!("the library is empty; {again}"));
    }
    if !header.starts_with(b"\x7fELF") {
        return Err(format!(
            "the library is no ELF file: it starts with \"{}\"; {again}",
            header[..header.len().min(8)].escape_ascii()
        ));
    }
    let cut_off = |needed: u64| {
        format!("the library is cut off: it has {len} bytes, expected at least {needed}; {again}")
    };
    if header.len() < HEADER {
        return Err(cut_off(HEADER as u64));
    }
    let machine = u16::from_ne_bytes(number(header, 18));
    let name_of = |wanted: u16| MACHINES.iter().find(|(number, _)| *number == wanted);
    let own = MACHINES
        .iter()
        .find(|(_, name)| *name == std::env::consts::ARCH);
    let native = header[4] == 2 && header[5] == if cfg!(target_endian = "little") { 1 } else { 2 };
    if !native || own.is_some_and(|(own, _)| *own != machine) {
        let found = match name_of(if native {
            machine
        } else {
            machine.swap_bytes()
        }) {
            Some((_, name)) if native => (*name).to_owned(),
            _ if header[4] == 1 => {
                let name = name_of(machine).map_or("an unknown kind", |(_, name)| name);
                format!("{name}, 32 bits")
            }
            _ => format!("machines of another kind ({machine})"),
        };
        return Err(format!(
            "the library is for {found}, this core runs on {}; build it for this machine: is there a \
             `build.target` in a cargo config?",
            std::env::consts::ARCH
        ));
    }
    let kind = u16::from_ne_bytes(number(header, 16));
    if kind != SHARED {
        return Err(format!(
            "the file is an ELF file of kind {kind}, expected a shared library (kind {SHARED}): does \
             its Cargo.toml say `crate-type = [\"cdylib\"]`?"
        ));
    }
    let offset = u64::from_ne_bytes(number(header, 32));
    let entry = usize::from(u16::from_ne_bytes(number(header, 54)));
    let entries = usize::from(u16::from_ne_bytes(number(header, 56)));
    if entry != SEGMENT || entries == 0 {
        return Err(format!(
            "the library says that it has {entries} segments of {entry} bytes, expected some of \
             {SEGMENT}; {again}"
        ));
    }
    let table = entries * SEGMENT;
    let end = offset.saturating_add(table as u64);
    if end > len as u64 {
        return Err(cut_off(end));
    }
    Ok(Table { offset, len: table })
}

/// Checks that all that is to be loaded is in the file.
fn check_segments(table: &[u8], len: u64) -> Result<(), String> {
    for segment in table.chunks_exact(SEGMENT) {
        if u32::from_ne_bytes(number(segment, 0)) != LOADED {
            continue;
        }
        let offset = u64::from_ne_bytes(number(segment, 8));
        let size = u64::from_ne_bytes(number(segment, 32));
        let end = offset.saturating_add(size);
        if end > len {
            return Err(format!(
                "the library is cut off: it has {len} bytes, expected at least {end}; build the \
                 plugin again (`aigis reload --fresh` and its name)"
            ));
        }
    }
    Ok(())
}
