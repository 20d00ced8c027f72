package runtime

import (
	"context"
	"log/slog"
	"os"
	"reflect"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plaintext"
)

// warnOfPlaintext logs a warning if the client sends its password, or its token, over a network without TLS.
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

// token returns the token that the client was given. The field is exported, but only from etcd's client 3.7 on, and this
// module is built with older ones, too: there token returns "".
func token(client *clientv3.Client) string {
	if token := reflect.ValueOf(client).Elem().FieldByName("Token"); token.Kind() == reflect.String {
		return token.String()
	}
	return ""
}

// hasTLS reports whether the client was given a TLS configuration. Most endpoints have no scheme, and then only this
// unexported field says whether a password goes over the network in plaintext. If etcd's client has no such field,
// hasTLS reports true: the warning is then missing, not wrong, and TestPasswordOverPlaintext fails.
func hasTLS(client *clientv3.Client) bool {
	creds := reflect.ValueOf(client).Elem().FieldByName("creds")
	return creds.Kind() != reflect.Interface || !creds.IsNil()
}

// defaultLogger is the name of the logger that the etcd client makes if its config has none.
const defaultLogger = "etcd-client"

// errorLevel is zap's: this module would import zap for nothing else.
const errorLevel = 2

// quiet turns off the etcd client's default logger. While etcd is away, it writes a line of JSON to standard error for each
// attempt; the registry logs a line for each change. A logger from the client's config, or from the environment variable,
// stays on.
func silenceDefaultLogger(client *clientv3.Client) {
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
