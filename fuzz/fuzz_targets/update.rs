//! The body of an UPDATE in any context, and what we make of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bgp::wire::fuzzing::update(data));
