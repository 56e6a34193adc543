#!/usr/bin/env bash
# The control plane alone, for tests that need no pods: etcd and an API server on 127.0.0.1, as any user, in seconds.
#   control-plane.sh run [--controllers] COMMAND…   starts them, runs COMMAND with KUBECONFIG and kubectl, ends them
#   control-plane.sh up [--controllers]             starts them and waits for Ctrl-C
#   control-plane.sh possible                       says what they lack on this machine, if anything
# With --controllers the controller manager runs too (namespaces end, owned objects are collected). Any number may run
# side by side; each has a directory of its own in the cache, removed at the end, or by the next run where a
# run was killed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

verb=${1:-}
shift || true
controllers=
if [[ ${1:-} = --controllers ]]; then
  controllers=1
  shift
fi
case $verb in
  up | possible) ;;
  run) (($#)) || fail "run what? control-plane.sh run COMMAND…" ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \?//p}' "${BASH_SOURCE[0]}"
    exit 2
    ;;
esac
[[ $(uname -s) = Linux ]] || fail "the control plane needs Linux; run it in a container or on another machine"
need openssl=openssl setpriv=util-linux flock=util-linux
[[ $verb != possible ]] || { need go=golang && exit; }
{ read -r kube && read -r etcd; } < <("$here/tools.sh" kube etcd || echo) && [[ -d $etcd ]] ||
  fail "the tools could not be built"

# A directory's lock is held as long as its run lives: of a killed one it is free.
exec 9>"$cache/cluster-control-plane.lock"
flock 9
for left in "$cache"/cluster-control-plane-*/; do
  [[ ! -d $left ]] || flock --nonblock "${left}lock" rm -rf "$left" || true
done
directory=$(mktemp -d "$cache/cluster-control-plane-XXXXXX")
exec 8>"$directory/lock"
flock 8
exec 9>&-

processes=()
end() {
  trap '' INT TERM HUP
  # The API server would wait 20 s for an etcd that is gone.
  ((${#processes[@]} == 0)) || kill -KILL "${processes[@]}" 2>/dev/null || true
  wait 2>/dev/null
  rm -rf "$directory"
}
trap end EXIT
trap 'stop 130' INT
trap 'stop 143' TERM HUP

# stop STATUS: lets the command end by itself for a while, and ends.
stop() {
  [[ -z ${command:-} ]] || end_in_time "$command"
  exit "$1"
}

start() { # NAME COMMAND…: ends with this script, however that ends
  local name=$1
  shift
  # In its own directory, so that the paths of its sockets stay short.
  (cd "$directory" && exec setpriv --pdeathsig KILL "$@" >"$name.log" 2>&1 </dev/null 8>&-) &
  processes+=($!)
}

start_api_server() {
  local port begun=$SECONDS
  # Should another program take it before the API server does, that ends, and another port is tried.
  port=$(free_ports 20000 12000 1)
  "$here/certificates.sh" "$directory" "https://127.0.0.1:$port" 127.0.0.1
  start kube-apiserver "$kube/kube-apiserver" --etcd-servers=unix://client.sock:0 \
    --bind-address=127.0.0.1 --secure-port="$port" \
    --endpoint-reconciler-type=none --service-cluster-ip-range=10.96.0.0/16 \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key --authorization-mode=RBAC
  until "$kube/kubectl" get --raw /readyz &>/dev/null; do
    kill -0 "${processes[-1]}" 2>/dev/null || return 1
    ((SECONDS - begun < 60)) || return 1
    sleep 0.1
  done
}

export KUBECONFIG=$directory/kubeconfig KUBECACHEDIR=$directory/kubectl-cache PATH=$kube:$PATH
begun=${EPOCHREALTIME/./}
start etcd "$etcd/etcd" --data-dir=etcd --unsafe-no-fsync --log-level=warn \
  --listen-client-urls=unix://client.sock:0 --advertise-client-urls=unix://client.sock:0 \
  --listen-peer-urls=unix://peer.sock:0 --initial-advertise-peer-urls=http://localhost:2380 \
  --initial-cluster=default=http://localhost:2380
start_api_server || start_api_server || start_api_server ||
  fail "the API server did not start: $(tail -1 "$directory/kube-apiserver.log")"
if [[ -n $controllers ]]; then
  start kube-controller-manager "$kube/kube-controller-manager" --kubeconfig=pki/controller-manager.kubeconfig \
    --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt --secure-port=0 \
    --flex-volume-plugin-dir=volume-plugins --kube-api-qps=500 --kube-api-burst=1000 \
    --use-service-account-credentials=true --leader-elect=false
fi
say "the control plane is ready after $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"

if [[ $verb = up ]]; then
  cat <<U
In another shell:
  export KUBECONFIG=$KUBECONFIG KUBECACHEDIR=$KUBECACHEDIR PATH=$kube:\$PATH
Ctrl-C here ends it.
U
  wait "${processes[0]}"
else
  # Waited for, so that a signal is acted on at once; a shell's background commands ignore Ctrl-C unless told.
  env --default-signal=INT,QUIT setpriv --pdeathsig KILL "$@" <&0 8>&- &
  command=$!
  wait "$command"
fi
