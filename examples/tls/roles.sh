etcdctl role add greeter-server
etcdctl role grant-permission greeter-server --prefix=true readwrite acme/greeter/

etcdctl role add greeter-caller
etcdctl role grant-permission greeter-caller --prefix=true read acme/greeter/
etcdctl role grant-permission greeter-caller read _grpc_config/acme/greeter

etcdctl role add greeter-operator
etcdctl role grant-permission greeter-operator --prefix=true read acme/greeter/
etcdctl role grant-permission greeter-operator readwrite _grpc_config/acme/greeter
