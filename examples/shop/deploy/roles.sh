# The roles and users of the shop, made by etcd's root. Replace the passwords.
for service in stock orders; do
	etcdctl role add $service-server
	etcdctl role grant-permission $service-server --prefix=true readwrite shop/$service/
	etcdctl role add $service-caller
	etcdctl role grant-permission $service-caller --prefix=true read shop/$service/
	etcdctl role grant-permission $service-caller read _grpc_config/shop/$service
	etcdctl user add $service --new-user-password=change-me
	etcdctl user grant-role $service $service-server
done
etcdctl user grant-role orders stock-caller
etcdctl user add frontend --new-user-password=change-me
etcdctl user grant-role frontend orders-caller
