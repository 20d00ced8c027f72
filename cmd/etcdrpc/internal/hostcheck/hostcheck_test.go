package hostcheck

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestIs(t *testing.T) {
	names := []string{"console.example", "proxy.example:8443"}
	for _, tt := range []struct {
		host     string
		loopback bool
		want     bool
	}{
		{"console.example:80", true, true},
		{"Console.Example", false, true},
		{"proxy.example:8443", true, true},
		{"localhost:80", true, true},
		{"127.0.0.2", true, true},
		{"[::1]:80", true, true},
		{"[::ffff:127.0.0.1]", true, true},
		{"10.0.0.7:80", true, false},
		{"10.0.0.7:80", false, true},
		{"evil.example:80", false, false},
		{"127.0.0.1.evil.example", true, false},
		{"", true, false},
	} {
		if got := Allowed(tt.host, names, tt.loopback); got != tt.want {
			t.Errorf("%q, at loopback alone %v: %v", tt.host, tt.loopback, got)
		}
	}
}

func TestOnly(t *testing.T) {
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		at, host string
		want     int
	}{
		{"127.0.0.1:9469", "127.0.0.1:9469", http.StatusOK},
		{"[::1]:9469", "localhost:9469", http.StatusOK},
		{"127.0.0.1:9469", "evil.example:9469", http.StatusMisdirectedRequest},
		{"10.0.0.7:9469", "sd.example:9469", http.StatusOK},
		{"0.0.0.0:9469", "sd.example:9469", http.StatusOK},
		{"[::]:9469", "sd.example:9469", http.StatusOK},
	} {
		request := httptest.NewRequest(http.MethodGet, "/sd", http.NoBody)
		request.Host = tt.host
		answer := httptest.NewRecorder()
		Only(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.at)), served).ServeHTTP(answer, request)
		if answer.Code != tt.want {
			t.Errorf("%q at %s: %d, want %d", tt.host, tt.at, answer.Code, tt.want)
		}
	}
}
