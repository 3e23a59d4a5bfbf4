//! A whole session, fed with anything in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bgp::session::fuzzing::session(data));
