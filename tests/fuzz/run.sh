#!/usr/bin/env bash
# run.sh MINUTES [TARGET…]: has libFuzzer make up inputs of each target for so long, one target after the other. What it
# finds worth keeping, beside the good inputs that it begins with, goes into the target's corpus, as little as covers as
# much. An input that breaks something is kept as broken/TARGET-…, and the run fails at its end.
# It needs a C++ compiler, and no nightly.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
minutes=${1:?run.sh MINUTES [TARGET…]}
shift

# More inputs are not kept of a target, the smallest first.
most_kept=${MOST_KEPT:-400}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}
RUSTC_WORKSPACE_WRAPPER=$PWD/counted.sh cargo build --quiet --features libfuzzer --bin fuzz
# Others build there too.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
program=$scratch/fuzz
cp "$CARGO_TARGET_DIR/debug/fuzz" "$program"
known=$("$program")
[[ $# -gt 0 ]] || mapfile -t names < <(cut -d ' ' -f 1 <<<"$known")
[[ $# -eq 0 ]] || names=("$@")

failed=()
for name in "${names[@]}"; do
  longest=$(awk -v name="$name" '$1 == name { print $2 }' <<<"$known")
  [[ -n $longest ]] || { echo "fuzz: $name is no target; there are $(cut -d ' ' -f 1 <<<"$known" | tr '\n' ' ')" >&2; exit 1; }
  mkdir -p "corpus/$name" broken "$scratch/$name/seeds" "$scratch/$name/grown" "$scratch/$name/least"
  TARGET=$name SEEDS=$scratch/$name/seeds "$program" >/dev/null
  echo "▶ fuzz $name for $minutes minutes"
  if ! TARGET=$name "$program" -max_total_time=$((minutes * 60)) -max_len="$longest" -timeout=20 -rss_limit_mb=2048 \
    -artifact_prefix="broken/$name-" -print_final_stats=1 -verbosity=1 \
    "$scratch/$name/grown" "corpus/$name" "$scratch/$name/seeds" >"$scratch/$name.log" 2>&1; then
    failed+=("$name")
    tail -n 40 "$scratch/$name.log"
  fi
  grep -E '^stat::(number_of_executed_units|average_exec_per_sec|new_units_added|slowest_unit|peak_rss)' "$scratch/$name.log" || true
  TARGET=$name "$program" -merge=1 -max_len="$longest" -timeout=20 \
    "$scratch/$name/least" "corpus/$name" "$scratch/$name/grown" "$scratch/$name/seeds" >"$scratch/$name-merge.log" 2>&1 ||
    { tail -n 5 "$scratch/$name-merge.log"; continue; }
  # The smallest first: they cover most.
  rm -rf "corpus/${name:?}"
  mkdir "corpus/$name"
  find "$scratch/$name/least" -type f -printf '%s %p\n' | sort -n | sed "$((most_kept + 1)),\$d" | cut -d ' ' -f 2- |
    xargs --no-run-if-empty -d '\n' cp --target-directory "corpus/$name"
  echo "  the corpus of $name has $(find "corpus/$name" -type f | wc -l) inputs, $(du -sb "corpus/$name" | cut -f 1) bytes"
done
rmdir broken 2>/dev/null || true
[[ ${#failed[@]} -eq 0 ]] || { echo "fuzz: broken: ${failed[*]}; try one again by fuzz FILE" >&2; exit 1; }
