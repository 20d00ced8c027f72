package store

import (
	"context"
	"errors"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Listing is all that the user may read of some ranges, at one time.
type Listing struct {
	Entries  map[string]survey.Entry // by their keys
	Revision int64
	Parts    []KeyRange // what may be read, sorted, without overlap
	Whole    bool       // that is all of the ranges

	Edition int // of a replica: grows with each change; 0: nothing has been listed yet
	Era     int // of a replica: grows with each list that was not what the watches had told; within one, revisions only grow

	revisions []int64 // at which each part was read
}

// Has reports whether a key may be read.
func (l *Listing) Has(key string) bool { return Within(l.Parts, KeyOnly(key)) }

// Reads reports whether some of a range may be read.
func (l *Listing) Reads(r KeyRange) bool {
	return len(l.parts(r)) > 0
}

// parts returns what may be read that has keys of some ranges.
func (l *Listing) parts(of ...KeyRange) []KeyRange {
	return slices.DeleteFunc(slices.Clone(l.Parts), func(part KeyRange) bool {
		return !slices.ContainsFunc(of, func(r KeyRange) bool { _, ok := part.intersect(r); return ok })
	})
}

// List reads some ranges or, of one that is denied, the parts that the user's roles allow. The error is ErrDenied if that is
// nothing.
func (s *Store) List(ctx context.Context, ranges ...KeyRange) (Listing, error) {
	l := Listing{Entries: make(map[string]survey.Entry), Whole: true}
	var denied error
	for _, r := range disjoint(ranges) {
		err := s.add(ctx, &l, r)
		if errors.Is(err, ErrDenied) {
			l.Whole, denied = false, err
			err = s.add(ctx, &l, s.readable(ctx, r)...)
		}
		if err != nil {
			return l, err
		}
	}
	if len(l.Parts) == 0 {
		return l, denied
	}
	return l, nil
}

func (s *Store) add(ctx context.Context, l *Listing, parts ...KeyRange) error {
	for _, part := range parts {
		entries, revision, err := s.Scan(ctx, part)
		if err != nil {
			return err
		}
		for _, e := range entries {
			l.Entries[e.Key] = e
		}
		l.Revision = max(l.Revision, revision)
		l.Parts, l.revisions = append(l.Parts, part), append(l.revisions, revision)
	}
	return nil
}
