#!/usr/bin/env bash
# Generates the Python stubs of the contract:
#
#   generate.sh FOLDER     into FOLDER, which then belongs into PYTHONPATH
#
# PYTHON names the interpreter that has the packages of requirements.txt; python3 by default.
set -euo pipefail
if [ $# != 1 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../../../proto"
"${PYTHON:-python3}" -m grpc_tools.protoc -I . --python_out="$out" --grpc_python_out="$out" genesis/v1/*.proto
