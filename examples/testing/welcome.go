// Package testing shows how to test code that calls services found through etcd. Run its tests from
// the directory above:
//
//	go test ./testing
//
// The code under test is Welcomer, which takes a client as usual. The tests, from the smallest to the
// largest, use
//
//   - no etcd: the server is in memory, behind a bufconn
//   - a real etcd, and servers in memory at addresses that only the test can dial
//   - a real etcd and real servers, and an outage of etcd in the middle
package testing

import (
	"context"
	"fmt"

	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

// Welcomer welcomes guests by name.
type Welcomer struct {
	Greeter greeterv1.GreeterServiceClient
}

// Welcome greets each guest. The error names the guest whose greeting failed.
func (w *Welcomer) Welcome(ctx context.Context, guests ...string) ([]string, error) {
	var texts []string
	for _, guest := range guests {
		reply, err := w.Greeter.SayHello(ctx, &greeterv1.SayHelloRequest{Name: guest})
		if err != nil {
			return texts, fmt.Errorf("greet %s: %w", guest, err)
		}
		texts = append(texts, reply.GetText())
	}
	return texts, nil
}
