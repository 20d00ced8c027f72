package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// DrainUnseen is what comes of a live policy that may not be read, or that clients refuse, where instances are shown.
const DrainUnseen = "drained instances are shown as registered"

// Services reads what the user may see of the services under a prefix. note is told what they may not.
func (s *Store) Services(ctx context.Context, prefix string, note func(string)) ([]*survey.Service, error) {
	l, err := s.List(ctx, RangesUnder(prefix)...)
	if err == nil {
		err = s.MayRead(&l, PrefixRange(prefix))
	}
	if err != nil {
		return nil, err
	}
	if text := s.Unread(&l, prefix); text != "" {
		note(text)
	}
	services := survey.All(survey.InOrder(l.Entries))
	if text := s.Refused(services, DrainUnseen); text != "" {
		note(text)
	}
	return services, nil
}

// MayRead returns ErrDenied where the user may read none of a range that was listed.
func (s *Store) MayRead(l *Listing, r KeyRange) error {
	if l.Reads(r) {
		return nil
	}
	return s.explain(fmt.Sprintf("list the keys under %q", s.named(r.From)), rpctypes.ErrPermissionDenied)
}

// Refused says of which services clients do not go by the live policy, and what comes of it, "" for none.
func (s *Store) Refused(services []*survey.Service, consequence string) string {
	var keys []string
	for _, found := range services {
		if _, err := found.Live(); err != nil && found.InUse() {
			keys = append(keys, s.Full(found.Key))
		}
	}
	if len(keys) == 0 {
		return ""
	}
	return fmt.Sprintf("Clients do not go by the live policy of %s, and running ones keep the last good one, so %s.", output.SomeOf(keys), consequence)
}

// Unread says what the user may not read of a list of the services under a prefix, "" for nothing. The live configs of
// namespaces that the prefix lies in are nothing to tell of: there may be no such namespace.
func (s *Store) Unread(l *Listing, prefix string) string {
	all, configs := PrefixRange(prefix), ConfigsUnder(prefix)
	if Within(l.Parts, all) && Within(l.Parts, configs) {
		return ""
	}
	text := PartOnly(s.User, l.parts(all, configs))
	if !l.Reads(configs) {
		text += ". " + s.NoConfigs(configs, DrainUnseen)
	}
	return text
}

// ConfigOf returns the key of the live config of a service.
func ConfigOf(key string) KeyRange { return KeyOnly(survey.ConfigPrefix + key) }

// ConfigsUnder returns the keys of the live configs of the services under a prefix, and of the one whose entries begin with it.
func ConfigsUnder(prefix string) KeyRange {
	return PrefixRange(survey.ConfigPrefix + strings.TrimSuffix(prefix, "/"))
}

// RangesUnder returns what tells of the services under a prefix: their entries and their live configs.
func RangesUnder(prefix string) []KeyRange {
	return append(InNamespaces(prefix), PrefixRange(prefix), ConfigsUnder(prefix))
}

// InNamespaces returns the keys of the live configs in each namespace that a key, or all that begins with it, may lie in.
func InNamespaces(key string) (all []KeyRange) {
	for _, namespace := range survey.Namespaces(key) {
		all = append(all, PrefixRange(namespace+survey.ConfigPrefix))
	}
	return all
}

// PartOnly says that a user may not read all that was asked for.
func PartOnly(user string, parts []KeyRange) string {
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.String()
	}
	who := "This user"
	if user != "" {
		who = fmt.Sprintf("The user %q", user)
	}
	return fmt.Sprintf("%s may read this part only: %s", who, strings.Join(texts, ", "))
}

// NoConfigs says that the user may not read live configs, and what comes of it.
func (s *Store) NoConfigs(configs KeyRange, consequence string) string {
	return fmt.Sprintf("Live policies under %q may not be read by %s, so %s.", s.named(configs.From), s.who(), consequence)
}

// Service reads a service with its live config. It also returns the range of the entries. Where the user may not read the
// live config, it returns the rest beside an error that is ErrDenied.
func (s *Store) Service(ctx context.Context, key string) (found *survey.Service, r KeyRange, err error) {
	entries, r, err := s.scanEntries(ctx, key)
	if err != nil {
		return nil, r, err
	}
	found, _ = survey.Of(key, entries)
	found.Within = s.namespace
	found.Config, err = s.Get(ctx, ConfigOf(key).From)
	if err != nil && !errors.Is(err, ErrDenied) {
		return nil, r, err
	}
	return found, r, err
}

// Steered reads the live config of a service, with what is registered, and the namespace that it seems to lie in. unseen is
// why the instances are not known, as to who may write live configs only; nil: they are.
func (s *Store) Steered(ctx context.Context, key string) (found *survey.Service, unseen, err error) {
	found, _, err = s.Service(ctx, key)
	if found == nil && errors.Is(err, ErrDenied) {
		found, unseen = &survey.Service{Key: key, Within: s.namespace}, err
		found.Config, err = s.Get(ctx, ConfigOf(key).From)
	}
	if err == nil {
		found.Namespace, err = s.NamespaceOf(ctx, key)
	}
	return found, unseen, err
}

// Place gives a service that lies in a namespace the live config that its clients read there.
func (s *Store) Place(ctx context.Context, found *survey.Service) (err error) {
	found.Namespace, err = s.NamespaceOf(ctx, found.Key)
	if err == nil && found.Namespace != "" {
		found.Config, err = s.Get(ctx, found.ConfigKey())
	}
	return err
}
