// Command conformance is a client for connectrpc.com/conformance. It reads
// calls from standard input, makes them with a Connect client over a gRPC
// connection, and writes the results to standard output. "make compat
// BESIDE=connect" runs it.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/etcdrpc/protoc-gen-go-etcd/integration/conformance/gen/connectrpc/conformance/v1"
)

// parallel is the highest number of simultaneous calls.
const parallel = 16

func main() {
	err := answerAll(context.Background(), bufio.NewReader(os.Stdin), os.Stdout)
	if err != nil {
		log.Fatal(err)
	}
}

// answerAll writes an answer to each request, in any order.
func answerAll(ctx context.Context, in io.Reader, out io.Writer) error {
	free := make(chan struct{}, parallel)
	var answering sync.WaitGroup
	defer answering.Wait()

	var writing sync.Mutex
	for {
		req := new(conformancev1.ClientCompatRequest)

		err := read(in, req)
		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return err
		}

		free <- struct{}{}
		answering.Go(func() {
			defer func() { <-free }()

			data, err := proto.Marshal(answer(ctx, req))

			writing.Lock()
			defer writing.Unlock()

			if err == nil {
				length := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
				_, err = out.Write(append(length, data...))
			}

			if err != nil {
				log.Print(err)
			}
		})
	}
}

func answer(
	ctx context.Context,
	req *conformancev1.ClientCompatRequest,
) *conformancev1.ClientCompatResponse {
	resp := &conformancev1.ClientCompatResponse{TestName: req.GetTestName()}
	result, err := call(ctx, req)
	if err != nil {
		resp.Result = &conformancev1.ClientCompatResponse_Error{
			Error: &conformancev1.ClientErrorResult{Message: err.Error()},
		}
	} else {
		resp.Result = &conformancev1.ClientCompatResponse_Response{Response: result}
	}

	return resp
}

// read reads the length of a message, four bytes, and then the message. It
// returns io.EOF at the end of the input.
func read(in io.Reader, m proto.Message) error {
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return err
	}

	data := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(in, data); err != nil {
		return fmt.Errorf("read a request: %w", io.ErrUnexpectedEOF)
	}

	return proto.Unmarshal(data, m)
}
