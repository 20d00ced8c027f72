package xdspage

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

func TestPages(t *testing.T) {
	known := xds.Host{
		Authority:   "acme.user",
		Key:         "acme/user",
		Known:       true,
		Endpoints:   3,
		Unsupported: []string{"slowStart: none"},
	}

	unread := xds.Host{Authority: "acme.order", Key: "acme/order"}
	refused := xds.Host{
		Authority: "acme.cart",
		Key:       "acme/cart",
		Known:     true,
		Err:       errors.New("permission denied"),
	}

	client := xds.Client{ID: "one\x1b[2J", Agent: "gRPC Go 1", Types: []xds.Type{
		{
			Name:    "Cluster",
			Asked:   1,
			Version: "7",
			Acked:   "7",
		}, {Name: "Listener", Asked: 1, Version: "8", Pending: true},
		{Name: "RouteConfiguration", Asked: 1, Version: "9", Refused: "no\nroute"},
	}}
	for _, tt := range []struct {
		name, path string
		status     xds.Status
		code       int
		want       []string
	}{
		{"no clients", "/", xds.Status{}, 200,
			[]string{"asked for 0 services. There are 0 clients"}},
		{"a client", "/", xds.Status{
			Clients: []xds.Client{client},
			Hosts:   []xds.Host{known, unread, refused},
		}, 200, []string{
			"client one\\x1b[2J", "Cluster: asks for 1, sent version 7, ACK of 7", "sent version 8, ACK of \n", `NACK: no\nroute`, "unsupported: slowStart: none", "has not answered", "permission denied",
		}},
		{"too many", "/", xds.Status{Clients: make([]xds.Client, maxClients+2)}, 200,
			[]string{"502 clients, of which at most 500 are listed"}},
		{"no clients", "/healthz", xds.Status{}, 200, []string{"ok"}},
		{"known", "/healthz", xds.Status{Hosts: []xds.Host{known}}, 200, []string{"ok"}},
		{"not read yet", "/healthz", xds.Status{Hosts: []xds.Host{known, unread}}, 503,
			[]string{"acme.order is not known yet: etcd has not answered"}},
		{"refused", "/healthz", xds.Status{Hosts: []xds.Host{refused}}, 200, []string{"ok"}},
		{"etcd away", "/healthz",
			xds.Status{Hosts: []xds.Host{{Authority: "acme.cart", Err: errors.New("no answer")}}},
			503, []string{"acme.cart is not known: no answer"}},
		{"metrics", "/metrics", xds.Status{
			Clients: []xds.Client{client, {}},
			Hosts:   []xds.Host{known, refused},
		}, 200, []string{
			"etcdrpc_xds_clients 2", "etcdrpc_xds_nacked_clients 1", "etcdrpc_xds_unacked_clients 1", "etcdrpc_xds_authorities 2",
			`etcdrpc_xds_endpoints{authority="acme.user"} 3`, `etcdrpc_xds_authority_trouble{authority="acme.cart"} 1`,
		}},
		{"unknown path", "/else", xds.Status{}, 404, nil},
	} {
		w := httptest.NewRecorder()
		Handler(func() xds.Status {
			return tt.status
		}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, http.NoBody))

		if w.Code != tt.code {
			t.Errorf("%s: %s has code %d, want %d", tt.name, tt.path, w.Code, tt.code)
		}

		for _, want := range tt.want {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %s lacks %q:\n%s", tt.name, tt.path, want, w.Body)
			}
		}
	}
}
