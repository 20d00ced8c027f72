package connectetcd

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"
)

// ownHeaders are those that HTTP or gRPC set themselves, in lower case.
var ownHeaders = map[string]bool{
	"accept-encoding": true, "connection": true, "content-length": true, "content-type": true, "host": true, "keep-alive": true,
	"proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true, "user-agent": true,

	"grpc-accept-encoding": true, "grpc-encoding": true, "grpc-message": true, "grpc-message-type": true, "grpc-status": true,
	"grpc-status-details-bin": true, "grpc-timeout": true,
}

// binarySuffix ends the names of headers whose values are bytes, which travel as base64.
const binarySuffix = "-bin"

// toMetadata returns the metadata that headers mean.
func toMetadata(header http.Header) (metadata.MD, error) {
	md := make(metadata.MD, len(header))
	for name, values := range header {
		name = strings.ToLower(name)
		if ownHeaders[name] {
			continue
		}
		if !strings.HasSuffix(name, binarySuffix) {
			md[name] = append(md[name], values...)
			continue
		}
		for _, value := range values {
			// As gRPC says, a value may be several, with commas between.
			for value := range strings.SplitSeq(value, ",") {
				decoded, err := connect.DecodeBinaryHeader(strings.TrimSpace(value))
				if err != nil {
					return nil, fmt.Errorf("connectetcd: the header %s has a value that is not base64: encode it with connect.EncodeBinaryHeader: %w", name, err)
				}
				md[name] = append(md[name], string(decoded))
			}
		}
	}
	return md, nil
}

// addMetadata adds the headers for metadata.
func addMetadata(header http.Header, md metadata.MD) {
	for name, values := range md {
		if ownHeaders[name] {
			continue
		}
		for _, value := range values {
			if strings.HasSuffix(name, binarySuffix) {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			header.Add(name, value)
		}
	}
}
