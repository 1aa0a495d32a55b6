//! A loaded library's own tables: where it is mapped, and the slots that its calls go through.
//!
//! Nothing in the file is trusted. Each read is checked against the segments that the system's
//! loader has mapped, each slot against those that are writable.

#[cfg(test)]
mod tests;

use std::ffi::{c_char, c_int, c_void};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use libloading::os::unix::Library;
use nix::libc;

/// What a word of the dynamic section means; see `elf(5)`.
mod tag {
    pub(super) const NULL: u64 = 0;
    pub(super) const PLTRELSZ: u64 = 2;
    pub(super) const STRTAB: u64 = 5;
    pub(super) const SYMTAB: u64 = 6;
    pub(super) const RELA: u64 = 7;
    pub(super) const RELASZ: u64 = 8;
    pub(super) const STRSZ: u64 = 10;
    pub(super) const JMPREL: u64 = 23;
    pub(super) const FLAGS_1: u64 = 0x6fff_fffb;
}

const FLAG_1_NODELETE: u64 = 8;

/// The relocations that put the plain address of a symbol into a slot.
#[cfg(target_arch = "x86_64")]
mod relocation {
    pub(super) const WITH_ADDEND: u64 = 1;
    pub(super) const GLOB_DAT: u64 = 6;
    pub(super) const JUMP_SLOT: u64 = 7;
}
#[cfg(target_arch = "aarch64")]
mod relocation {
    pub(super) const WITH_ADDEND: u64 = 257;
    pub(super) const GLOB_DAT: u64 = 1025;
    pub(super) const JUMP_SLOT: u64 = 1026;
}
/// Elsewhere none is known, so no library is followed that uses what would have to be.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod relocation {
    pub(super) const WITH_ADDEND: u64 = u64::MAX;
    pub(super) const GLOB_DAT: u64 = u64::MAX;
    pub(super) const JUMP_SLOT: u64 = u64::MAX;
}

const DYNAMIC_ENTRY: usize = 16;
const RELOCATION: usize = 24;
const SYMBOL: usize = 24;
const POINTER: usize = size_of::<usize>();

/// A mapped part of the library.
#[derive(Clone, Debug)]
struct Segment {
    range: Range<usize>,
    readable: bool,
    writable: bool,
}

/// A loaded library as the system's loader sees it.
#[derive(Debug)]
pub(super) struct Image {
    base: usize,
    segments: Vec<Segment>,
    dynamic: Range<usize>,
    /// What the system's loader has made read-only after it filled the slots, in whole pages.
    sealed: Range<usize>,
    page: usize,
}

/// A place in a library that holds the address of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) address: usize,
    /// What the slot shall hold.
    pub(super) function: usize,
}

/// What a symbol's name asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Calls go to this function.
    Replaced(usize),
    /// A library that uses it cannot be followed.
    Refused,
    /// Nothing.
    Left,
}

/// The beginning of the system's `struct link_map`, which is public.
#[repr(C)]
struct LinkMap {
    base: usize,
    name: *const c_char,
    dynamic: usize,
}

/// An object that is mapped into this process.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) base: usize,
    pub(super) name: std::ffi::CString,
    headers: Vec<libc::Elf64_Phdr>,
}

/// Lists what is mapped into this process.
pub(super) fn objects() -> Vec<Object> {
    unsafe extern "C" fn note(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        objects: *mut c_void,
    ) -> c_int {
        // SAFETY: `objects` is the list below, which nothing else uses meanwhile.
        let objects = unsafe { &mut *objects.cast::<Vec<Object>>() };
        // SAFETY: the system's loader passes a valid description, for the time of this call.
        let info = unsafe { &*info };
        let headers = if info.dlpi_phdr.is_null() {
            Vec::new()
        } else {
            // SAFETY: the system's loader gives the place and the number of the object's headers.
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) }
                .to_vec()
        };
        let name = if info.dlpi_name.is_null() {
            c""
        } else {
            // SAFETY: a name that is not null is a C string of the system's loader.
            unsafe { std::ffi::CStr::from_ptr(info.dlpi_name) }
        };
        objects.push(Object {
            base: usize::try_from(info.dlpi_addr).unwrap_or_default(),
            name: name.to_owned(),
            headers,
        });
        0
    }
    let mut objects: Vec<Object> = Vec::new();
    // SAFETY: `note` is what the call expects, and the list outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut objects).cast()) };
    objects
}

/// Tells what the system's loader knows of a library: its base and its dynamic section.
fn link_map(library: Library) -> (Library, Result<(usize, usize), String>) {
    let handle = library.into_raw();
    let mut map: *const LinkMap = std::ptr::null();
    // SAFETY: the handle is open, and the request writes one pointer.
    let status = unsafe {
        libc::dlinfo(
            handle,
            libc::RTLD_DI_LINKMAP,
            (&raw mut map).cast::<c_void>(),
        )
    };
    // SAFETY: it is the handle that was taken out above.
    let library = unsafe { Library::from_raw(handle) };
    if status != 0 || map.is_null() {
        return (
            library,
            Err("the system's loader does not tell where it is".into()),
        );
    }
    // SAFETY: the map belongs to an open library, and begins with these fields on every system
    // that has this call.
    let map = unsafe { &*map };
    (library, Ok((map.base, map.dynamic)))
}

