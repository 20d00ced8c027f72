package connectetcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/mem"
)

// prefixLen is the length in bytes of a message's prefix: one of flags and four of length. See
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
const prefixLen = 5

// compressedFlag marks a message as compressed.
const compressedFlag = 1

// maxPrealloc bounds, in bytes, the memory that a length alone can claim.
const maxPrealloc = 1 << 20

// An envelope is a message with its prefix.
type envelope []byte

// readEnvelope reads a message. It returns io.EOF at the end of the body.
func readEnvelope(body io.Reader) (message []byte, compressed bool, err error) {
	var prefix [prefixLen]byte
	if _, err := io.ReadFull(body, prefix[:]); err != nil {
		return nil, false, err
	}
	if prefix[0]&^compressedFlag != 0 {
		return nil, false, fmt.Errorf("a message has the flags %#x, which gRPC does not know", prefix[0])
	}
	size := int64(binary.BigEndian.Uint32(prefix[1:]))
	var read bytes.Buffer
	read.Grow(int(min(size, maxPrealloc)) + bytes.MinRead) // with room to find the end
	if _, err := io.CopyN(&read, body, size); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, fmt.Errorf("a message of %d bytes: %w", size, err)
	}
	return read.Bytes(), prefix[0] == compressedFlag, nil
}

// A codec passes messages through, for Connect has encoded them. Its value is the name of Connect's codec, which gRPC
// sends as the content's subtype.
type codec string

func (c codec) Name() string { return string(c) }

// Marshal returns the message, whose bytes nobody changes afterwards.
func (codec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, to any) error {
	size := data.Len()
	e := make(envelope, prefixLen+size)
	binary.BigEndian.PutUint32(e[1:], uint32(size)) // gRPC's own length has as many bits
	data.CopyTo(e[prefixLen:])
	*to.(*envelope) = e
	return nil
}
