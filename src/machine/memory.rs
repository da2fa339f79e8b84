//! Memory that was freed goes back to the machine.

/// From this size on memory is mapped by itself, and goes back as it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_MIN: libc::c_int = 8 << 20;
/// So much that is free at the end of the heap stays there.
#[cfg(target_env = "gnu")]
const KEPT_MAX: libc::c_int = 16 << 20;
/// Heaps are made as large as this and grow by it. That of a thread grows by single pages otherwise, each with a system call for which all other threads wait.
#[cfg(target_env = "gnu")]
const GROWTH: libc::c_int = 1 << 20;

/// Has heaps grow in large steps, and keeps the buffers of threads that read requests out of the heap, which are of 16 MiB and hardly used: each thread would zero what it had of a heap
/// before. glibc by itself takes the size of the largest block that was ever freed as the least that is mapped by itself.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "no crate offers this call safely"))]
pub fn set_up() {
    // SAFETY: mallopt(3) takes two numbers and touches no memory that is in use. It locks what it changes.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_MAX);
        libc::mallopt(libc::M_TOP_PAD, GROWTH);
    }
}

/// Gives back what the allocator holds and nobody uses.
///
/// A flip frees nearly all that it took, in another order; glibc keeps the holes between what stays, some 45 KiB more with each flip
/// (2026-11-24, glibc 2.36, 40 entries, 600 flips). Costs a millisecond. Other C libraries do it by themselves or not at all.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "no crate offers this call safely"))]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes a number of bytes to leave, touches no memory that is in use, and may be called by any thread at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays() {
        let kept: Vec<Vec<u8>> = (0..1000).map(|size| vec![7; size]).collect();
        drop((0..1000).map(|size| vec![1; size]).collect::<Vec<Vec<u8>>>());
        give_back();
        assert!(kept.iter().flatten().all(|byte| *byte == 7));
    }
}
