package runtime

import (
	"fmt"

	"google.golang.org/grpc/status"
)

// annotate adds a reason to an RPC error, which keeps its code.
func annotate(err error, reason string) error {
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%w: %s", err, reason)
	}
	p := s.Proto()
	p.Message += ": " + reason
	return status.ErrorProto(p)
}