impl Image {
    /// Finds a library that was just opened.
    pub(super) fn of(library: Library) -> (Library, Result<Image, String>) {
        let (library, found) = link_map(library);
        let image = found.and_then(|(base, dynamic)| {
            let object = objects().into_iter().find(|object| {
                object.base == base
                    && object.headers.iter().any(|header| {
                        header.p_type == libc::PT_DYNAMIC
                            && place(base, header).is_some_and(|range| range.start == dynamic)
                    })
            });
            let object = object.ok_or("the system's loader does not list its segments")?;
            Image::new(base, &object.headers)
        });
        (library, image)
    }

    fn new(base: usize, headers: &[libc::Elf64_Phdr]) -> Result<Image, String> {
        // SAFETY: a plain question to the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| "the page size is unknown")?;
        let mut image = Image {
            base,
            segments: Vec::new(),
            dynamic: 0..0,
            sealed: 0..0,
            page,
        };
        for header in headers {
            let range = place(base, header).ok_or("a segment wraps around the address space")?;
            match header.p_type {
                libc::PT_LOAD => image.segments.push(Segment {
                    range,
                    readable: header.p_flags & libc::PF_R != 0,
                    writable: header.p_flags & libc::PF_W != 0,
                }),
                libc::PT_DYNAMIC => image.dynamic = range,
                libc::PT_GNU_RELRO => {
                    // The system's loader rounds both ends down, too.
                    let down = |address: usize| address - address % page;
                    image.sealed = down(range.start)..down(range.end);
                }
                _ => {}
            }
        }
        if image.segments.is_empty() {
            return Err("it has no mapped segment".into());
        }
        Ok(image)
    }

    /// Returns the addresses from its first to its last page.
    pub(super) fn range(&self) -> Range<usize> {
        let start = self.segments.iter().map(|s| s.range.start).min();
        let end = self.segments.iter().map(|s| s.range.end).max();
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
        start - start % self.page..end.checked_next_multiple_of(self.page).unwrap_or(end)
    }

    /// Tells whether it asks never to be unmapped.
    pub(super) fn stays(&self) -> bool {
        matches!(self.entry(tag::FLAGS_1), Ok(Some(flags)) if flags & FLAG_1_NODELETE != 0)
    }

    /// Finds the slots whose symbols are `wanted`.
    pub(super) fn slots(&self, wanted: impl Fn(&[u8]) -> Wanted) -> Result<Vec<Slot>, String> {
        let Some(symbols) = self.table(tag::SYMTAB)? else {
            return Err("it has no table of symbols".into());
        };
        let names = self.sized(tag::STRTAB, tag::STRSZ)?;
        let mut slots = Vec::new();
        for (table, size) in [(tag::RELA, tag::RELASZ), (tag::JMPREL, tag::PLTRELSZ)] {
            let table = self.sized(table, size)?;
            for at in table.clone().step_by(RELOCATION) {
                let relocation = self.relocation(at, &table)?;
                if relocation.symbol == 0 {
                    continue;
                }
                let symbol = relocation
                    .symbol
                    .checked_mul(SYMBOL)
                    .and_then(|offset| symbols.checked_add(offset))
                    .ok_or("a relocation names a symbol far away")?;
                // Four bytes of name, one of kind, one of visibility, two of section.
                let head = self.read(symbol)?;
                let name = self.name(&names, (head & 0xffff_ffff) as usize)?;
                let function = match wanted(name) {
                    Wanted::Left => continue,
                    Wanted::Refused => {
                        let name = String::from_utf8_lossy(name);
                        return Err(format!("it uses `{name}`, which cannot be followed"));
                    }
                    Wanted::Replaced(function) => function,
                };
                if head >> 48 != 0 {
                    let name = String::from_utf8_lossy(name);
                    return Err(format!("it has a `{name}` of its own"));
                }
                let plain = match relocation.kind {
                    relocation::GLOB_DAT | relocation::JUMP_SLOT => true,
                    relocation::WITH_ADDEND => relocation.addend == 0,
                    _ => false,
                };
                if !plain {
                    let name = String::from_utf8_lossy(name);
                    return Err(format!("it holds `{name}` in a way that is not known"));
                }
                slots.push(Slot {
                    address: self.slot(relocation.offset)?,
                    function,
                });
            }
        }
        Ok(slots)
    }

    /// Writes slots.
    ///
    /// # Safety
    ///
    /// The slots are this image's own, its library is open, and each holds a function of the same
    /// kind as the one it gets.
    pub(super) unsafe fn write(&self, slots: &[Slot]) -> Result<(), String> {
        let sealed = || {
            slots
                .iter()
                .map(|slot| slot.address)
                .filter(|at| self.sealed.contains(at))
        };
        let page = |address: usize| address - address % self.page;
        let pages = match (sealed().min(), sealed().max()) {
            (Some(first), Some(last)) => page(first)..page(last) + self.page,
            _ => 0..0,
        };
        if !pages.is_empty() {
            self.protect(&pages, libc::PROT_READ | libc::PROT_WRITE)?;
        }
        for slot in slots {
            // SAFETY: `slot` has checked that the address is aligned and lies in a writable
            // segment; what of it was sealed is open now. The library's own code may read it
            // meanwhile, so it is written in one piece.
            let place = unsafe { AtomicUsize::from_ptr(slot.address as *mut usize) };
            place.store(slot.function, Ordering::Release);
        }
        if !pages.is_empty() {
            self.protect(&pages, libc::PROT_READ)?;
        }
        Ok(())
    }

