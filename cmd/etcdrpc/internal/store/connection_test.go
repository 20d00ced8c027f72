package store

import "testing"

func TestRemedy(t *testing.T) {
	const handshake = `connection error: desc = "transport: authentication handshake failed: `
	for cause, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: "check --endpoints",
		`connection error: desc = "error reading server preface: EOF"`:                                                 "if it speaks TLS, give --cacert, or https:// in --endpoints",
		`connection error: desc = "error reading server preface: remote error: tls: certificate required"`:             "it refuses what identifies to it: --cert and --key",
		handshake + `EOF"`: "if it does not speak TLS, leave out --cacert, --cert, --key and https://",
		handshake + `tls: failed to verify certificate: x509: certificate signed by unknown authority"`: "--cacert names the CA of its certificate",
		handshake + `tls: failed to verify certificate: x509: certificate is valid for a, not b"`:       "look at its certificate, and at the names in --endpoints",
		`etcd ["a:1"] does not answer: there is no connection to it`:                                    "check --endpoints",
		`etcd ["a:1"] does not answer, though the connection is up: it hangs, or has no leader`:         "",
		`etcd user "connection"`: "",
	} {
		if got := remedy(cause); got != want {
			t.Errorf("%s: %q, want %q", cause, got, want)
		}
	}
}
