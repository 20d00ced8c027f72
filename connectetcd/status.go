package connectetcd

import (
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/grpc/status"
)

// fromStatus returns a status that is not OK as an error of Connect. The codes have the same numbers.
func fromStatus(s *status.Status) *connect.Error {
	err := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	for _, value := range s.Proto().GetDetails() {
		if detail, wrong := connect.NewErrorDetail(value); wrong == nil {
			err.AddDetail(detail)
		}
	}
	return err
}
