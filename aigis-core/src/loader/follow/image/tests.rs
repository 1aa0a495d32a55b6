//! Tables of plain memory, sound and broken.

use super::*;

/// An image of plain memory: tables at the start, slots behind them.
fn image(memory: &mut [u64]) -> Image {
    let base = memory.as_mut_ptr() as usize;
    let range = base..base + size_of_val(memory);
    Image {
        base,
        segments: vec![Segment {
            range: range.clone(),
            readable: true,
            writable: true,
        }],
        dynamic: base..base + 128,
        sealed: 0..0,
        page: 4096,
    }
}

/// Dynamic section (16 words), one relocation at 16, two symbols at 20, names at 26.
fn memory() -> Vec<u64> {
    let mut words = vec![0_u64; 64];
    let dynamic = [
        (tag::RELA, 16 * 8),
        (tag::RELASZ, 24),
        (tag::SYMTAB, 20 * 8),
        (tag::STRTAB, 26 * 8),
        (tag::STRSZ, 16),
    ];
    for (place, (tag, value)) in words.chunks_mut(2).zip(dynamic) {
        place.copy_from_slice(&[tag, value]);
    }
    words[16] = 40 * 8;
    words[17] = 1 << 32 | relocation::GLOB_DAT;
    words[23] = 1;
    words[26] = u64::from_le_bytes(*b"\0wanted\0");
    words
}

fn find(words: &mut [u64]) -> Result<Vec<Slot>, String> {
    image(words).slots(|name| match name {
        b"wanted" => Wanted::Replaced(7),
        b"refused" => Wanted::Refused,
        _ => Wanted::Left,
    })
}

#[test]
fn a_slot_is_found_and_written() {
    let mut words = memory();
    let slots = find(&mut words).expect("sound tables");
    let [slot] = slots[..] else {
        panic!("one slot, not {slots:?}")
    };
    let image = image(&mut words);
    assert_eq!(slot.address, image.base + 320);
    // SAFETY: the slot is in the memory of this test, and nothing calls it.
    unsafe { image.write(&slots) }.expect("plain memory");
    assert_eq!(words[40], 7);
}

#[test]
fn tables_that_make_no_sense_are_told() {
    let check = |at: usize, value: u64, says: &str| {
        let mut words = memory();
        words[at] = value;
        let error = find(&mut words).expect_err(says);
        assert!(error.contains(says), "{error}");
    };
    check(1, 1 << 40, "outside of its segments");
    check(3, 1 << 20, "leaves its segment");
    check(3, u64::MAX, "no end");
    check(3, 25, "in the middle");
    check(4, 99, "no table of symbols");
    check(9, 3, "does not end");
    check(16, 1 << 40, "outside of its data");
    check(16, 8 * 8 + 3, "outside of its data");
    check(17, 0xffff_ffff << 32 | 6, "outside of it");
    check(17, 1 << 32 | 0x55, "a way that is not known");
    check(23, 500, "outside of the names");
    check(23, 1 | 1 << 48, "of its own");
    check(26, u64::from_le_bytes(*b"\0refused"), "cannot be followed");
}

#[test]
fn no_single_wrong_word_leads_out_of_the_image() {
    for at in 0..30 {
        for bit in 0..64 {
            let mut words = memory();
            words[at] ^= 1 << bit;
            // Whatever it says: it must say so, and every slot must lie inside.
            for slot in find(&mut words).unwrap_or_default() {
                let base = words.as_ptr() as usize;
                assert!((base..base + 64 * 8).contains(&slot.address));
            }
        }
    }
}
