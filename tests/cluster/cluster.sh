#!/usr/bin/env bash
# A real Kubernetes of one node, in namespaces of its own: needs root and Debian, no internet but package registries.
#   cluster.sh up               starts it and leaves it running
#   cluster.sh down             takes it down, and what killed runs left behind
#   cluster.sh run COMMAND…     starts another one, runs COMMAND with it, takes it down however this script ends
#   cluster.sh possible         says what it lacks on this machine, if anything
#   cluster.sh env              the variables to use it by, for `eval`
#   cluster.sh load ARCHIVE…    makes images of OCI archives (image.py) known to the node
#   cluster.sh second up        adds a second node, node2, with a network of its own, and the images that each node begins with
#   cluster.sh second lose      ends it as a power cut does: nobody hears of it any more
#   cluster.sh second load ARCHIVE…  makes images known to it
#   cluster.sh enter COMMAND…   runs COMMAND inside the node: its processes, files and network
#   cluster.sh net COMMAND…     runs a COMMAND of this machine in the node's network: addresses of pods and Services
# With QUOTAKEEPER_CLUSTER=existing, `run` takes the cluster that KUBECONFIG names and starts nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

cluster_names() {
  number=$1
  export QUOTAKEEPER_CLUSTER_NUMBER=$number
  directory=$cache/cluster-node-$number
  cgroup=quotakeeper-node-$number
  interface=qk-node-$number
  # 198.18.0.0/15 is for tests of networks (RFC 2544): no network that a person uses has it.
  host_address=198.18.$number.1
  node_address=198.18.$number.2
  # Between the first node and the second.
  first_address=198.18.$number.5
  second_address=198.18.$number.6
}
cluster_names "${QUOTAKEEPER_CLUSTER_NUMBER:-0}"
existing() { [[ ${QUOTAKEEPER_CLUSTER:-} = existing ]]; }

requirements() {
  local instead="or name a cluster that you have by KUBECONFIG and set QUOTAKEEPER_CLUSTER=existing; \
the control plane alone (control-plane.sh) needs neither root nor Debian"
  [[ $(uname -s) = Linux ]] || fail "the test cluster needs Linux; run it on a Debian machine, $instead"
  [[ $(id -u) = 0 ]] || fail "the test cluster needs root, for namespaces and cgroups; run it as root, $instead"
  command -v apt-get >/dev/null || fail "the test cluster takes containerd from Debian; run it on Debian, $instead"
  need ip=iproute2 unshare=util-linux nsenter=util-linux openssl=openssl python3=python3 go=golang strip=binutils
  unshare --mount --pid --net --ipc --uts --cgroup --fork true 2>/dev/null ||
    fail "the test cluster needs namespaces of its own, which this container may not make; run it in a privileged one, $instead"
}

# Sets kube, etcd, helm, debian and images: built now if they are not there.
tools() {
  local coredns
  { read -r kube && read -r etcd && read -r coredns && read -r helm; } < <(
    "$here/tools.sh" kube etcd coredns "${QUOTAKEEPER_HELM:-helm}" || echo
  ) && [[ -d $helm ]] || fail "the tools could not be built"
  debian=$("$here/debian.sh")
  images=$("$here/images.sh" "$debian" "$coredns")
}

print_environment() {
  echo "export KUBECONFIG=$directory/kubeconfig KUBECACHEDIR=$directory/kubectl-cache"
  echo "export QUOTAKEEPER_CLUSTER_NUMBER=$number QUOTAKEEPER_NODE_ADDRESS=$node_address"
  echo "export PATH=$kube:$helm:\$PATH"
}

