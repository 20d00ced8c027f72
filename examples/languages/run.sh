#!/usr/bin/env bash
# Runs a fleet of a Go and a Python server, called from Node. It needs Go, node, npm and Python's grpcio, and takes etcd's port and those of etcdrpc
# xds on this host.
set -euo pipefail
cd "$(dirname "$0")"
stop() {
	kill "${fleet[@]}" && wait "${fleet[@]}" || true # they leave etcd
	kill "$python" "$etcd"
	wait
}

mkdir -p bin
(cd ../../etcdtest && go build -o ../examples/languages/bin/etcd ./cmd/etcd)
(cd ../../cmd/etcdrpc && go build -o ../../examples/languages/bin/etcdrpc .)
(cd .. && go build -o languages/bin/server ./languages/server)
(cd ../shop && go tool -modfile=../../tools/go.mod buf build -o ../languages/services.binpb)
npm ci --silent --no-audit --no-fund

bin/etcd &
etcd=$!
bin/server &
fleet=($!)
bin/etcdrpc register shop/catalog --address 127.0.0.1:50051 &
fleet+=($!)
python3 server.py 50051 &
python=$!
bin/etcdrpc xds --schema services.binpb &
fleet+=($!)
trap stop EXIT

until [[ $(bin/etcdrpc ls -o json 2>/dev/null | grep -c '"addr"') == 2 ]]; do sleep 0.1; done
GRPC_XDS_BOOTSTRAP_CONFIG=$(bin/etcdrpc xds bootstrap) node client.js
