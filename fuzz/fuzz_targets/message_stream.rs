//! A connection's bytes: framing and every message.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bgp::wire::fuzzing::message_stream(data));
