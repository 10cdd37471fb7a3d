//! What the C library keeps of memory, and the kernel of this program: little, on a host that has other things to do.

use std::fs;

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

/// Lets go of what starting, or a burst of calls, took and nothing needs any more: memory, and pages of this program.
pub fn let_go() {
    give_back();
    forget_pages();
}

/// Has the kernel forget which pages of this program have been used so far. They stay in its cache of files, from where
/// those that are needed again come back in a few microseconds; the others count as used for ever where nothing else
/// wants memory, and most of a program is run once, when it starts.
#[allow(unsafe_code)] // No crate in the tree wraps it without.
fn forget_pages() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // A debugger has written its breakpoints into them.
    if !read("/proc/self/status").contains("\nTracerPid:\t0\n") {
        return;
    }
    for (start, end) in untouched(&read("/proc/self/maps"), forget_pages as *const () as usize) {
        // SAFETY: both are mapped from this program's file and can't be written to, so that what is read of them next is
        // what was read of them before. The file of a program that runs can't be changed; a newer one replaces it.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
        }
    }
}

/// Which of these maps are of the file that has the code at an address, and are as in the file: the code, and the
/// constants at the file's start. Not those behind it, which the loader has written to before it took the right away.
fn untouched(maps: &str, code: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(may), Some(offset), Some(device), Some(inode)) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Some((start, end)) = range.split_once('-') else { continue };
        let address = |text: &str| usize::from_str_radix(text, 16).ok();
        let (Some(start), Some(end)) = (address(start), address(end)) else { continue };
        let at_start = u64::from_str_radix(offset, 16) == Ok(0);
        if inode != "0" && (may == "r-xp" || may == "r--p" && at_start) {
            found.push((start, end, (device, inode)));
        }
    }
    let Some(own) = found.iter().find(|it| (it.0..it.1).contains(&code)).map(|it| it.2) else {
        return Vec::new();
    };
    found.iter().filter(|it| it.2 == own).map(|it| (it.0, it.1)).collect()
}

/// Gives back what nothing needs any more.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // No crate in the tree wraps it.
fn give_back() {
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
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0e5a00000-55d0e6500000 r--p 00000000 fe:00 131 /usr/bin/genesis-agent
55d0e6500000-55d0e9200000 r-xp 00b00000 fe:00 131 /usr/bin/genesis-agent (deleted)
55d0e9200000-55d0e9310000 r--p 03800000 fe:00 131 /usr/bin/genesis-agent
55d0e9310000-55d0e9320000 rw-p 03900000 fe:00 131 /usr/bin/genesis-agent
55d0e9320000-55d0e9900000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 r--p 00000000 fe:00 77 /usr/lib/libc.so.6
7f0000100000-7f0000200000 r-xp 00100000 fe:00 77 /usr/lib/libc.so.6
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0 [vdso]
nonsense
";

    #[test]
    fn only_what_is_as_in_the_own_file_is_forgotten() {
        let own = [(0x55d0_e5a0_0000, 0x55d0_e650_0000), (0x55d0_e650_0000, 0x55d0_e920_0000)];
        assert_eq!(untouched(MAPS, 0x55d0_e650_0010), own);
        // Code of nobody that is known: in no file, or where nothing is mapped.
        assert_eq!(untouched(MAPS, 0x7ffc_0000_0010), []);
        assert_eq!(untouched(MAPS, 0), []);
        assert_eq!(untouched("", 0x55d0_e650_0010), []);
    }

    #[test]
    fn what_is_forgotten_is_there_when_it_is_needed() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!untouched(&maps, forget_pages as *const () as usize).is_empty(), "{maps}");
        for _ in 0..3 {
            let_go();
            let text = format!("{:?} {}", [1.5, 2.5], "constants and code");
            assert_eq!(text, "[1.5, 2.5] constants and code");
        }
    }
}
