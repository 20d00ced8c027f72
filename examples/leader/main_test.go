package main

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/showtest"
)

func TestLeader(t *testing.T) {
	showtest.Run(t, tell, "invoices-1 leads: numbers up to 100", "invoices-2 leads: numbers up to 200", "invoices-3 leads: numbers up to 300")
}
