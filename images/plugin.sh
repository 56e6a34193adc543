#!/usr/bin/env bash
# plugin.sh VERSION ARCHITECTURE PROGRAM FOLDER: kubectl-apiquota as an archive in the folder, and its manifest for krew:
#   kubectl krew install --manifest=apiquota.yaml --archive=kubectl-apiquota_….tar.gz
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$1 architecture=$2 program=$3 out=$4
case $architecture in x86_64) go=amd64 ;; aarch64) go=arm64 ;; *) go=$architecture ;; esac
archive=kubectl-apiquota_v${version}_linux_$go.tar.gz
inside=$(mktemp -d)
trap 'rm -rf "$inside"' EXIT
install -m 0755 "$program" "$inside/kubectl-apiquota"
install -m 0644 "$here/../LICENSE" "$inside/LICENSE"
tar --create --gzip --file "$out/$archive" --directory "$inside" --owner 0 --group 0 --sort name --mtime @0 kubectl-apiquota LICENSE
cat >"$out/apiquota.yaml" <<U
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata: {name: apiquota}
spec:
  version: v$version
  shortDescription: API quotas - what is used, who waits, and why
  description: |
    Shows the ApiQuotas of Quotakeeper with all of their limits (status), who uses and waits (top), why a pod or a Job
    waits (explain), whether the installation works and which pods go around it (check), and whether a campaign fits
    its quotas (plan).
  platforms:
  - selector: {matchLabels: {os: linux, arch: $go}}
    # Where you publish the archive.
    uri: https://releases.example.com/$archive
    sha256: $(sha256sum "$out/$archive" | cut -d ' ' -f 1)
    files:
    - {from: kubectl-apiquota, to: .}
    - {from: LICENSE, to: .}
    bin: kubectl-apiquota
U
