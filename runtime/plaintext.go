package runtime

import (
	"log/slog"
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
