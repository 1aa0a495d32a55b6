use crate::logging::{LineEnd, LineSplitter, MAX_LINE_BYTES};

type Piece = (Vec<u8>, LineEnd);

fn split(chunks: &[&[u8]]) -> Vec<Piece> {
    let mut splitter = LineSplitter::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for chunk in chunks {
        splitter.push(chunk, |line| pieces.push((line.bytes.to_vec(), line.end)));
    }
    splitter.finish(|line| pieces.push((line.bytes.to_vec(), line.end)));
    pieces
}

fn newline(text: &str) -> Piece {
    (text.into(), LineEnd::Newline)
}

#[test]
fn lines_are_found_wherever_the_chunks_end() {
    let text = b"one\ntwo\n\nthree";
    let expected = vec![
        newline("one"),
        newline("two"),
        newline(""),
        (b"three".to_vec(), LineEnd::Eof),
    ];
    for at in 0..=text.len() {
        let (left, right) = text.split_at(at);
        assert_eq!(split(&[left, right]), expected, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(split(&bytes), expected);
}

#[test]
fn a_finished_stream_has_no_unfinished_line() {
    assert_eq!(split(&[b"one\n"]), [newline("one")]);
    assert_eq!(split(&[]), []);
}

#[test]
fn a_long_line_is_cut_and_nothing_of_it_is_lost() {
    let long: Vec<u8> = (0..1_000_000).map(|n| b'a' + (n % 26) as u8).collect();
    let mut text = long.clone();
    text.extend_from_slice(b"\nnext\n");
    for size in [1000, 65536, text.len()] {
        let chunks: Vec<&[u8]> = text.chunks(size).collect();
        let mut pieces = split(&chunks);
        assert_eq!(pieces.pop(), Some(newline("next")));
        let (last, cut) = pieces.split_last().expect("pieces");
        assert_eq!(last.1, LineEnd::Newline);
        assert!(cut.iter().all(|piece| piece.1 == LineEnd::Cut));
        assert!(pieces.iter().all(|piece| piece.0.len() <= MAX_LINE_BYTES));
        let joined: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.0).collect();
        assert!(joined == long, "chunks of {size}");
    }
}

#[test]
fn a_line_of_just_the_longest_length_is_not_cut() {
    let text = vec![b'x'; MAX_LINE_BYTES];
    assert_eq!(split(&[&text, b"\n"]), [(text.clone(), LineEnd::Newline)]);
}

#[test]
fn no_character_is_cut_in_two() {
    for pad in 0..4 {
        let text = "x".repeat(pad) + &"\u{1f980}é".repeat(20_000);
        for piece in split(&[text.as_bytes()]) {
            assert!(std::str::from_utf8(&piece.0).is_ok(), "padded by {pad}");
        }
    }
}

#[test]
fn bytes_that_are_no_characters_are_cut_anywhere() {
    let bytes = vec![0x80; 3 * MAX_LINE_BYTES];
    let joined: Vec<u8> = split(&[&bytes]).into_iter().flat_map(|p| p.0).collect();
    assert!(joined == bytes);
}
