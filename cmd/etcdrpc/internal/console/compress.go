package console

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// compressed compresses answers for browsers that read that. Between writes nothing is kept in memory: many pages follow.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		zipped := &zipWriter{ResponseWriter: w}
		defer zipped.close()
		next.ServeHTTP(zipped, r)
	})
}

// zipWriter compresses what has a type that is text.
type zipWriter struct {
	http.ResponseWriter
	zip   *gzip.Writer // nil: as it is
	begun bool
}

func (w *zipWriter) WriteHeader(status int) {
	h := w.Header()
	if kind := h.Get("Content-Type"); !w.begun && h.Get("Content-Encoding") == "" && strings.HasPrefix(kind, "text/") && status == http.StatusOK {
		zip, err := gzip.NewWriterLevel(w.ResponseWriter, gzip.StatelessCompression)
		if err != nil {
			panic(err) // the level is one that there is
		}
		w.zip = zip
		h.Set("Content-Encoding", "gzip")
		h.Del("Content-Length")
	}
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *zipWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if w.zip == nil {
		return w.ResponseWriter.Write(p)
	}
	return w.zip.Write(p)
}

// FlushError is what an http.ResponseController calls.
func (w *zipWriter) FlushError() error {
	if w.zip != nil {
		if err := w.zip.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is what an http.ResponseController finds the connection by.
func (w *zipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// close ends the answer. Where that fails the browser has gone.
func (w *zipWriter) close() {
	if w.zip != nil {
		_ = w.zip.Close()
	}
}
