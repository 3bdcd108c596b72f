#!/usr/bin/env bash
# A real Kubernetes of two nodes on this machine, for tests: `bed.sh build`, `up`, `down`, and
# `bed.sh inside COMMAND…`, which runs a command in the network of the cluster.
#
# Kubernetes is built once, from the source package of Debian 12, the only suite that has all of it.
# Its nodes are network namespaces, joined by a bridge in a third one. Nothing leaves them, and the
# network of the machine itself is not changed. `bin/test-kubernetes` calls this.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gatling/kubernetes
bin=$cache/bin
run=${GATLING_CLUSTER:-$cache/run}
version=1.20.2
suite=bookworm
nodes="1 2"
net=10.78.0
api=$net.11
registry=$net.254:5000
services=10.97.0.0/16

say() { printf '%s\n' "gatling: $*" >&2; }

# --- build

source_of() { # DIRECTORY: Debian's source package, unpacked there
  local mirror apt=$1/apt
  mirror=$(apt-get --print-uris update 2>/dev/null | sed -n "s|^'\([^']*/debian\)/*/dists/.*|\1|p" | head -n 1)
  [ -n "$mirror" ] || { say "apt names no mirror of Debian to get the sources from"; exit 8; }
  mkdir -p "$apt"/{lists/partial,cache/archives/partial}
  printf 'deb-src %s %s main\n' "$mirror" "$suite" >"$apt/sources.list"
  local options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$1" && apt-get "${options[@]}" source kubernetes >/dev/null 2>&1)
}

build() {
  local work=$cache/build source flags="-s -w" part pair
  [ ! -x "$bin/kubectl" ] || return 0
  say "building Kubernetes $version in $cache, which takes five minutes on two idle cores"
  rm -rf "$work" && mkdir -p "$work/gopath/src/k8s.io" "$work/bin"
  source_of "$work"
  source=$work/gopath/src/k8s.io/kubernetes
  mv "$work"/kubernetes-* "$source"
  export PATH=/usr/lib/go-1.19/bin:$PATH GO111MODULE=off GOFLAGS="" CGO_ENABLED=0 GOTMPDIR=$work
  export GOPATH=$work/gopath GOCACHE=$work/gocache GOBIN=$work/bin
  cd "$source"
  # the one generated file that the source package lacks
  go install k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local described
  described=$({
    grep -rl --include=*.go '+k8s:openapi-gen=' pkg cmd plugin
    cd vendor/k8s.io
    for part in api apimachinery apiserver apiextensions-apiserver client-go kube-aggregator metrics \
      component-base kube-controller-manager kube-proxy kube-scheduler kubelet cloud-provider controller-manager; do
      grep -rl --include=*.go '+k8s:openapi-gen=' "$part/" | sed 's#^#vendor/k8s.io/#' || true
    done
  } | xargs -n1 dirname | LC_ALL=C sort -u | sed 's#^#k8s.io/kubernetes/#' | paste -sd,)
  "$GOBIN/openapi-gen" -i "$described" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/violations" 2>/dev/null
  # both packages have a version, and /version answers with that of client-go
  for part in component-base/version client-go/pkg/version; do
    for pair in gitMajor=1 gitMinor=20 "gitVersion=v$version" gitTreeState=clean; do
      flags+=" -X k8s.io/kubernetes/vendor/k8s.io/$part.$pair"
    done
  done
  go install -ldflags "$flags" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
  cd "$cache"
  rm -f "$GOBIN/openapi-gen"
  rm -rf "$bin" && mv "$work/bin" "$bin"
  chmod -R u+w "$work" && rm -rf "$work"
}

pause_image() { # FILE: the image of the container that holds a pod's namespaces
  local work config layer
  work=$(mktemp -d)
  printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' |
    cc -static -Os -x c -o "$work/pause" -
  tar -C "$work" --numeric-owner --owner=0 --group=0 -cf "$work/layer.tar" pause
  layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  config='{"architecture":"'$(dpkg --print-architecture)'","os":"linux","config":{"Entrypoint":["/pause"]}'
  config+=',"rootfs":{"type":"layers","diff_ids":["sha256:'$layer'"]}}'
  printf '%s' "$config" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":["localhost/pause:1"],"Layers":["layer.tar"]}]' \
    >"$work/manifest.json"
  tar -C "$work" -cf "$1" manifest.json config.json layer.tar
  rm -rf "$work"
}

# --- up

at() { # NODE COMMAND…; not `ip netns exec`, whose own /sys hides the control groups
  local node=$1
  shift
  nsenter --net="/run/netns/$node" "$@"
}

