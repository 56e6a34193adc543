#!/usr/bin/env bash
# certificates.sh DIRECTORY SERVER ADDRESS: a CA, certificates for a year and kubeconfigs, made in DIRECTORY/pki;
# DIRECTORY/kubeconfig is the administrator's, for SERVER (https://HOST:PORT). The API server's certificate holds for
# ADDRESS and 127.0.0.1; the components' kubeconfigs use the latter.
# certificates.sh --node NODE FIRST SERVER ADDRESS: what another node needs that is called NODE and has ADDRESS, made in
# FIRST/NODE/pki by the CA of FIRST, the first node's directory.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
need openssl=openssl
node=node1
if [[ $1 = --node ]]; then
  node=$2 first=$3
  shift 2
fi
directory=$1 server=$2 address=$3
[[ -z ${first:-} ]] || directory=$first/$node
umask 077
mkdir -p "$directory/pki"
cd "$directory/pki"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# certificate FILE SUBJECT [ALTERNATIVE-NAMES]
certificate() {
  key "$1"
  openssl req -new -key "$1.key" -subj "$2" | openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 \
    -out "$1.crt" -extfile <(
      echo "keyUsage = digitalSignature"
      echo "extendedKeyUsage = serverAuth, clientAuth"
      [[ -z ${3:-} ]] || echo "subjectAltName = $3"
    ) 2>/dev/null
}

# kubeconfig FILE USER SERVER
kubeconfig() {
  inline() { base64 --wrap=0 "$1"; }
  cat >"$1" <<K
apiVersion: v1
kind: Config
clusters:
- name: quotakeeper-test
  cluster: {server: "$3", certificate-authority-data: $(inline ca.crt)}
users:
- name: $2
  user: {client-certificate-data: $(inline "$2.crt"), client-key-data: $(inline "$2.key")}
contexts:
- name: quotakeeper-test
  context: {cluster: quotakeeper-test, user: $2}
current-context: quotakeeper-test
K
}

of_the_node() { certificate kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:127.0.0.1,IP:$address"; }
if [[ -n ${first:-} ]]; then
  cp "$first"/pki/{ca.crt,ca.key,proxy.crt,proxy.key} .
  of_the_node
  kubeconfig kubelet.kubeconfig kubelet "$server"
  kubeconfig proxy.kubeconfig proxy "$server"
  exit
fi

key ca
openssl req -x509 -new -key ca.key -days 365 -subj /CN=quotakeeper-test-ca \
  -addext keyUsage=critical,keyCertSign,digitalSignature -out ca.crt
openssl genrsa -out sa.key 2048 2>/dev/null
openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null

service=kubernetes.default.svc
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local
certificate apiserver /CN=kube-apiserver "$names,IP:127.0.0.1,IP:10.96.0.1,IP:$address"
of_the_node
certificate front-proxy /CN=front-proxy-client
certificate admin /O=system:masters/CN=admin
for component in controller-manager scheduler proxy; do
  certificate "$component" "/CN=system:kube-$component"
done

kubeconfig ../kubeconfig admin "$server"
for component in kubelet controller-manager scheduler proxy; do
  kubeconfig "$component.kubeconfig" "$component" "https://127.0.0.1:${server##*:}"
done
