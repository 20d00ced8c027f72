package runtime

import (
	"context"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// defaultLogger is the name of the logger that the etcd client makes if its config has none.
const defaultLogger = "etcd-client"

// errorLevel is zap's: this module would import zap for nothing else.
const errorLevel = 2

// quiet turns off the etcd client's default logger. While etcd is away, it writes a line of JSON to standard error for each
// attempt; the registry logs a line for each change. A logger from the client's config, or from the environment variable,
// stays on.
func quiet(client *clientv3.Client) {
	logger := client.GetLogger()
	if logger == nil || os.Getenv("ETCD_CLIENT_DEBUG") != "" {
		return // nil: the client was put together from parts
	}
	// Check writes nothing. In the zap that etcd's oldest client requires, only Check returns a logger's name.
	if entry := logger.Check(errorLevel, ""); entry == nil || entry.LoggerName != defaultLogger {
		return
	}
	client.WithLogger(clientv3.NewCtxClient(context.Background()).GetLogger()) //nolint:staticcheck // the new client's logger is a no-op; client exists already
}
