//! Traffic for simulations, exactly distributed and cheap.

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Marsaglia's polar method (Marsaglia and Bray, SIAM Review 6, 1964).
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.next() - 1.0, 2.0 * self.next() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }

    /// Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (ACM TOMS 26, 2000), for shapes from 1.
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.next()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    pub(crate) fn beta(&mut self, a: f64, b: f64) -> f64 {
        let x = self.gamma(a);
        x / (x + self.gamma(b))
    }

    /// By halving with order statistics (Relles, Journal of the American Statistical Association 67, 1972).
    pub(crate) fn binomial(&mut self, mut n: u64, mut p: f64) -> u64 {
        let mut found = 0;
        while n > 24 && p > 0.0 && p < 1.0 {
            let middle = n / 2 + 1;
            let at = self.beta(middle as f64, (n + 1 - middle) as f64);
            if at <= p {
                (found, n, p) = (found + middle, n - middle, (p - at) / (1.0 - at));
            } else {
                (n, p) = (middle - 1, p / at);
            }
        }
        found + (0..n).filter(|_| self.next() < p).count() as u64
    }
}

/// Latencies of a window on the uniform scale: order statistics and counts are drawn when they are asked for, given
/// what is known already, so that a window of any size costs a few draws and is distributed exactly as if each call
/// had been drawn.
pub(crate) struct Sample {
    n: u64,
    /// (u, values below it, values up to it), in order.
    known: Vec<(f64, u64, u64)>,
}

impl Sample {
    pub(crate) fn new(n: u64) -> Self {
        Self { n, known: vec![(0.0, 0, 0), (1.0, n, n)] }
    }

    /// sorted[floor(q (n - 1))], as the baselines have it.
    pub(crate) fn quantile(&mut self, random: &mut Random, q: f64) -> f64 {
        let rank = (q * (self.n - 1) as f64).floor() as u64 + 1;
        let right = self.known.iter().position(|(_, _, up_to)| *up_to >= rank).unwrap();
        let ((a, _, left), (b, below, _)) = (self.known[right - 1], self.known[right]);
        if below < rank {
            return b;
        }
        let (i, m) = ((rank - left) as f64, (below - left) as f64);
        let u = a + (b - a) * random.beta(i, m + 1.0 - i);
        self.known.insert(right, (u, rank - 1, rank));
        u
    }

    /// How many are above `u`.
    pub(crate) fn above(&mut self, random: &mut Random, u: f64) -> u64 {
        let right = self.known.iter().position(|(at, _, _)| *at >= u).unwrap();
        let (b, below, up_to) = self.known[right];
        if b == u {
            return self.n - up_to;
        }
        let (a, _, left) = self.known[right - 1];
        let found = left + random.binomial(below - left, (u - a) / (b - a));
        self.known.insert(right, (u, found, found));
        self.n - found
    }
}
