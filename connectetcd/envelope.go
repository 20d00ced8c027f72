package connectetcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// envelopeLen is the length of what stands before each message: a byte of flags and four of length. See
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
const envelopeLen = 5

// compressedFlag marks a message as compressed.
const compressedFlag = 1

// An envelope is a message that was received, with what stands before it in a body.
type envelope []byte

// readEnvelope reads a message. It returns io.EOF at the end of the body.
func readEnvelope(body io.Reader) (message []byte, compressed bool, err error) {
	var head [envelopeLen]byte
	if _, err := io.ReadFull(body, head[:]); err != nil {
		return nil, false, err
	}
	if head[0]&^compressedFlag != 0 {
		return nil, false, fmt.Errorf("a message has the flags %#x, which gRPC does not know", head[0])
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	message, err = readMessage(body, size)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, false, fmt.Errorf("a message of %d bytes: %w", size, err)
	}
	return message, head[0] == compressedFlag, nil
}

// largest is the size of the largest message for which memory is taken before its bytes are there.
const largest = 1 << 20

func readMessage(body io.Reader, size int64) ([]byte, error) {
	if size <= largest {
		message := make([]byte, size)
		_, err := io.ReadFull(body, message)
		return message, err
	}
	var buffer bytes.Buffer
	_, err := io.CopyN(&buffer, body, size)
	return buffer.Bytes(), err
}

// decompress unpacks a message, which is the caller's own.
func decompress(compressor encoding.Compressor, message []byte) ([]byte, error) {
	from, err := compressor.Decompress(bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(from)
}

// A codec leaves messages as they are: Connect's codec, which has its name, encodes them.
type codec string

func (c codec) Name() string { return string(c) }

// Marshal returns the message, whose bytes nobody changes afterwards.
func (codec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, to any) error {
	size := data.Len()
	e := make(envelope, envelopeLen+size)
	binary.BigEndian.PutUint32(e[1:], uint32(size)) // gRPC's own length has as many bits
	data.CopyTo(e[envelopeLen:])
	*to.(*envelope) = e
	return nil
}
