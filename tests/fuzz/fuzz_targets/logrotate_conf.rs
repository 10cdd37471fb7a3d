#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| genesis_tests::fuzz::logrotate_conf(data));