start() { # NODE NAME COMMAND…
  local node=$1 name=$2
  shift 2
  # file descriptors of the caller, a lock for example, are not for what goes on
  nohup nsenter --net="/run/netns/$node" "$@" >"$run/log/$name.log" 2>&1 9>&- &
  echo $! >"$run/pid/$name"
}

wait_for() { # SECONDS WHAT COMMAND…
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt "$deadline" ] || { say "$what did not come up; see $run/log"; return 1; }
    sleep 0.2
  done
}

network() {
  local i j
  ip netns add gk-lan
  ip -n gk-lan link set lo up
  ip -n gk-lan link add br0 type bridge
  ip -n gk-lan addr add "$net.254/24" dev br0
  ip -n gk-lan link set br0 up
  # the addresses of Services, as an ingress controller has them
  ip -n gk-lan route add "$services" via "$net.11"
  for i in $nodes; do
    ip netns add "gk$i"
    ip -n "gk$i" link add eth0 type veth peer name "v$i" netns gk-lan
    ip -n gk-lan link set "v$i" master br0 up
    ip -n "gk$i" addr add "$net.1$i/24" dev eth0
    ip -n "gk$i" link set lo up
    ip -n "gk$i" link set eth0 up
    ip -n "gk$i" route add default via "$net.254"
    for j in $nodes; do
      [ "$i" = "$j" ] || ip -n "gk$i" route add "10.245.$j.0/24" via "$net.1$j"
    done
    at "gk$i" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
      echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables'
  done
}

certificates() {
  (
    cd "$run/etc"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=ca
    openssl req -newkey rsa:2048 -nodes -keyout api.key -out api.csr -subj /CN=api
    openssl x509 -req -in api.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out api.crt \
      -extfile <(echo "subjectAltName=DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$api,IP:10.97.0.1")
    openssl genrsa -out sa.key 2048
    openssl rsa -in sa.key -pubout -out sa.pub
  ) 2>/dev/null
}

account() { # FILE USER GROUP: a kubeconfig
  local token
  token=$(openssl rand -hex 16)
  echo "$token,$2,$2,\"$3\"" >>"$run/etc/tokens.csv"
  cat >"$run/etc/$1" <<END
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$api:6443", certificate-authority: $run/etc/ca.crt}}]
users: [{name: u, user: {token: "$token"}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
END
}

node() { # NUMBER
  local i=$1 own=$run/n$1 group name
  mkdir -p "$own/cni" "$own/certs.d/$registry"
  cat >"$own/cni/10.conflist" <<END
{"cniVersion":"0.3.1","name":"p","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.245.$i.0/24"}]],
          "routes":[{"dst":"0.0.0.0/0"}],"dataDir":"$own/ipam"}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
END
  # read with each pull; a test writes the certificate of its registry there
  cat >"$own/certs.d/$registry/hosts.toml" <<END
server = "https://$registry"
[host."https://$registry"]
  ca = "$run/registry.pem"
END
  cat >"$own/containerd.toml" <<END
