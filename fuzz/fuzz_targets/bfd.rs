//! BFD sessions, fed with anything in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bfd::fuzzing::sessions(data));