# The node's directory in each cgroup hierarchy.
cgroups() { find /sys/fs/cgroup -type d -path "*/$cgroup${1:-}" 2>/dev/null || true; }
# All of the cluster, or with /second those of the second node.
processes() {
  local at
  for at in $(cgroups "${1:-}"); do
    find "$at" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort --numeric-sort --unique | grep -vx 0 || true
}
running() { [[ -n $(processes) ]]; }
# A node's PID 1 as it is called here: of its processes the only one of its namespace's first number so many levels down.
process_one() { # LEVELS [/second]
  local pid
  for pid in $(processes "${2:-}"); do
    if [[ $(awk -v fields=$(($1 + 2)) '/^NSpid:/ && NF == fields { print $NF }' "/proc/$pid/status" 2>/dev/null) == 1 ]]; then
      echo "$pid"
      return
    fi
  done
  return 1
}
first_process() { process_one 1 || fail "the cluster is not up; start it with: make cluster"; }
# The second node's namespaces are inside of the first one's.
second_process() { process_one 2 /second || fail "there is no second node; start it with: cluster.sh second up"; }

# Kills the node and removes what outlives it.
remove() {
  local at _
  for _ in {1..100}; do
    running || break
    # shellcheck disable=SC2046
    kill -KILL $(processes) 2>/dev/null || true
    sleep 0.05
  done
  # A network namespace, and with it the pair of interfaces, outlives its processes by minutes while a connection
  # in it waits for an answer.
  ip link delete "$interface" 2>/dev/null || true
  for _ in {1..100}; do
    at=$(cgroups)
    [[ -n $at ]] || break
    # shellcheck disable=SC2086
    find $at -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.05
  done
  rm -rf "$directory"
}

# One run at a time makes or removes a node; never held while one waits for a cluster.
alone() {
  exec 6>"$cache/cluster-node.lock"
  flock 6
  "$@" 6>&-
  exec 6>&-
}

# The run that a node belongs to, if it is still there: a number may have been given to another process since.
has_owner() {
  local pid begun
  read -r pid begun <"$directory/owner" || return 1
  [[ $(started "$pid") = "$begun" ]]
} 2>/dev/null
# When a process was started; nothing: it has ended, though its parent may not have looked yet.
started() { sed -n 's/.*) \([^ZX]\)/\1/p' "/proc/$1/stat" | cut -d' ' -f20; }

# Removes the nodes whose run was killed.
sweep() {
  local left mine=$number
  for left in "$cache"/cluster-node-[0-9]*; do
    [[ -d $left ]] || continue
    cluster_names "${left##*-}"
    if [[ -e $directory/owner ]]; then
      has_owner || remove
    elif ! running; then
      remove
    fi
  done
  cluster_names "$mine"
}

# create [owned]: starts the node's first process; with "owned", it ends with this script.
create() {
  local ending=()
  mkdir -p "$directory/log"
  if [[ ${1:-} = owned ]]; then
    echo "$$ $(started $$)" >"$directory/owner"
    ending=(setpriv --pdeathsig KILL)
  fi
  "$here/certificates.sh" "$directory" "https://$node_address:6443" "$node_address"
  export NODE=1 HERE=$here DIRECTORY=$directory KUBE=$kube ETCD=$etcd DEBIAN=$debian IMAGES=$images
  export NEIGHBOUR_INTERFACE=$interface NEIGHBOUR_ADDRESS=$host_address NODE_ADDRESS=$node_address
  make_cgroups
  (
    join_cgroups
    exec 7</proc/self/ns/net
    exec "${ending[@]}" setsid unshare --cgroup "$here/cluster.sh" process-one "/sys/fs/cgroup/$cgroup"
  ) >"$directory/log/node.log" 2>&1 </dev/null &
  disown
  for _ in {1..100}; do
    ! (first_process) &>/dev/null || return 0
    sleep 0.05
  done
  fail "the node did not start: $(tail -1 "$directory/log/node.log")"
}

