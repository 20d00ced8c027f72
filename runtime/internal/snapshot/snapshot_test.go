package snapshot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir() + "/made/when/needed"
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	endpoints := []endpoint.Endpoint{
		{Instance: "a", Addr: "10.0.0.1:9000", Version: "v2", Zone: "<z>", Weight: 3, Metadata: map[string]string{"k": "é\n"}},
		{Instance: "b", Addr: "[::1]:9000"},
	}
	for _, key := range []string{"prod/acme/user/", "/services/ünï/", strings.Repeat("long/", 100)} {
		if _, _, err := Load(dir, key); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Load before Save: %v, want that there is no file", err)
		}
		for _, want := range [][]endpoint.Endpoint{endpoints, {}, endpoints[:1]} {
			if err := Save(dir, key, want, now); err != nil {
				t.Fatal(err)
			}
			got, saved, err := Load(dir, key)
			if err != nil || !slices.EqualFunc(got, want, endpoint.Endpoint.Equal) {
				t.Fatalf("Load = %v, %v, want %v", got, err, want)
			}
			if !saved.Equal(now.Truncate(time.Second)) {
				t.Errorf("saved at %v, want %v", saved, now)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Errorf("the directory holds %v, %v, want one file a key", files, err)
	}
}

func TestLoadRefusesWhatWasDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := Save(dir, "k", []endpoint.Endpoint{{Instance: "a", Addr: "10.0.0.1:9000"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(Path(dir, "k"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":     nil,
		"truncated": good[:len(good)/2],
		"edited":    bytes.Replace(good, []byte("10.0.0.1"), []byte("10.0.0.2"), 1),
		"format":    bytes.Replace(good, []byte(`"format": 1`), []byte(`"format": 2`), 1),
		"other key": bytes.Replace(good, []byte(`"key": "k"`), []byte(`"key": "l"`), 1),
	} {
		if err := os.WriteFile(Path(dir, "k"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _, err := Load(dir, "k"); err == nil {
			t.Errorf("%s: Load = %v, want an error", name, got)
		}
	}
}
