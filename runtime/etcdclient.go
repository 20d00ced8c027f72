package runtime

import (
	"context"
	"log/slog"
	"os"
	"reflect"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plaintext"
)

// warnOfPlaintext logs a warning if the client sends its password or token over a network without TLS.
func warnOfPlaintext(client *clientv3.Client, logger *slog.Logger) {
	var message string
	switch {
	case client.ActiveConnection() == nil:
		return // the client has no connection of its own
	case client.Username != "" && client.Password != "":
		message = "etcd password is sent without TLS"
	case token(client) != "":
		message = "etcd token is sent without TLS"
	default:
		return
	}
	if exposed := plaintext.Exposed(client.Endpoints(), hasTLS(client)); len(exposed) > 0 {
		logger.Warn(message, "endpoints", exposed)
	}
}

// token returns the token that the client was given, or "". It uses reflection, because the field exists from etcd's
// client 3.7 on, and this module is also built with older clients.
func token(client *clientv3.Client) string {
	if token := reflect.ValueOf(client).Elem().FieldByName("Token"); token.Kind() == reflect.String {
		return token.String()
	}
	return ""
}

// hasTLS reports whether the client was given a TLS configuration. It reads an unexported field, because most endpoints
// have no scheme that says so. If etcd's client has no such field, hasTLS reports true: then no warning is logged, and
// TestPasswordOverPlaintext fails.
func hasTLS(client *clientv3.Client) bool {
	creds := reflect.ValueOf(client).Elem().FieldByName("creds")
	return creds.Kind() != reflect.Interface || !creds.IsNil()
}

// defaultLogger is the name of the logger that the etcd client makes if its config has none.
const defaultLogger = "etcd-client"

// errorLevel is zap's ErrorLevel. This module does not import zap for one constant.
const errorLevel = 2

// silenceDefaultLogger turns off the etcd client's default logger, which writes a line of JSON to standard error for each
// failed attempt to reach etcd. The registry logs only changes of state. A logger from the client's config stays on, as does
// the default logger if ETCD_CLIENT_DEBUG is set.
func silenceDefaultLogger(client *clientv3.Client) {
	logger := client.GetLogger()
	if logger == nil || os.Getenv("ETCD_CLIENT_DEBUG") != "" { // nil in a client that was put together from parts
		return
	}
	// In the zap version of the oldest etcd client that works, only Check returns a logger's name. Check writes nothing.
	if entry := logger.Check(errorLevel, ""); entry != nil && entry.LoggerName == defaultLogger {
		silent := clientv3.NewCtxClient(context.Background()).GetLogger() // writes nothing
		client.WithLogger(silent)                                         //nolint:staticcheck // deprecated, but nothing else changes client
	}
}
