//! What the C library keeps of memory: little, on a host that has other things to do.

/// Lets threads share two places to allocate from, where glibc would make one for each, up to eight a processor. Call
/// it before there are threads.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // No crate in the tree wraps it.
pub fn share_arenas() {
    // SAFETY: it takes two numbers and returns one; nothing of ours is handed over.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives back what starting, or a burst of calls, took and nothing needs any more.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // No crate in the tree wraps it.
pub fn give_back() {
    // SAFETY: it touches only what is free; other threads wait meanwhile.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Only glibc keeps so much.
#[cfg(not(target_env = "gnu"))]
pub fn share_arenas() {}

/// Only glibc keeps so much.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
