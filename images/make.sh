#!/usr/bin/env bash
# make.sh: builds the images that a user's cluster runs and writes them as OCI archives; prints their folder.
# quotakeeper.tar (operator, limiter) and quotakeeper-proxy.tar hold one static program and the public CAs each, by the
# names that the chart has by default: a node that they are loaded on needs no registry. Beside them are kubectl-apiquota
# as an archive with a manifest for krew, bills of materials (CycloneDX) and checksums.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../tests/cluster/cache.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
need cargo=cargo python3=python3

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml" | head -1)
architecture=$(uname -m)
triple=$architecture-unknown-linux-gnu
target=${CARGO_TARGET_DIR:-$here/../target}
out=$target/images-$version
roots=/etc/ssl/certs/ca-certificates.crt
# The public CAs of Debian's package, not those that this machine trusts beside them.
public=$(mktemp)
trap 'rm -f "$public"' EXIT
cat /usr/share/ca-certificates/mozilla/*.crt >"$public" || fail "Debian's ca-certificates is missing"

say "building $version for $architecture; the first time takes some minutes"
# For the target alone: procedural macros can't be static. Panics name files as they are in the sources, not where they
# lay on the machine that built them.
sources=$(cd "$here/.." && pwd)
crates=${CARGO_HOME:-$HOME/.cargo}/registry/src
(cd "$sources" && RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$sources=quotakeeper --remap-path-prefix=$crates=crates" \
  cargo build --locked --release --target "$triple" -p quotakeeper -p quotakeeper-proxy --bins) >&2
mkdir -p "$out"
for name in quotakeeper quotakeeper-proxy; do
  program=$target/$triple/release/$name
  "$here/../tests/cluster/image.py" "localhost/$name:$version" "$out/$name.tar" --entrypoint "/$name" \
    "$program=/$name" "$public=$roots"
  say "localhost/$name:$version is $(du -h "$out/$name.tar" | cut -f1)"
  "$here/sbom.py" "$name" "$triple" >"$out/$name.cdx.json"
done
"$here/plugin.sh" "$version" "$architecture" "$target/$triple/release/quotakeeper" "$out"
(cd "$out" && sha256sum ./*.tar ./*.tar.gz ./*.cdx.json >SHA256SUMS)
echo "$out"
