package connectetcd

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"
)

// reservedHeaders are the headers that HTTP or gRPC set themselves, in canonical form.
var reservedHeaders = map[string]bool{
	"Accept-Encoding": true, "Connection": true, "Content-Length": true, "Content-Type": true, "Host": true, "Keep-Alive": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "User-Agent": true,

	"Grpc-Accept-Encoding": true, "Grpc-Encoding": true, "Grpc-Message": true, "Grpc-Message-Type": true, "Grpc-Status": true,
	"Grpc-Status-Details-Bin": true, "Grpc-Timeout": true,
}

// binarySuffix ends the names of headers whose values are bytes, sent as base64.
const binarySuffix = "-bin"

// toMetadata converts headers to metadata, without the reserved headers. If it fails, md has every value that can be decoded.
func toMetadata(header http.Header) (md metadata.MD, failed error) {
	md = make(metadata.MD)
	for name, values := range header {
		if reservedHeaders[http.CanonicalHeaderKey(name)] {
			continue
		}
		name = strings.ToLower(name)
		if !strings.HasSuffix(name, binarySuffix) {
			md[name] = append(md[name], values...)
			continue
		}
		for _, value := range values {
			// By gRPC's specification a header may have several values, separated by commas.
			for value := range strings.SplitSeq(value, ",") {
				decoded, err := connect.DecodeBinaryHeader(strings.TrimSpace(value))
				if err != nil {
					failed = fmt.Errorf("connectetcd: the header %s has a value that is not base64: encode it with connect.EncodeBinaryHeader: %w", name, err)
					continue
				}
				md[name] = append(md[name], string(decoded))
			}
		}
	}
	return md, failed
}

// addMetadata adds metadata to header, without the reserved headers.
func addMetadata(header http.Header, md metadata.MD) {
	for name, values := range md {
		canonical := http.CanonicalHeaderKey(name)
		if reservedHeaders[canonical] {
			continue
		}
		for _, value := range values {
			if strings.HasSuffix(name, binarySuffix) {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			header[canonical] = append(header[canonical], value)
		}
	}
}
