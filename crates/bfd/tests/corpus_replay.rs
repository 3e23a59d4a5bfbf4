#![allow(clippy::unwrap_used)]
//! Replays the fuzzer's committed corpus (`fuzz/corpus/bfd/`), each input cut and flipped in many ways besides.
//!
//! The hand-made seeds are written by `WRITE_CORPUS=1 cargo test -p routewright-bfd --test corpus_replay`.

use std::path::PathBuf;

#[test]
fn corpus_runs_through_and_so_do_its_mutations() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/bfd");
    if std::env::var_os("WRITE_CORPUS").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for (name, octets) in seeds() {
            std::fs::write(directory.join(name), octets).unwrap();
        }
    }
    for (name, octets) in seeds() {
        let file = directory.join(name);
        assert_eq!(std::fs::read(&file).unwrap(), octets, "{name} is not what makes it");
    }
    for entry in std::fs::read_dir(&directory).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        bfd::fuzzing::sessions(&octets);
        for end in 0..octets.len() {
            bfd::fuzzing::sessions(&octets[..end]);
        }
        let mut mutated = octets.clone();
        for at in 0..octets.len() {
            for octet in [0x00, 0x01, 0x7F, 0x80, 0xFF, octets[at] ^ 0x10] {
                mutated[at] = octet;
                bfd::fuzzing::sessions(&mutated);
            }
            mutated[at] = octets[at];
        }
    }
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let packet = |flags: u8, tail: &[u8]| {
        let length = (24 + tail.len()) as u8;
        let mut octets = vec![4, length, 0x20, flags, 3, length, 0, 0, 0, 7, 0, 0, 0, 1];
        octets.extend([0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50, 0, 0, 0, 0]);
        octets.extend(tail);
        octets
    };
    let (down, init, up) = (0x40, 0x80, 0xC0);
    let digest = [&[5, 28, 1, 0, 0, 0, 0, 9][..], &[0xAB; 20]].concat();
    vec![
        (
            "up-then-silent",
            [packet(down, &[]), packet(init, &[]), vec![0, 200, 1, 3]].concat(),
        ),
        (
            "polls",
            [
                packet(init, &[]),
                packet(up | 0x20, &[]),
                packet(up | 0x10, &[]),
                vec![2, 200],
                packet(up | 0x10, &[]),
            ]
            .concat(),
        ),
        (
            "demand",
            [
                packet(init, &[]),
                packet(up | 0x02, &[]),
                vec![0, 100],
                packet(up | 0x22, &[]),
            ]
            .concat(),
        ),
        (
            "authenticated",
            [
                vec![2, 51],
                packet(down | 0x04, &digest),
                vec![0, 9],
                packet(init | 0x04, &digest),
            ]
            .concat(),
        ),
        (
            "dropped",
            [packet(init, &[]), vec![3, 0, 1, 9, 2, 50], packet(down, &[])].concat(),
        ),
    ]
}
