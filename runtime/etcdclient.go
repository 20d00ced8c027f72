package runtime

import (
	"context"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// defaultLogger is the name of the logger that the etcd client makes if its
// config has none.
const defaultLogger = "etcd-client"

// errorLevel is zap's ErrorLevel. This module does not import zap for one
// constant.
const errorLevel = 2

// silenceDefaultLogger turns off the etcd client's default logger, which writes
// a line of JSON to standard error for each failed attempt to reach etcd. The
// registry logs only changes of state. A logger from the client's config stays
// on, as does the default logger if ETCD_CLIENT_DEBUG is set.
func silenceDefaultLogger(client *clientv3.Client) {
	logger := client.GetLogger()
	// may be nil in a client that was made without clientv3.New
	if logger == nil || os.Getenv("ETCD_CLIENT_DEBUG") != "" {
		return
	}

	// With the zap version of the oldest supported etcd client, only Check
	// returns a logger's name. Check writes nothing.
	entry := logger.Check(errorLevel, "")
	if entry != nil && entry.LoggerName == defaultLogger {
		// writes nothing
		silent := clientv3.NewCtxClient(context.Background()).GetLogger()
		client.WithLogger(silent) //nolint:staticcheck // deprecated, but the only way to change the logger
	}
}
