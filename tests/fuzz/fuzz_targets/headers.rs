#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| genesis_tests::fuzz::headers(data));
