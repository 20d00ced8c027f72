package targets

import (
	"bytes"
	"net/http"
	"time"
)

// handler answers Prometheus.
func handler(c *catalog) http.Handler {
	answer := func(w http.ResponseWriter, r *http.Request) {
		text, known, err := c.json()
		switch {
		case err != nil:
			http.Error(w, "the targets cannot be written as JSON", http.StatusInternalServerError)
		case !known: // Prometheus keeps the targets that it has
			http.Error(w, "etcd has not been read yet", http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", answer)
	mux.HandleFunc("GET /sd", answer)
	return mux
}
