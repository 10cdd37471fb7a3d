"""p50, p95 and p99 of operations' latencies by numpy and by DuckDB, from memory, with one thread each."""

import json
import statistics
import sys
import time

import duckdb
import numpy

ROUNDS = 5
QUANTILES = [0.5, 0.95, 0.99]

file, operations, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
values = numpy.fromfile(file, dtype="<f8").reshape(operations, calls)


def timed(what):
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        answer = what()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), answer


numpy_ms, answer = timed(
    lambda: [numpy.quantile(row, QUANTILES, method="lower").tolist() for row in values]
)

table = {"operation": numpy.repeat(numpy.arange(operations), calls), "latency": values.ravel()}
database = duckdb.connect()
database.execute("SET threads = 1")
database.execute("CREATE TABLE calls (operation INTEGER, latency DOUBLE)")
operation, latency = table["operation"], table["latency"]
database.register("table_of_calls", {"operation": operation, "latency": latency})
database.execute("INSERT INTO calls SELECT operation, latency FROM table_of_calls")
duckdb_ms, rows = timed(
    lambda: database.execute(
        "SELECT operation, quantile_disc(latency, [0.5, 0.95, 0.99]) FROM calls GROUP BY operation"
    ).fetchall()
)
assert len(rows) == operations
print(json.dumps({"numpy_ms": numpy_ms, "duckdb_ms": duckdb_ms, "quantiles": answer}))
