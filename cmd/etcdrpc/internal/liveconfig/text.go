package liveconfig

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// TooDeep reports whether JSON is nested deeper than a live config may be. Indented, such JSON would grow to hundreds of
// megabytes.
func TooDeep(text []byte) bool {
	return rawjson.Depth(text, serviceconfig.MaxDepth) > serviceconfig.MaxDepth
}

// AsJSON returns text as a JSON value: as it is or, if it is invalid or nested too deep, as a string.
func AsJSON(text string) any {
	if !TooDeep([]byte(text)) && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}

// Check returns why every client would refuse a live policy. It accepts all policies that generated code may link.
func Check(text string) error {
	_, err := serviceconfig.ParseLive(text)
	return err
}

// Pretty returns indented JSON with sorted fields, so that equal configs have equal text. Text that is not JSON, or has a field
// twice, is returned escaped on one line: clients refuse it, so it equals no other.
func Pretty(text []byte) string {
	if out, ok := normalized(text, "  "); ok {
		return out
	}
	return printable.Text(string(text))
}

// normalized returns JSON with sorted fields. ok is false if text is not JSON or nested too deep.
func normalized(text []byte, indent string) (_ string, ok bool) {
	if TooDeep(text) || !utf8.Valid(text) || !json.Valid(text) {
		return "", false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", false
	}
	out, err := output.Marshal(v, indent)
	return string(out), err == nil
}
