# As etcd's root, makes a service's roles, and its user, who may also call other services: sh roles.sh orders stock <PASSWORDFILE
set -eu
service=$1; shift
etcdctl role add "$service-server"
etcdctl role grant-permission "$service-server" --prefix=true readwrite "shop/$service/"
etcdctl role add "$service-caller"
etcdctl role grant-permission "$service-caller" --prefix=true read "shop/$service/"
etcdctl role grant-permission "$service-caller" read "_grpc_config/shop/$service"
etcdctl user add "$service" --interactive=false
etcdctl user grant-role "$service" "$service-server"
for called; do
	etcdctl user grant-role "$service" "$called-caller"
done
