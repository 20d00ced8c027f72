package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newLs(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [PREFIX]",
		Aliases: []string{"list"},
		Short:   "List services and their instances",
		Long: `ls lists the services whose keys begin with PREFIX, and their instances: address,
version, zone, weight, the layout of the entry in etcd and the time left on its
lease. The state is "registered", "drained" by the live policy, or "malformed".

What is neither an instance nor beside one is left out, so that etcd may be used
for other things as well.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			prefix := strings.Join(args, "")
			v, err := look(ctx, s, prefix, cmd)
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return writeJSON(cmd.OutOrStdout(), v.json())
			}
			rows := v.rows()
			if len(rows) == 0 {
				sayf(cmd.ErrOrStderr(), "No services are registered under \"%s\".\n", s.full(prefix))
				return nil
			}
			table(cmd.OutOrStdout(), instanceHead, rows)
			return nil
		}),
	}
}

// look finds the services under a prefix.
func look(ctx context.Context, s *store, prefix string, cmd *cobra.Command) (*view, error) {
	services, err := readServices(ctx, s, prefix, func(note string) { sayf(cmd.ErrOrStderr(), "%s\n", note) })
	if err != nil {
		return nil, err
	}
	var listed []*service
	for _, service := range services {
		if len(service.instances)+len(service.malformed) > 0 {
			listed = append(listed, service)
		}
	}
	leases, err := s.leases(ctx, leaseIDs(listed))
	if err != nil {
		return nil, err
	}
	return &view{services: listed, leases: leases, full: s.full}, nil
}

// readServices reads what the user may see of the services under a prefix. note is told what they may
// not.
func readServices(ctx context.Context, s *store, prefix string, note func(string)) ([]*service, error) {
	entries, parts, err := s.scanReadable(ctx, prefixRange(prefix))
	if err != nil {
		return nil, err
	}
	if parts != nil {
		note(partOnly(s.user, parts))
	}
	if prefix != "" {
		configs, _, err := s.scanReadable(ctx, prefixRange(configPrefix+prefix))
		switch {
		case errors.Is(err, errDenied):
			note(fmt.Sprintf("The user %q may not read live policies under %q.", s.user, s.full(configPrefix+prefix)))
		case err != nil:
			return nil, err
		}
		entries = append(entries, configs...)
	}
	return surveyAll(entries), nil
}

// partOnly says that a user may not read all that was asked for.
func partOnly(user string, parts []keyRange) string {
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = part.String()
	}
	return fmt.Sprintf("The user %q may read this part only: %s", user, strings.Join(texts, ", "))
}

// readService reads a service with its live config, which whoever may not read it does without. It also returns the
// range of the entries, and their revision.
func readService(ctx context.Context, s *store, key string) (found *service, r keyRange, revision int64, err error) {
	entries, r, revision, err := s.entriesOf(ctx, key)
	if err != nil {
		return nil, r, 0, err
	}
	found, _ = surveyKey(key, entries)
	if found.config, err = s.get(ctx, configPrefix+key); err != nil && !errors.Is(err, errDenied) {
		return nil, r, 0, err
	}
	return found, r, revision, nil
}