version = 2
root = "$own/root"
state = "$own/state"
[grpc]
  address = "$own/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true # which a container on a CI machine may not lower
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$own/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$own/certs.d"
END
  cat >"$own/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $net.1$i
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /gk$i
failSwapOn: false
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
nodeStatusUpdateFrequency: 4s
resolvConf: ""
volumePluginDir: $own/volumes
END
  for group in /sys/fs/cgroup/*/; do
    case $group in *unified*) ;; *) mkdir -p "${group}gk$i" ;; esac
  done
  for name in cpus mems; do
    cat "/sys/fs/cgroup/cpuset/cpuset.$name" >"/sys/fs/cgroup/cpuset/gk$i/cpuset.$name"
  done
  # a kubelet removes the logs of pods that it does not know, so each node has its own
  mkdir -p "$own/logs" /var/log/pods
  # shellcheck disable=SC2016 # for that shell
  start "gk$i" "containerd$i" unshare --mount sh -c 'mount --bind "$1" /var/log/pods; shift; exec "$@"' \
    sh "$own/logs" containerd -c "$own/containerd.toml"
  wait_for 30 "containerd of node $i" ctr -a "$own/containerd.sock" version
  ctr -a "$own/containerd.sock" -n k8s.io images import --no-unpack "$cache/pause.tar" >/dev/null
  start "gk$i" "kubelet$i" nsenter --mount="/proc/$(cat "$run/pid/containerd$i")/ns/mnt" "$bin/kubelet" --config="$own/kubelet.yaml" --kubeconfig="$run/etc/gk$i" \
    --hostname-override="gk$i" --node-ip="$net.1$i" --root-dir="$own/kubelet" --cert-dir="$own/pki" \
    --container-runtime=remote --container-runtime-endpoint="unix://$own/containerd.sock"
  start "gk$i" "proxy$i" "$bin/kube-proxy" --kubeconfig="$run/etc/component" --hostname-override="gk$i" \
    --proxy-mode=iptables --cluster-cidr=10.245.0.0/16 --conntrack-max-per-core=0 \
    --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
    --healthz-bind-address="$net.1$i" --metrics-bind-address="$net.1$i"
}

kubectl() { at gk-lan env NO_PROXY='*' "$bin/kubectl" --kubeconfig="$run/etc/admin" "$@"; }

all_ready() { [ "$(kubectl get nodes --no-headers | grep -c ' Ready ')" = "$(wc -w <<<"$nodes")" ]; }

up() {
  local i
  down
  mkdir -p "$run"/{log,pid,etc}
  [ -e "$cache/pause.tar" ] || pause_image "$cache/pause.tar"
  network
  certificates
  : >"$run/etc/tokens.csv"
  account admin admin system:masters
  account component system:component system:masters
  for i in $nodes; do account "gk$i" "system:node:gk$i" system:nodes; done
  start gk1 etcd etcd --data-dir "$run/etcd" --unsafe-no-fsync --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --log-level error
  start gk1 api "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address="$api" \
    --advertise-address="$api" --secure-port=6443 --tls-cert-file="$run/etc/api.crt" \
    --tls-private-key-file="$run/etc/api.key" --token-auth-file="$run/etc/tokens.csv" \
    --authorization-mode=Node,RBAC --service-account-key-file="$run/etc/sa.pub" \
    --service-account-signing-key-file="$run/etc/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range="$services" \
    --allow-privileged --kubelet-preferred-address-types=InternalIP
  wait_for 60 "the API server" kubectl get --raw /readyz
  start gk1 controllers "$bin/kube-controller-manager" --kubeconfig="$run/etc/component" \
    --service-account-private-key-file="$run/etc/sa.key" --root-ca-file="$run/etc/ca.crt" \
    --leader-elect=false --node-monitor-grace-period=12s
  start gk1 scheduler "$bin/kube-scheduler" --kubeconfig="$run/etc/component" --leader-elect=false
  for i in $nodes; do node "$i"; done
  wait_for 120 "the nodes" all_ready
}

# --- down

containers() { # VERB OF TASKS, then what `ctr tasks` lists for each node
  local i one
  for i in $nodes; do
    [ -S "$run/n$i/containerd.sock" ] || continue
    for one in $(timeout 10 ctr -a "$run/n$i/containerd.sock" -n k8s.io tasks ls -q 2>/dev/null); do
      timeout 10 ctr -a "$run/n$i/containerd.sock" -n k8s.io tasks "$@" "$one" >/dev/null 2>&1 || true
    done
  done
}

stop() { # NAME…
  local name pid
  for name; do
    [ -f "$run/pid/$name" ] || continue
    # a number that another process has by now is left alone
    pid=$(cat "$run/pid/$name")
    if grep -aqF "$cache" "/proc/$pid/cmdline" 2>/dev/null; then kill "$pid"; fi
  done
}

down() {
  local i group pid
  stop kubelet1 kubelet2 proxy1 proxy2 scheduler controllers api etcd
  containers kill -s KILL
  containers rm -f
  stop containerd1 containerd2
  for i in $nodes; do
    group=/sys/fs/cgroup/memory/gk$i
    [ ! -d "$group" ] ||
      find "$group" -name cgroup.procs -exec cat {} + |
      while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done
    for group in /sys/fs/cgroup/*/gk"$i"; do
      [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
    [ ! -e "/run/netns/gk$i" ] || ip netns del "gk$i"
  done
  [ ! -e /run/netns/gk-lan ] || ip netns del gk-lan
  # containerd names those of pods so, and a killed one leaves them; nobody is in these any more
  for group in /run/netns/cni-*; do
    [ "$group" -nt "$run/etc" ] || continue
    [ -z "$(ip netns pids "${group##*/}")" ] || continue
    ip netns del "${group##*/}"
  done
  grep -o " $run/n[^ ]*" /proc/self/mounts | sort -r | xargs -r -n1 umount -l 2>/dev/null || true
  rm -rf --one-file-system "$run"
}

verb=${1-}
shift || true
case $verb in
  build | up | down) "$verb" ;;
  inside) exec nsenter --net=/run/netns/gk-lan "$@" ;;
  kubectl) kubectl "$@" ;;
  *) say "usage: bed.sh build|up|down|inside COMMAND…|kubectl ARGUMENT…"; exit 8 ;;
esac
