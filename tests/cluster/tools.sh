#!/usr/bin/env bash
# tools.sh NAME…: builds tools from the pinned Go modules of tools/NAME, once, and prints for each the directory
# that holds it. Names: kube (API server, controller manager, scheduler, kubelet, kube-proxy, kubectl), etcd,
# coredns, helm, helm3. Go's own caches take up to 9 GB meanwhile and are removed after; yours are used, and kept,
# where you name them (GOMODCACHE and GOCACHE, in the environment or by `go env -w`).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

go_caches=$cache/cluster-building

module_of() {
  case $1 in
    kube) echo k8s.io/kubernetes ;;
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    coredns) echo github.com/coredns/coredns ;;
    helm) echo helm.sh/helm/v4 ;;
    helm3) echo helm.sh/helm/v3 ;;
    *) fail "no tool $1; there are kube, etcd, coredns, helm and helm3" ;;
  esac
}

# Where its own code keeps the version that it tells.
link_flags() {
  local flags="-s -w"
  case $name in
    kube)
      local at=k8s.io/component-base/version major minor
      IFS=. read -r major minor _ <<<"${version#v}"
      flags+=" -X $at.gitVersion=$version -X $at.gitMajor=$major -X $at.gitMinor=$minor -X $at.gitTreeState=clean"
      ;;
    helm) flags+=" -X $module/internal/version.version=$version" ;;
    helm3)
      # The Kubernetes that it renders for where it does not ask a cluster.
      local at=$module/pkg/chartutil client
      client=$(awk '$1 == "k8s.io/client-go" { print $2 }' "$sources/go.mod")
      IFS=. read -r _ client _ <<<"$client"
      flags+=" -X $module/internal/version.version=$version -X $at.k8sVersionMajor=1 -X $at.k8sVersionMinor=$client"
      ;;
  esac
  echo "$flags"
}

# progress WHAT TOTAL: of go's lines, counts those that tell of progress and lets the others through.
progress() {
  local what=$1 total=$2 count=0 shown=$SECONDS line status
  while :; do
    status=0
    IFS= read -r -t 5 line || status=$?
    if ((status == 0)); then
      if [[ $line == "go: downloading "* || $line =~ ^[a-z0-9][^[:space:]]*$ ]]; then
        ((count += 1))
      else
        say "$line"
      fi
    elif ((status <= 128)); then
      return 0
    fi
    if ((SECONDS - shown >= 10)); then
      shown=$SECONDS
      say "  $name: $count of $total $what, $((SECONDS - begun)) s"
    fi
  done
}

build() {
  local out=$1 kept what=tool begun=$SECONDS total
  need go=golang nice=coreutils
  say "building $name $version from Go modules; the first time only"
  for kept in GOMODCACHE GOCACHE; do
    if [[ -z ${!kept:-} && -z $(go env -changed "$kept") ]]; then
      export "$kept=$go_caches/$kept"
    fi
  done
  export CGO_ENABLED=0 GOWORK=off GOFLAGS
  GOFLAGS="$(go env GOFLAGS) -mod=readonly -modcacherw -trimpath -buildvcs=false"
  [[ -e $sources/main.go ]] && what=.
  cd "$sources"
  total=$(grep -cE '^\s*[^ ]+ v[^ ]+( // indirect)?$' go.mod)
  go list -deps "$what" 2>&1 >"$out/packages" | progress "modules fetched" "$total"
  total=$(wc -l <"$out/packages")
  rm "$out/packages"
  nice -n 10 go build -v -ldflags "$(link_flags)" -o "$out/" "$what" 2>&1 | progress "packages compiled" "$total"
  [[ ! -e $out/server ]] || mv "$out/server" "$out/etcd"
}

for name in "$@"; do
  module=$(module_of "$name")
  sources=$here/tools/$name
  version=$(awk -v module="$module" '{ sub(/^require /, "") } $1 == module { print $2 }' "$sources/go.mod")
  once "cluster-$name-$version-$(pins "$sources"/*)" build
done
# Who still builds needs them, and removes them after.
exec 9>"$cache/cluster-building.lock"
! flock --nonblock 9 || rm -rf "$go_caches"
