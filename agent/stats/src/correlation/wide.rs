//! Loops over floats, compiled for wide registers too.

/// Work that is to be compiled for the CPU at hand. `run` has to be `#[inline(always)]`, and so has what it calls in
/// its loops: what is not inlined is compiled for the least of CPUs.
pub(super) trait Kernel {
    type Output;

    fn run(self) -> Self::Output;
}

/// Runs it with AVX2 and FMA where the CPU has them.
///
/// The bits of the result are the same with and without: `mul_add` is rounded once wherever it runs (in software where
/// the CPU has none, which is slow), and the order of additions is written out. So two hosts agree to the bit, and so
/// do a host and a test.
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,popcnt,bmi1,bmi2,lzcnt")]
        fn wide<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
        {
            // A crate such as pulp would do no more than this call.
            #[allow(unsafe_code)]
            // SAFETY: each feature that `wide` is compiled with was detected just now.
            return unsafe { wide(kernel) };
        }
    }
    kernel.run()
}
