"""Pairwise correlations by pandas, and by numpy as products of masked matrices, from memory, with one thread each.

Reads doubles, series by series; writes pandas' matrix beside them, and times in milliseconds to standard output.
"""

import json
import os
import statistics
import sys
import time

for name in ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]:
    os.environ[name] = "1"

import numpy
import pandas

file, series, rows, rounds = sys.argv[1], *map(int, sys.argv[2:])
values = numpy.fromfile(file, dtype="<f8").reshape(series, rows).T


def timed(what):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        answer = what()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), answer


def masked():
    there = ~numpy.isnan(values)
    z = numpy.where(there, values - numpy.nanmean(values, axis=0), 0.0)
    mask = there.astype(float)
    n, s, q, c = mask.T @ mask, z.T @ mask, (z * z).T @ mask, z.T @ z
    variance = q - s * s / n
    return (c - s * s.T / n) / numpy.sqrt(variance * variance.T)


table = pandas.DataFrame(values)
pandas_ms, r = timed(lambda: table.corr(min_periods=100).to_numpy())
numpy_ms, other = timed(masked)
assert abs(r - other).max() < 1e-12
cholesky_ms, _ = timed(lambda: numpy.linalg.cholesky(r + 1e-9 * numpy.eye(series)))
eigenvalues_ms, _ = timed(lambda: numpy.linalg.eigvalsh(r))
r.tofile(file + ".r")
answer = {"pandas": pandas_ms, "numpy": numpy_ms, "cholesky": cholesky_ms, "eigenvalues": eigenvalues_ms}
print(json.dumps(answer))
