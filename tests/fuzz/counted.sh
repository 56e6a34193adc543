#!/usr/bin/env bash
# counted.sh RUSTC ARGUMENT…: compiles a crate so that it counts its branches for libFuzzer. LLVM's pass is in stable
# compilers: no nightly is needed. Cargo calls it for the crates of this workspace alone.
set -euo pipefail
# Build scripts run without the fuzzer.
[[ " $* " != *" --crate-name build_script_"* ]] || exec "$@"
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
