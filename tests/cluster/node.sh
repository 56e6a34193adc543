#!/usr/bin/env bash
# node.sh: PID 1 of a node. cluster.sh starts it in new PID, mount, network, IPC, UTS and cgroup namespaces, with
# descriptor 7 open on the network namespace that it is a neighbour of: the host's, or for a second node the first one's.
# All that is made here lives in those namespaces or in the node's directory: killing this process is the whole teardown
# but for empty cgroups.
# Environment: NODE (its number; the first one has the control plane), HERE, DIRECTORY, KUBE, ETCD, DEBIAN, IMAGES,
# NEIGHBOUR_INTERFACE, NEIGHBOUR_ADDRESS, NODE_ADDRESS.
set -euo pipefail
pods=10.244.$((NODE - 1)).0/24

# Files: the node sees its own at fixed paths, wherever they lie.
mount --make-rshared /
mkdir "$DIRECTORY/var-lib"
declare -A opened
bind_into_run() {
  local name
  for name in node kube etcd debian images recipe; do
    mkdir "/run/$name"
    mount --no-canonicalize --bind "/proc/self/fd/${opened[$name]}" "/run/$name"
  done
}
open() { # NAME PATH: before a mount hides the path
  local descriptor
  exec {descriptor}<"$2"
  opened[$1]=$descriptor
}
open node "$DIRECTORY"
open kube "$KUBE"
open etcd "$ETCD"
open debian "$DEBIAN"
open images "$IMAGES"
open recipe "$HERE"
mount -t tmpfs -o mode=755 tmpfs /run
bind_into_run
for descriptor in "${opened[@]}"; do
  exec {descriptor}<&-
done
mkdir /run/{lock,cni,conf,sysctl,netns}
for file in containerd.toml kubelet.yaml kube-proxy.yaml cni.conflist; do
  sed "s,NODE,node$NODE,; s,PODS,$pods," "/run/recipe/node/$file" >"/run/conf/$file"
done
mv /run/conf/cni.conflist /run/cni/10-pods.conflist
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --bind /run/node/var-lib /var/lib
mount --bind /run/node/log /var/log
# Images and what containers write: without waiting for a disk.
mkdir /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/containerd
hostname "node$NODE"

# The node's own view of its devices and of each cgroup hierarchy.
mount -t sysfs sysfs /sys
if [[ $(cut -d: -f1,2 /proc/self/cgroup) == 0: ]]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  for controller in $(</sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
  done
else
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  while IFS=: read -r _ controllers _; do
    case $controllers in
      '') type=cgroup2 name=unified options=rw ;;
      name=*) type=cgroup name=${controllers#name=} options=none,$controllers ;;
      *) type=cgroup name=$controllers options=$controllers ;;
    esac
    mkdir "/sys/fs/cgroup/$name"
    mount -t "$type" -o "$options" cgroup "/sys/fs/cgroup/$name"
  done </proc/self/cgroup
fi

# The kubelet insists on settings of the whole machine: it gets files that hold them.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  path=${setting%=*}
  file=/run/sysctl/${path//\//.}
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/$path"
done

# Network: a pair of interfaces to the neighbour carries the node's address. Nothing is forwarded beyond the first node.
at_neighbour() { nsenter --net=/proc/self/fd/7 "$@"; }
ip link set lo up
at_neighbour ip link add "$NEIGHBOUR_INTERFACE" type veth peer name eth0 netns $$
at_neighbour ip address add "$NEIGHBOUR_ADDRESS/30" dev "$NEIGHBOUR_INTERFACE"
at_neighbour ip link set "$NEIGHBOUR_INTERFACE" up
ip address add "$NODE_ADDRESS/30" dev eth0
ip link set eth0 up
# ClusterIPs are translated only after a route is found.
ip route add default via "$NEIGHBOUR_ADDRESS"
((NODE == 1)) || at_neighbour ip route add "$pods" via "$NODE_ADDRESS"
exec 7<&-
echo 1 >/proc/sys/net/ipv4/ip_forward

# Components: each is started again a second after it ends, and writes to the node's log directory.
export PATH=/run/kube:/run/etcd:/run/debian/usr/sbin:/run/debian/usr/bin:/run/debian/sbin:/run/debian/bin:$PATH
libraries=/run/debian/usr/lib/$(uname -m)-linux-gnu:/run/debian/lib/$(uname -m)-linux-gnu
pki=/run/node/pki
supervise() { # NAME COMMAND…
  local log=/var/log/$1.log
  shift
  (
    while :; do
      "$@" >>"$log" 2>&1 </dev/null || echo "--- ended with $?" >>"$log"
      sleep 1
    done
  ) &
}
supervise containerd env LD_LIBRARY_PATH="$libraries" containerd --config=/run/conf/containerd.toml
control_plane() {
  supervise etcd etcd --data-dir=/var/lib/etcd --unsafe-no-fsync --log-level=warn \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380
  supervise kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$NODE_ADDRESS" --service-cluster-ip-range=10.96.0.0/16 \
    --tls-cert-file=$pki/apiserver.crt --tls-private-key-file=$pki/apiserver.key --client-ca-file=$pki/ca.crt \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=$pki/sa.pub --service-account-signing-key-file=$pki/sa.key \
    --kubelet-client-certificate=$pki/admin.crt --kubelet-client-key=$pki/admin.key \
    --kubelet-certificate-authority=$pki/ca.crt --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file=$pki/ca.crt --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file=$pki/front-proxy.crt --proxy-client-key-file=$pki/front-proxy.key \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
  # At the default of 20 requests a second the controllers alone take 4 s to start.
  supervise kube-controller-manager kube-controller-manager --kubeconfig=$pki/controller-manager.kubeconfig \
    --service-account-private-key-file=$pki/sa.key --root-ca-file=$pki/ca.crt --kube-api-qps=500 --kube-api-burst=1000 \
    --use-service-account-credentials=true --leader-elect=false \
    --flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins
  supervise kube-scheduler kube-scheduler --kubeconfig=$pki/scheduler.kubeconfig --leader-elect=false
}
((NODE > 1)) || control_plane
supervise kube-proxy env LD_LIBRARY_PATH="$libraries" kube-proxy --config=/run/conf/kube-proxy.yaml

for _ in {1..300}; do
  ! ctr version &>/dev/null || break
  sleep 0.1
done
for image in /run/images/*.tar; do
  ctr --namespace k8s.io images import "$image"
done
supervise kubelet kubelet --config=/run/conf/kubelet.yaml --kubeconfig=$pki/kubelet.kubeconfig \
  --hostname-override="node$NODE" --node-ip="$NODE_ADDRESS"
wait
