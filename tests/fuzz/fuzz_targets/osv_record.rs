#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| genesis_tests::fuzz::osv_record(data));
