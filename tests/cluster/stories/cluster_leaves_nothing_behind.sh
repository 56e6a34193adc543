#!/usr/bin/env bash
# The test cluster is real, and leaves nothing behind, however it ends. About a minute once the tools are built.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/story.sh"
stories=$here/stories
cluster=$here/cluster.sh
control_plane=$here/control-plane.sh
# Beside a cluster that somebody has up by `make cluster`.
export QUOTAKEEPER_CLUSTER_NUMBER=99
unset QUOTAKEEPER_CLUSTER KUBECONFIG
"$cluster" down
trap 'rm -rf "$scratch"; "$cluster" down' EXIT

# What a cluster could leave on this machine, sorted.
remains() {
  local path
  ip -brief link | awk '{ sub(/@.*/, "", $1); print "link", $1 }'
  ip route | sed 's/^/route /'
  cut -d' ' -f2,3 /proc/mounts | sed 's/^/mount /'
  [[ ! -e /proc/modules ]] || cut -d' ' -f1 /proc/modules | sed 's/^/module /'
  find /sys/fs/cgroup -type d -name 'quotakeeper-*'
  # Whatever else comes and goes there meanwhile is none of ours.
  find /run /var/lib /etc /opt /usr/libexec "$HOME/.kube" -maxdepth 1 2>/dev/null |
    grep -E 'cni|containerd|crictl|etcd|flannel|kube|lock|netns|nft|quotakeeper|runc|xtables' || true
  find "$cache" -maxdepth 1 \( -name 'cluster-node-*[0-9]' -o -name 'cluster-control-plane-*' \)
  for path in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys \
    kernel/keys/root_maxbytes net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables; do
    [[ ! -e /proc/sys/$path ]] || echo "setting $path $(<"/proc/sys/$path")"
  done
  debian=$("$here/debian.sh")
  LD_LIBRARY_PATH=$(printf '%s:' "$debian"/{usr/,}lib/*-linux-gnu*) "$debian/usr/sbin/nft" list ruleset
}
same_as_before() {
  remains | sort >"$scratch/after"
  diff "$scratch/before" "$scratch/after" >&2
}
# Orphans of a killed run need a moment.
nothing_is_left() { # WHAT
  eventually 30 same_as_before || true
  holds "$1" same_as_before
}
gone() { ! grep -qzx "STORY=$mark" /proc/[0-9]*/environ 2>/dev/null; }

# begin NAME COMMAND…: in the background, in a process group of its own, as from a terminal; marks its processes.
begin() {
  local name=$1
  shift
  mark=$name-$$
  env --default-signal=INT,QUIT "STORY=$mark" setsid "$@" >"$scratch/$name.out" 2>"$scratch/$name.err" </dev/null &
  begun=$!
}
has_said() { grep -q "$2" "$scratch/$1.err"; }
has_put() { grep -q "$2" "$scratch/$1.out"; }

say "before"
remains | sort >"$scratch/before"

story "a cluster is started; pods, DNS and Services work in it"
"$cluster" up >"$scratch/usage"
holds "make cluster says how to use it" grep -q '^  export KUBECONFIG=' "$scratch/usage"
eval "$("$cluster" env)"
server=$(kubectl version -o json | python3 -c 'import json, sys; v = json.load(sys.stdin); print(v["clientVersion"]["gitVersion"], v["serverVersion"]["gitVersion"])')
holds "kubectl is first in PATH and of the API server's version: $server" test "${server% *}" = "${server#* }"
"$here/image.py" localhost/loaded:1 "$scratch/loaded.tar" --entrypoint /hello <(printf '#!/bin/sh\n')=/hello >/dev/null
"$cluster" load "$scratch/loaded.tar" >/dev/null
holds "an image is loaded" "$cluster" enter sh -c 'ctr --namespace k8s.io images check | grep -q localhost/loaded:1'
kubectl apply --warnings-as-errors -f "$stories/workload.yaml" >/dev/null
holds "restricted pods run" kubectl -n story rollout status deployment/server --timeout=120s
holds "a Job with a sidecar completes" kubectl -n story wait --for=condition=Complete job/client --timeout=120s
kubectl -n story logs job/client -c client >"$scratch/log"
holds "it found the Service by its name" grep -q '^server-' "$scratch/log"
holds "and its sidecar" grep -q '^sidecar$' "$scratch/log"
holds "the NodePort answers here" eventually 10 bash -c 'exec 3<>/dev/tcp/$QUOTAKEEPER_NODE_ADDRESS/30080'
kubectl -n kube-system create configmap coredns-hosts --from-literal=hosts='198.51.100.7 api.hubapi.com' >/dev/null
kubectl -n kube-system rollout restart deployment/coredns >/dev/null
holds "DNS takes names of the outside world" kubectl -n kube-system rollout status deployment/coredns --timeout=120s
found() { kubectl -n story exec deployment/server -- nslookup api.hubapi.com 2>/dev/null | grep -q 198.51.100.7; }
holds "and gives them to pods" eventually 30 found
"$cluster" second up
kubectl run there --image=localhost/busybox:1 --image-pull-policy=Never --restart=Never \
  --overrides='{"spec": {"nodeName": "node2"}}' -- nslookup server.story.svc.cluster.local >/dev/null
holds "a pod of a second node is answered by the first one's" \
  kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/there --timeout=60s >/dev/null
"$cluster" second lose
"$cluster" second up
holds "another node takes the place of one that is lost" kubectl wait --for=condition=Ready node/node2 --timeout=60s >/dev/null
holds "a second up finds it" "$cluster" up >"$scratch/usage"
holds "down" "$cluster" down
nothing_is_left "nothing is left"

story "a command is run with a cluster of its own"
status=0
"$cluster" run bash -c 'kubectl get nodes -o name; exit 7' >"$scratch/nodes" || status=$?
holds "the command reached it" grep -q '^node/node1$' "$scratch/nodes"
holds "its status is the run's" test "$status" = 7
nothing_is_left "nothing is left"

story "Ctrl-C in the middle"
begin interrupted "$cluster" run bash -c 'echo running; exec sleep 1000'
holds "the command runs" eventually 180 has_put interrupted running
kill -INT -- "-$begun"
status=0
wait "$begun" || status=$?
holds "the run ends as interrupted" test "$status" = 130
nothing_is_left "nothing is left"

story "SIGKILL in the middle"
begin killed "$cluster" run bash -c 'echo running; exec sleep 1000'
holds "the command runs" eventually 180 has_put killed running
holds "its processes are known by their mark" bash -c "grep -qzx STORY=$mark /proc/[0-9]*/environ 2>/dev/null"
disown
kill -KILL "$begun"
holds "every process ends by itself" eventually 30 gone
"$cluster" down
nothing_is_left "after down nothing is left"

story "SIGKILL while it starts"
begin starting "$cluster" run true
holds "it starts" eventually 60 has_said starting 'API server is ready'
disown
kill -KILL "$begun"
holds "every process ends by itself" eventually 30 gone
"$cluster" down
nothing_is_left "after down nothing is left"

story "SIGKILL of a control plane"
begin plane "$control_plane" run bash -c 'echo running; exec sleep 1000'
holds "the command runs" eventually 60 has_put plane running
disown
kill -KILL "$begun"
holds "every process ends by itself" eventually 30 gone
"$control_plane" run true
nothing_is_left "the next run leaves nothing"

story "without root"
# In a user namespace without a mapping nobody is root.
holds "up refuses" bash -c '! unshare --user "$0" up 2>"$1"' "$cluster" "$scratch/refusal"
holds "and says what to do instead" grep -q 'QUOTAKEEPER_CLUSTER=existing; the control plane alone' "$scratch/refusal"

finish
