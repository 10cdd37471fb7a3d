//! The eigenvalues and eigenvectors of a symmetric matrix.
//!
//! Householder's reduction to tridiagonal form (Golub and Van Loan, "Matrix Computations", 4th edition 2013, algorithm
//! 8.3.1), then the QL method with implicit shifts: tql2 of Bowdler, Martin, Reinsch and Wilkinson (Numerische
//! Mathematik 11, 1968; EISPACK). Eigenvectors are kept as rows, so that a rotation runs along two of them and a
//! reflection along one. 256 series take some 12 ms, which is needed only when a matrix is not definite: a library that
//! is faster would cost each build more than it saves.

use super::wide::{Kernel, dispatch};

/// Steps for an eigenvalue, of which the usual are 1 to 2.
const STEPS: usize = 60;
/// Sums side by side.
const LANES: usize = 8;

/// In no order: vector i (row i) belongs to value i.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Vec<f64>,
}

/// Of a square, symmetric and finite matrix, row by row. `None` where it does not converge.
pub(super) fn eigen(matrix: &[f64], size: usize) -> Option<Eigen> {
    if size == 0 {
        return Some(Eigen { values: Vec::new(), vectors: Vec::new() });
    }
    dispatch(Decompose { matrix: matrix.to_vec(), size })
}

struct Decompose {
    matrix: Vec<f64>,
    size: usize,
}

impl Kernel for Decompose {
    type Output = Option<Eigen>;

    #[inline(always)]
    fn run(self) -> Option<Eigen> {
        let Self { mut matrix, size } = self;
        let mut tridiagonal = reduce(&mut matrix, size);
        let mut vectors = vec![0.0; size * size];
        for i in 0..size {
            vectors[i * size + i] = 1.0;
        }
        let values = ql(&mut tridiagonal, &mut vectors, size)?;
        for vector in vectors.chunks_mut(size) {
            for k in (0..size - 1).rev() {
                let (reflector, rest) =
                    (&matrix[k * size + k + 1..(k + 1) * size], &mut vector[k + 1..]);
                let factor = tridiagonal.betas[k] * dot(reflector, rest);
                subtract(rest, factor, reflector);
            }
        }
        Some(Eigen { values, vectors })
    }
}

struct Tridiagonal {
    diagonal: Vec<f64>,
    /// What is beside the diagonal, and a zero.
    beside: Vec<f64>,
    /// I - beta v v' are the reflections.
    betas: Vec<f64>,
}

/// Leaves the reflectors v in the rows, right of the diagonal.
#[inline(always)]
fn reduce(matrix: &mut [f64], size: usize) -> Tridiagonal {
    let mut made =
        Tridiagonal { diagonal: vec![0.0; size], beside: vec![0.0; size], betas: vec![0.0; size] };
    let mut w = vec![0.0; size];
    for k in 0..size {
        let (row, below) = matrix[k * size..].split_at_mut(size);
        made.diagonal[k] = row[k];
        let v = &mut row[k + 1..];
        let Some((first, rest)) = v.split_first_mut() else { break };
        let tail = dot(rest, rest);
        if tail == 0.0 {
            made.beside[k] = *first;
            continue;
        }
        let norm = (*first * *first + tail).sqrt();
        let target = if *first > 0.0 { -norm } else { norm };
        *first -= target;
        let beta = 2.0 / (*first * *first + tail);
        made.beside[k] = target;
        made.betas[k] = beta;
        // A - v w' - w v', with w = beta A v - (beta^2 v'A v / 2) v.
        let w = &mut w[k + 1..];
        for (w, row) in w.iter_mut().zip(below.chunks(size)) {
            *w = beta * dot(&row[k + 1..], v);
        }
        let half = 0.5 * beta * dot(w, v);
        subtract(w, half, v);
        for (i, row) in below.chunks_mut(size).enumerate() {
            let (a, b) = (-v[i], -w[i]);
            for ((value, v), w) in row[k + 1..].iter_mut().zip(&*v).zip(&*w) {
                *value = a.mul_add(*w, b.mul_add(*v, *value));
            }
        }
    }
    made
}

