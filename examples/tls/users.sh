etcdctl user add greeter --new-user-password=change-me
etcdctl user grant-role greeter greeter-server
etcdctl user add frontend --new-user-password=change-me-too
etcdctl user grant-role frontend greeter-caller
