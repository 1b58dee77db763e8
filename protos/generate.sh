#!/bin/sh
# Generates the Python code of all .proto files, by default beside them.
# Usage: protos/generate.sh [OUT]   (PYTHON: the interpreter of the environment with the `test` extra)
set -eu
cd "$(dirname "$0")/.."
out=${1:-.pkgroot}
python=$(command -v "${PYTHON:-python}")
PATH=$(dirname "$python"):$PATH
"$python" -m grpc_tools.protoc -I affectline/protos=protos \
    --python_out="$out" --mypy_out="$out" --grpc_python_out="$out" --mypy_grpc_out="$out" \
    protos/v1/*.proto
