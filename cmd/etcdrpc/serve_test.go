package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// At loopback, the Host header has to name this host.
func TestLocalOnly(t *testing.T) {
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for _, tt := range []struct {
		at, host string
		want     int
	}{
		{"127.0.0.1:9469", "127.0.0.2:9469", http.StatusOK},
		{"[::1]:9469", "Localhost", http.StatusOK},
		{"127.0.0.1:9469", "[::1]", http.StatusOK},
		{"127.0.0.1:9469", "[::ffff:127.0.0.1]:80", http.StatusOK},
		{"127.0.0.1:9469", "evil.example:9469", http.StatusMisdirectedRequest},
		{"[::1]:9469", "127.0.0.1.evil.example", http.StatusMisdirectedRequest},
		{"127.0.0.1:9469", "10.0.0.7:9469", http.StatusMisdirectedRequest},
		{"127.0.0.1:9469", "", http.StatusMisdirectedRequest},
		{"10.0.0.7:9469", "sd.example:9469", http.StatusOK},
		{"[::]:9469", "sd.example:9469", http.StatusOK},
	} {
		request := httptest.NewRequest(http.MethodGet, "/sd", http.NoBody)
		request.Host = tt.host
		answer := httptest.NewRecorder()
		localOnly(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.at)), served).ServeHTTP(answer, request)
		if answer.Code != tt.want {
			t.Errorf("%q at %s: %d, want %d", tt.host, tt.at, answer.Code, tt.want)
		}
	}
}
