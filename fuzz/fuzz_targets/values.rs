#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| overlayfs_mount::fuzzing::values(bytes));
