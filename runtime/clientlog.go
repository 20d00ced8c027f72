package runtime

import (
	"context"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// defaultLogger is the name of the logger that the etcd client makes itself where its config has none.
const defaultLogger = "etcd-client"

// errorLevel is zap's, which this module would import for nothing else.
const errorLevel = 2

// quiet has the etcd client's own logger write no more. While etcd is away it would write a line of JSON to standard error
// for each attempt, beside the registry's line for each change. A logger that was given, and one that was asked for by the
// environment variable, stay.
func quiet(client *clientv3.Client) {
	logger := client.GetLogger()
	if logger == nil || os.Getenv("ETCD_CLIENT_DEBUG") != "" {
		return // nil: the client was put together from parts
	}
	// What is checked is not written. It is the only way to a logger's name in the zap that etcd's oldest client requires.
	if entry := logger.Check(errorLevel, ""); entry == nil || entry.LoggerName != defaultLogger {
		return
	}
	client.WithLogger(clientv3.NewCtxClient(context.Background()).GetLogger()) //nolint:staticcheck // it writes nothing; the client is made already
}
