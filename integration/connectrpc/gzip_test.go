package connectrpc

import (
	"compress/gzip"
	"io"

	connectgo "connectrpc.com/connect"
)

func newCompressor() connectgo.Compressor     { return gzip.NewWriter(io.Discard) }
func newDecompressor() connectgo.Decompressor { return new(gzip.Reader) }
