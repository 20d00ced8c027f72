package harness

import "fmt"

func memberHost(i int) string { return fmt.Sprintf("10.1.0.%d", i+1) }

func memberAddr(i int) string { return memberHost(i) + ":2379" }