    fn protect(&self, pages: &Range<usize>, protection: c_int) -> Result<(), String> {
        // SAFETY: whole pages of this library that were read-only after it was loaded; they are
        // made writable for the slots alone, and read-only again.
        let status = unsafe { libc::mprotect(pages.start as *mut c_void, pages.len(), protection) };
        if status == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        Err(format!(
            "the protection of its slots cannot be changed: {error}"
        ))
    }

    fn slot(&self, offset: usize) -> Result<usize, String> {
        let address = self.base.wrapping_add(offset);
        let end = address.checked_add(POINTER);
        let writable = end.is_some_and(|end| {
            self.segments
                .iter()
                .any(|s| s.writable && s.range.start <= address && end <= s.range.end)
        });
        if !writable || !address.is_multiple_of(POINTER) {
            return Err(format!("a slot lies at {address:#x}, outside of its data"));
        }
        Ok(address)
    }

    fn relocation(&self, at: usize, table: &Range<usize>) -> Result<Relocation, String> {
        if table.end - at < RELOCATION {
            return Err("a table of relocations ends in the middle of one".into());
        }
        let info = self.read(at + 8)?;
        Ok(Relocation {
            offset: self.read(at)? as usize,
            symbol: (info >> 32) as usize,
            kind: info & 0xffff_ffff,
            addend: self.read(at + 16)?,
        })
    }

    fn name(&self, names: &Range<usize>, offset: usize) -> Result<&[u8], String> {
        let start = names
            .start
            .checked_add(offset)
            .filter(|start| names.contains(start))
            .ok_or("a symbol's name lies outside of the names")?;
        // SAFETY: `sized` has checked that all names lie in one readable segment, which stays
        // mapped and is not written while the library is open.
        let rest = unsafe { std::slice::from_raw_parts(start as *const u8, names.end - start) };
        let length = rest.iter().position(|&byte| byte == 0);
        let length = length.ok_or("a symbol's name does not end")?;
        Ok(&rest[..length])
    }

    /// Returns the place of a table and of all its bytes; empty if there is none.
    fn sized(&self, table: u64, size: u64) -> Result<Range<usize>, String> {
        let Some(start) = self.table(table)? else {
            return Ok(0..0);
        };
        let size = self.entry(size)?.unwrap_or_default() as usize;
        let range = start..start.checked_add(size).ok_or("a table has no end")?;
        if !self.readable(&range) {
            return Err(format!("a table of {size} bytes leaves its segment"));
        }
        Ok(range)
    }

    /// Returns the place of a table. Some systems' loaders write addresses over the offsets.
    fn table(&self, table: u64) -> Result<Option<usize>, String> {
        let Some(value) = self.entry(table)? else {
            return Ok(None);
        };
        let value = value as usize;
        let candidates = [Some(value), self.base.checked_add(value)];
        let inside = |at: &usize| {
            let end = at.checked_add(1);
            end.is_some_and(|end| self.readable(&(*at..end)))
        };
        match candidates.into_iter().flatten().find(inside) {
            Some(place) => Ok(Some(place)),
            None => Err(format!("a table at {value:#x} is outside of its segments")),
        }
    }

    /// Looks a tag up in the dynamic section.
    fn entry(&self, tag: u64) -> Result<Option<u64>, String> {
        for at in self.dynamic.clone().step_by(DYNAMIC_ENTRY) {
            match self.read(at)? {
                tag::NULL => break,
                found if found == tag => return self.read(at + 8).map(Some),
                _ => {}
            }
        }
        Ok(None)
    }

    fn read(&self, address: usize) -> Result<u64, String> {
        let range = address..address.saturating_add(8);
        if !self.readable(&range) || range.len() != 8 {
            return Err(format!("a table leads to {address:#x}, outside of it"));
        }
        // SAFETY: the eight bytes lie in a segment that is mapped and readable while the library
        // is open.
        Ok(unsafe { (address as *const u64).read_unaligned() })
    }

    fn readable(&self, range: &Range<usize>) -> bool {
        self.segments
            .iter()
            .any(|s| s.readable && s.range.start <= range.start && range.end <= s.range.end)
    }
}

struct Relocation {
    offset: usize,
    symbol: usize,
    kind: u64,
    addend: u64,
}

fn place(base: usize, header: &libc::Elf64_Phdr) -> Option<Range<usize>> {
    let start = base.checked_add(usize::try_from(header.p_vaddr).ok()?)?;
    Some(start..start.checked_add(usize::try_from(header.p_memsz).ok()?)?)
}
