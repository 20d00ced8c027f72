package connectetcd

import (
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The codes of Connect and gRPC have the same numbers.

// fromStatus returns a status that is not OK as an error of Connect.
func fromStatus(s *status.Status) *connect.Error {
	err := connect.NewError(connect.Code(s.Code()), errors.New(s.Message()))
	for _, value := range s.Proto().GetDetails() {
		if detail, wrong := connect.NewErrorDetail(value); wrong == nil {
			err.AddDetail(detail)
		}
	}
	return err
}

// toStatus returns an error of Connect as a status.
func toStatus(err error) error {
	text := err.Error()
	if failed := new(connect.Error); errors.As(err, &failed) {
		text = failed.Message()
	}
	return status.Error(codes.Code(connect.CodeOf(err)), text)
}