# Below our own place in each hierarchy of version 1, where our own limits hold; at the top of version 2, where
# only a group without processes can hand on controllers.
make_cgroups() {
  local at own controllers file
  while IFS=: read -r _ controllers own; do
    controllers=${controllers#name=}
    if [[ -n $controllers ]]; then
      at=/sys/fs/cgroup/$controllers${own%/}/$cgroup
    elif [[ -d /sys/fs/cgroup/unified ]]; then
      at=/sys/fs/cgroup/unified${own%/}/$cgroup
    else
      at=/sys/fs/cgroup/$cgroup
    fi
    mkdir -p "$at"
    for file in cpuset.cpus cpuset.mems; do
      [[ ! -e $at/$file || -e $at/cgroup.controllers ]] || cat "${at%/*}/$file" >"$at/$file"
    done
  done </proc/self/cgroup
}
join_cgroups() {
  local at
  for at in $(cgroups "${1:-}"); do
    echo "$BASHPID" >"$at/cgroup.procs"
  done
}

second_up() {
  local pid at file
  pid=$(first_process)
  ! process_one 2 /second >/dev/null || return 0
  export KUBECONFIG=$directory/kubeconfig KUBECACHEDIR=$directory/kubectl-cache
  # One that was lost still counts as ready for a while.
  "$kube/kubectl" delete node node2 --ignore-not-found
  rm -rf "$directory/node2"
  mkdir -p "$directory/node2/log"
  "$here/certificates.sh" --node node2 "$directory" "https://$node_address:6443" "$second_address"
  for at in $(cgroups); do
    mkdir -p "$at/second"
    for file in cpuset.cpus cpuset.mems; do
      [[ ! -e $at/second/$file || -e $at/cgroup.controllers ]] || cat "$at/$file" >"$at/second/$file"
    done
  done
  # All as the first node sees it.
  export NODE=2 HERE=/run/recipe DIRECTORY=/run/node/node2 KUBE=/run/kube ETCD=/run/etcd DEBIAN=/run/debian \
    IMAGES=/run/images NEIGHBOUR_INTERFACE=node2 NEIGHBOUR_ADDRESS=$first_address NODE_ADDRESS=$second_address
  (
    join_cgroups /second
    exec 7<"/proc/$pid/ns/net"
    exec setsid nsenter --target "$pid" --mount --pid --net --ipc --uts -- unshare --cgroup \
      /run/recipe/cluster.sh process-one /sys/fs/cgroup/second
  ) >"$directory/node2/log/node.log" 2>&1 </dev/null &
  disown
  wait_until "node2 is ready" "$kube/kubectl" wait --for=condition=Ready node/node2 --timeout=5s
}

# Its neighbour hears no farewell.
second_lose() {
  local pid first
  first=$(first_process)
  nsenter --target "$first" --net ip link set node2 down 2>/dev/null || true
  for pid in $(processes /second); do
    kill -KILL "$pid" 2>/dev/null || true
  done
  nsenter --target "$first" --net ip link delete node2 2>/dev/null || true
}

begun=${EPOCHREALTIME/./}
wait_until() { # WHAT COMMAND…
  local what=$1 tenths deadline=$((SECONDS + 120))
  shift
  until "$@" &>/dev/null; do
    running || fail "the node ended; the end of its log: $(tail -1 "$directory/log/node.log")"
    ((SECONDS < deadline)) || fail "not in time: $what; the logs are in $directory/log"
    sleep 0.1
  done
  tenths=$(((${EPOCHREALTIME/./} - begun) / 100000))
  say "$(printf '%3d.%d s  %s' $((tenths / 10)) $((tenths % 10)) "$what")"
}

wait_until_ready() {
  begun=${EPOCHREALTIME/./}
  export KUBECONFIG=$directory/kubeconfig KUBECACHEDIR=$directory/kubectl-cache
  wait_until "API server is ready" "$kube/kubectl" get --raw /readyz
  wait_until "add-ons are applied" "$kube/kubectl" apply -f "$here/node/addons"
  wait_until "node is ready" "$kube/kubectl" wait --for=condition=Ready node/node1 --timeout=5s
  wait_until "DNS answers" "$here/cluster.sh" net timeout 1 bash -c '</dev/tcp/10.96.0.10/53'
}

up() {
  if existing; then fail "QUOTAKEEPER_CLUSTER=existing names a cluster that is up already; unset it to start one"; fi
  requirements
  tools
  alone sweep
  if ! running; then
    trap remove EXIT
    trap 'exit 130' INT TERM HUP
    alone create
  fi
  wait_until_ready
  trap - EXIT INT TERM HUP
  cat <<U
Kubernetes $("$kube/kubectl" version -o json | sed -n 's/.*"gitVersion": "\(.*\)".*/\1/p' | tail -1) is up. In your shell:
  eval "\$($here/cluster.sh env)"
which is
$(print_environment | sed 's/^/  /')
NodePorts answer at $node_address. Images: $here/cluster.sh load ARCHIVE
To take it down: make cluster-down
U
}

run() {
  (($#)) || fail "run what? cluster.sh run COMMAND…"
  if existing; then
    need kubectl=kubernetes-client
    kubectl get --raw /readyz >/dev/null || fail "the cluster of KUBECONFIG does not answer; see the line above"
    exec "$@"
  fi
  requirements
  tools
  trap 'end 130' INT
  trap 'end 143' TERM HUP
  alone take
  wait_until_ready
  eval "$(print_environment)"
  # Waited for, so that a signal is acted on at once; a shell's background commands ignore Ctrl-C unless told.
  env --default-signal=INT,QUIT setpriv --pdeathsig KILL "$@" <&0 &
  command=$!
  wait "$command"
}

# The first number that no cluster has.
take() {
  sweep
  for number in {1..99}; do
    cluster_names "$number"
    if [[ ! -d $directory ]]; then
      trap remove EXIT
      create owned
      return
    fi
  done
  fail "99 clusters are up"
}

# end STATUS: lets the command end by itself for a while, and ends.
end() {
  trap '' INT TERM HUP
  [[ -z ${command:-} ]] || end_in_time "$command"
  exit "$1"
}

load() { # PROCESS ARCHIVE…
  local pid=$1 archive
  shift
  for archive in "$@"; do
    nsenter --target "$pid" --all /run/debian/usr/bin/ctr --namespace k8s.io images import - <"$archive"
  done
}

verb=${1:-}
shift || true
case $verb in
  up) up ;;
  run) run "$@" ;;
  possible) requirements ;;
  down)
    requirements
    alone sweep
    alone remove
    ;;
  env)
    running || fail "the cluster is not up; start it with: make cluster"
    tools
    print_environment
    ;;
  load)
    if existing; then fail "images reach an existing cluster by a registry that it knows, not by load"; fi
    load "$(first_process)" "$@"
    ;;
  second)
    case ${1:-} in
      up)
        requirements
        tools
        second_up
        ;;
      lose) second_lose ;;
      load) load "$(second_process)" "${@:2}" ;;
      *) fail "second what? up, lose or load ARCHIVE…" ;;
    esac
    ;;
  enter)
    pid=$(first_process)
    exec nsenter --target "$pid" --all env PATH="/run/kube:/run/debian/usr/sbin:/run/debian/usr/bin:$PATH" \
      LD_LIBRARY_PATH="/run/debian/usr/lib/$(uname -m)-linux-gnu:/run/debian/lib/$(uname -m)-linux-gnu" "$@"
    ;;
  net)
    pid=$(first_process)
    exec nsenter --target "$pid" --net "$@"
    ;;
  process-one) # CGROUP, in version 2: one that hands on controllers has no processes itself
    if [[ ! -d /sys/fs/cgroup/unified && -e $1/cgroup.controllers ]]; then
      mkdir "$1/init"
      echo $$ >"$1/init/cgroup.procs"
    fi
    exec unshare --net --pid --mount --ipc --uts --fork --kill-child --mount-proc "$here/node.sh"
    ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \?//p}' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
