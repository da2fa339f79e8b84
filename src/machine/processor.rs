//! What the processor can do.

/// Asks the processor what it can do, for all who decode and hash: the standard library remembers it.
///
/// In a virtual machine each of a dozen questions is one to the host, 11 to 17 us (2026-11-30), so that a thread asks them while another one has other work.
pub fn ask() {
    #[cfg(target_arch = "x86_64")]
    let _ = std::arch::is_x86_feature_detected!("avx2");
}
