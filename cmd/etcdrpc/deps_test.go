package main

import (
	_ "github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	_ "github.com/rogpeppe/go-internal/testscript"
)
