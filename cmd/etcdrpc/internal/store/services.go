package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Services reads what the user may see of the services under a prefix. note is told what they may
// not.
func (s *Store) Services(ctx context.Context, prefix string, note func(string)) ([]*survey.Service, error) {
	entries, parts, err := s.ScanReadable(ctx, PrefixRange(prefix))
	if err != nil {
		return nil, err
	}
	if parts != nil {
		note(PartOnly(s.User, parts))
	}
	if prefix != "" {
		configs, _, err := s.ScanReadable(ctx, PrefixRange(survey.ConfigPrefix+prefix))
		switch {
		case errors.Is(err, ErrDenied):
			note(fmt.Sprintf("The user %q may not read live policies under %q.", s.User, s.Full(survey.ConfigPrefix+prefix)))
		case err != nil:
			return nil, err
		}
		entries = append(entries, configs...)
	}
	return survey.All(entries), nil
}

// PartOnly says that a user may not read all that was asked for.
func PartOnly(user string, parts []KeyRange) string {
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.String()
	}
	return fmt.Sprintf("The user %q may read this part only: %s", user, strings.Join(texts, ", "))
}

// Service reads a service with its live config. It also returns the range of the entries, and their revision. Where the
// user may not read the live config, it returns the rest beside an error that is ErrDenied.
func (s *Store) Service(ctx context.Context, key string) (found *survey.Service, r KeyRange, revision int64, err error) {
	entries, r, revision, err := s.entriesOf(ctx, key)
	if err != nil {
		return nil, r, 0, err
	}
	found, _ = survey.Of(key, entries)
	found.Config, err = s.Get(ctx, survey.ConfigPrefix+key)
	if err != nil && !errors.Is(err, ErrDenied) {
		return nil, r, 0, err
	}
	return found, r, revision, err
}

// Visible returns what is registered under a key, nil where that is not to be seen by who may write policies only.
func (s *Store) Visible(ctx context.Context, key string) *survey.Service {
	entries, _, _, err := s.entriesOf(ctx, key)
	if err != nil {
		return nil
	}
	found, _ := survey.Of(key, entries)
	return found
}