/// The eigenvalues; what is done to them is done to the rows of `vectors`.
#[inline(always)]
fn ql(made: &mut Tridiagonal, vectors: &mut [f64], size: usize) -> Option<Vec<f64>> {
    let (d, e) = (&mut made.diagonal, &mut made.beside);
    let (mut shifted, mut scale) = (0.0_f64, 0.0_f64);
    for l in 0..size {
        scale = scale.max(d[l].abs() + e[l].abs());
        let small = f64::EPSILON * scale;
        // The last of them is zero.
        let m = (l..size).find(|m| e[*m].abs() <= small).unwrap_or(size - 1);
        let mut steps = 0;
        while m > l && (steps == 0 || e[l].abs() > small) {
            steps += 1;
            if steps > STEPS {
                return None;
            }
            let g = d[l];
            let mut p = (d[l + 1] - g) / (2.0 * e[l]);
            let r = if p < 0.0 { -hypot(p, 1.0) } else { hypot(p, 1.0) };
            d[l] = e[l] / (p + r);
            d[l + 1] = e[l] * (p + r);
            let (next, h) = (d[l + 1], g - d[l]);
            d[l + 2..].iter_mut().for_each(|value| *value -= h);
            shifted += h;
            p = d[m];
            let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
            let (mut s, mut s2) = (0.0, 0.0);
            let beyond = e[l + 1];
            for i in (l..m).rev() {
                (c3, c2, s2) = (c2, c, s);
                let g = c * e[i];
                let h = c * p;
                let r = hypot(p, e[i]);
                e[i + 1] = s * r;
                s = e[i] / r;
                c = p / r;
                p = c * d[i] - s * g;
                d[i + 1] = h + s * (c * g + s * d[i]);
                let (upper, lower) = vectors[i * size..].split_at_mut(size);
                for (a, b) in upper.iter_mut().zip(&mut lower[..size]) {
                    let (x, y) = (*a, *b);
                    *b = s.mul_add(x, c * y);
                    *a = c.mul_add(x, -(s * y));
                }
            }
            p = -s * s2 * c3 * beyond * e[l] / next;
            e[l] = s * p;
            d[l] = c * p;
        }
        d[l] += shifted;
        e[l] = 0.0;
    }
    d.iter().all(|value| value.is_finite()).then(|| d.clone())
}

/// sqrt(a^2 + b^2) without overflow, the same on each machine.
#[inline(always)]
fn hypot(a: f64, b: f64) -> f64 {
    let (large, small) = if a.abs() > b.abs() { (a.abs(), b.abs()) } else { (b.abs(), a.abs()) };
    if large == 0.0 {
        return 0.0;
    }
    let ratio = small / large;
    large * (1.0 + ratio * ratio).sqrt()
}

/// In [`LANES`] sums, so that they needn't wait for one another.
#[inline(always)]
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f64; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(0.0_f64, |sum, (a, b)| a.mul_add(*b, sum));
    sums.iter().sum::<f64>() + rest
}

/// a - factor b.
#[inline(always)]
pub(super) fn subtract(a: &mut [f64], factor: f64, b: &[f64]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = (-factor).mul_add(*b, *a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(size: usize, item: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        (0..size * size).map(|at| item(at / size, at % size)).collect()
    }

    /// A = V'DV with V'V = I.
    fn check(values: &[f64], size: usize) -> Vec<f64> {
        let eigen = eigen(values, size).unwrap();
        let row = |i: usize| &eigen.vectors[i * size..(i + 1) * size];
        for i in 0..size {
            for j in 0..size {
                let one = if i == j { 1.0 } else { 0.0 };
                assert!((dot(row(i), row(j)) - one).abs() < 1e-13, "{i} {j}");
                let sum: f64 = (0..size).map(|k| eigen.values[k] * row(k)[i] * row(k)[j]).sum();
                assert!((sum - values[i * size + j]).abs() < 1e-12, "{i} {j}");
            }
        }
        let mut values = eigen.values;
        values.sort_by(f64::total_cmp);
        values
    }

    #[test]
    fn known_ones() {
        assert_eq!(check(&[3.0], 1), [3.0]);
        assert_eq!(check(&[0.0; 9], 3), [0.0; 3]);
        for (found, known) in check(&[2.0, 1.0, 1.0, 2.0], 2).iter().zip([1.0, 3.0]) {
            assert!((found - known).abs() < 1e-15);
        }
        // All correlations a: 1 - a, and once 1 + (p - 1) a.
        let equal = check(&matrix(20, |i, j| if i == j { 1.0 } else { 0.3 }), 20);
        assert!(equal[..19].iter().all(|value| (value - 0.7).abs() < 1e-14));
        assert!((equal[19] - 6.7).abs() < 1e-14);
        // 2 on the diagonal and -1 beside it: 2 - 2 cos(k pi / (n + 1)).
        let chain = |i: usize, j: usize| [2.0, -1.0, 0.0][i.abs_diff(j).min(2)];
        for (k, found) in (1..).zip(check(&matrix(31, chain), 31)) {
            let known = 2.0 - 2.0 * (f64::from(k) * std::f64::consts::PI / 32.0).cos();
            assert!((found - known).abs() < 1e-14, "{k}");
        }
    }

    #[test]
    fn any_one() {
        let item = |i: usize, j: usize| ((i * j * 37 + i + j) as f64).sin();
        for size in [2, 3, 7, 8, 9, 40] {
            check(&matrix(size, item), size);
            // Blocks that do not touch.
            let apart = |i: usize, j: usize| if i / 3 == j / 3 { item(i, j) } else { 0.0 };
            check(&matrix(size, apart), size);
        }
    }
}
